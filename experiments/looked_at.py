"""What was looked at in each model: texts, and where in them and in the model the sinks stand."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.made import code_in_words, model_in_words, texts_in_words
from experiments.recorded import damaged
from secondary_sinks import files
from secondary_sinks.detection import middle_layers
from secondary_sinks.display import count, markdown_table

Records = Mapping[str, Mapping[str, Any]]
"""Records of one model, by experiment."""
UNKNOWN = "not recorded"
PLACES = (("sink_tokens", "places"), ("readers", "sinks"))
"""Tables with one row per distinct sink: text_id and pos, by experiment."""
NOUNS = {"chat": "chat", "raw": "raw text"}
HEAD = (
    *("model", "texts", "secondary sinks", "distinct", "where the distinct ones stand"),
    *("created at layers", "code"),
)


def table_of(path: Path, **options: Any) -> pd.DataFrame | None:
    """A table, compressed or not, by the options of `pandas.read_csv`; None if there is no file.

    Raises `SinkError` for a file that is no such table.
    """
    if not path.is_file():
        return None
    try:
        with files.open_file(path) as file:
            content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            table: pd.DataFrame = pd.read_csv(content, **options)
            return table
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def layers_of(records: Records, data: Path | None) -> list[str]:
    """Where the sinks of a model arise, in words: layers, and how far after the primary.

    The latter comes from the profile of the primary in `data`; both are left out if unknown.
    """
    made = _with_layers(records)
    if made is None:
        return []
    created = sorted(map(int, made["sample"]["created_at"]))
    layers = "layer" if len(created) == 1 else "layers"
    where = f"sinks arise at {layers} {', '.join(map(str, created))}"
    after = _after_primary(data) if data else ""
    return [f"{where} of {made['model']['n_layers']}{after}"]


def _with_layers(records: Records) -> Mapping[str, Any] | None:
    """The first provenance that says at which layers the sinks arise; None if none says it."""
    found = (one.get("provenance", {}) for one in records.values())
    able = (made for made in found if made.get("sample", {}).get("created_at"))
    return next((made for made in able if "model" in made), None)


def _after_primary(data: Path) -> str:
    """How many layers after the primary the sinks arise, by how far back it is active.

    Table primary_weakening/data.csv counts the sinks whose primary is active, by layer relative to
    their creation.
    """
    columns = {"measure": "str", "group": "str", "relative": "int64", "n_sinks": "int64"}
    path = data / "primary_weakening" / "data.csv"
    table = table_of(path, usecols=list(columns), dtype=columns)
    if table is None:
        return ""
    own = table[(table["measure"] == "mass") & (table["group"] == "primary")]
    active = own[own["relative"] <= 0].set_index("relative")["n_sinks"].sort_index()
    if 0 not in active:
        return ""
    first, least = -int(active.index[0]), -int(active.index[active == active[0]][0])
    layers = f"{first}" if first == least else f"{least} to {first}"
    return f", {layers} {'layer' if first == least == 1 else 'layers'} after the primary"


def middle_words(models: Mapping[str, Records]) -> list[str]:
    """In how many models the sinks arise in the middle layers; nothing if no model tells it."""
    known = [made for made in map(_with_layers, models.values()) if made is not None]
    if not known:
        return []
    shares = [_in_middle(one) for one in known]
    some, every = sum(share > 0 for share in shares), sum(share == 1 for share in shares)
    has = "None of these models has any of them in the middle third"
    if some:
        has = f"In {every} of these {len(known)} models all of them arise in the middle third"
        has += f", in {some - every} more some of them"
    return [
        "**Layers.** In the paper, secondary sinks arise in middle layers. "
        f"{has} (the head of each column says where they arise). Where the paper speaks of middle "
        "layers, a row is about the layer at which the sinks of that model arise, wherever it is."
    ]


def _in_middle(made: Mapping[str, Any]) -> float:
    """Share of the distinct sinks that arise in the middle third."""
    (low, high), created = middle_layers(made["model"]["n_layers"]), made["sample"]["created_at"]
    inside = sum(n for layer, n in created.items() if low <= int(layer) <= high)
    return float(inside / sum(created.values()))


def looked_at(models: Mapping[str, Records], tables: Mapping[str, Path | None]) -> list[str]:
    """What was looked at in each model, and how many sinks were found; one row per choice of texts.

    `tables` has the folder with the tables of each model, by its experiments.
    """
    rows = [
        _sample(name, made, tables[name])
        for name, records in models.items()
        for made in _by_texts(records)
    ]
    return [
        "## What was looked at",
        "\n".join(markdown_table(HEAD, rows)),
        "*Distinct* leaves out copies: sinks whose text up to them is that of a sink in an earlier "
        "text. The verdicts rest on distinct sinks, so on the texts that have any. Positions and "
        "creation layers are counted over distinct sinks, 0-based.",
    ]


def _by_texts(records: Records) -> list[dict[str, Any]]:
    """What made the results of a model, by experiment, once for each choice of texts."""
    groups: dict[str, dict[str, Any]] = {}
    for name, one in records.items():
        if "provenance" in one:
            made = one["provenance"]
            groups.setdefault(texts_in_words(made), {})[name] = made
    return list(groups.values()) or [{}]


def _sample(name: str, by_name: Mapping[str, Any], tables: Path | None) -> list[str]:
    """One row, without what an earlier version did not record."""
    made = list(by_name.values())
    sample: Mapping[str, Any] = next((one["sample"] for one in made if "sample" in one), {})
    layers = next((str(one["model"]["n_layers"]) for one in made if "model" in one), "")
    created = ", ".join(f"{layer} ({n})" for layer, n in sample.get("created_at", {}).items())
    code = "; ".join(dict.fromkeys(code_in_words({"commit": one.get("commit")}) for one in made))
    model = model_in_words(made[0]) if made else name
    return [
        f"{model}, {layers} layers" if layers else model,
        texts_in_words(made[0]) if made else UNKNOWN,
        str(sample.get("n_sinks", UNKNOWN)),
        str(sample.get("n_distinct", UNKNOWN)),
        _places(by_name, sample.get("n_distinct"), tables) or UNKNOWN,
        created or UNKNOWN,
        code or UNKNOWN,
    ]


def _places(by_name: Mapping[str, Any], n_distinct: int | None, tables: Path | None) -> str:
    """Texts with distinct sinks by how they were fed, and positions; empty if no table has all."""
    if tables is None:
        return ""
    for name, table in PLACES:
        for path in sorted(tables.glob(f"{name}/{table}.csv*")) if name in by_name else ():
            columns = {"text_id": "str", "pos": "int64"}
            found = table_of(path, usecols=list(columns), dtype=columns)
            if found is not None and 0 < len(found) == n_distinct:
                return _placed(found, by_name[name].get("texts", ()))
    return ""


def _placed(sinks: pd.DataFrame, texts: Sequence[Mapping[str, Any]]) -> str:
    """Sinks by the feed of their texts, where it is recorded, and their positions."""
    known = [text for text in texts if {"text_id", "feed"} <= set(text)]
    feeds = {text["text_id"]: text["feed"].partition(",")[0] for text in known}
    words = []
    for feed in sorted(set(feeds.values())):
        fed = [text for text, one in feeds.items() if one == feed]
        own = sinks[sinks["text_id"].isin(fed)]
        texts_of_feed = count(len(fed), NOUNS.get(feed, f"{feed} text"))
        words.append(f"{len(own)} in {own['text_id'].nunique()} of {texts_of_feed}")
    low, high = sinks["pos"].min(), sinks["pos"].max()
    return "; ".join([*words, f"at positions {low} to {high:,}"])
