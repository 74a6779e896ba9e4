"""`write_comparison`: several runs -> one page that puts their models side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.numbers import true_or_false
from secondary_sinks.plots import interval_dots, level_heatmaps
from secondary_sinks.questions import Answer
from secondary_sinks.report.claims import Claim, claims
from secondary_sinks.report.figures import Panel, panel
from secondary_sinks.report.page import assets, levels_of, template
from secondary_sinks.report.section import Table
from secondary_sinks.report.words import MISSING, list_counts, percent, plain
from secondary_sinks.runs import RunFolder, read_answers, whole_records, whole_table
from secondary_sinks.types import Levels
from secondary_sinks.types.lists import join_words, refuse_twice

PAGE = b"<!doctype html>"
IN_A_ROW = 3
"""Most level maps in one figure; further ones go into the next figure."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """One model of the comparison."""

    name: str
    record: dict[str, Any]
    sinks: pd.DataFrame
    levels: Levels
    claims: list[Claim]

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(text["n_tokens"] for text in self.record["texts"])

    def rate(self, n: int | float) -> float:
        """A number of sinks as a rate per 10,000 tokens."""
        return 1e4 * n / max(self.n_tokens, 1)


def write_comparison(folders: Sequence[RunFolder], out: Path, *, force: bool = False) -> Path:
    """Write the page and return its path.

    Raises `RunFolderError` for a folder that is not a finished run, and if `out` exists, unless
    `force`.
    """
    force = true_or_false("force", force, RunFolderError)
    if out.is_dir() or (out.exists() and not force):
        raise RunFolderError(f"{str(out)!r} already exists", "use --force, or another --out")
    files.refuse_special(out)
    _refuse_other_file(out)
    paths = [folder.path for folder in folders]
    refuse_twice(
        "the list of runs", [*map(str, paths)], RunFolderError, [p.resolve() for p in paths]
    )
    page = comparison_page(folders)
    home = RunFolder(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    return home.write_text(out.name, page)


def comparison_page(folders: Sequence[RunFolder]) -> str:
    """The page that `write_comparison` writes; raises `RunFolderError` for an unfinished run."""
    return comparison([one for folder in folders for one in _models(folder)])


def _refuse_other_file(out: Path) -> None:
    """Raise `RunFolderError` if `out` is not a page, even with `--force`."""
    if not out.exists() or out.suffix.lower() in (".html", ".htm"):
        return
    with files.open_file(out) as file:
        start = file.read(64).lstrip().lower()
    if not start.startswith(PAGE):
        raise RunFolderError(
            f"{str(out)!r} is not an HTML page, and --force replaces only those",
            "choose another --out",
        )


def comparison(models: Sequence[Compared]) -> str:
    """The page as self-contained HTML. Several runs of one model get numbers after its name."""
    named = _named(models)
    return template("compare.html").render(
        title="Secondary sinks of " + join_words([model.name for model in named]),
        models=_models_table(named),
        panels=[*_rates(named), *_maps(named)],
        claims=_claims_table(named),
        warnings=_differences(named),
        commands=[(one.name, one.record.get("command", "")) for one in named],
        **assets(),
    )


def _models(folder: RunFolder) -> list[Compared]:
    """All models of a run, with the answers to its questions."""
    found, records = [], whole_records(folder)
    table, answers = whole_table(folder, "sinks"), read_answers(folder)
    for record in records:
        own = table[table["model"] == record["label"]] if "model" in table else table
        found.append(compared(record, own, answers))
    return found


def compared(record: dict[str, Any], sinks: pd.DataFrame, answers: dict[str, Answer]) -> Compared:
    """What the page says about one model."""
    return Compared(
        name=str(record.get("label", record["model"]["name"])),
        record=record,
        sinks=sinks,
        levels=levels_of(record, sinks),
        claims=claims(record, answers),
    )


def _named(models: Sequence[Compared]) -> list[Compared]:
    """The models with unique names."""
    names = [one.name for one in models]
    numbered = [
        f"{name} ({names[:place].count(name) + 1})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return [replace(one, name=name) for name, one in zip(numbered, models, strict=True)]


def _models_table(models: Sequence[Compared]) -> Table:
    head = ("model", "the paper's phenomenon?", "layers", "texts", "tokens", "secondary sinks",
            "per 10,000 tokens", "95% interval", "levels", "created at", "lifetime",
            "peak mass")  # fmt: skip
    return Table(
        head=head, rows=tuple(_model_row(m) for m in models), numeric=(2, 3, 4, 5, 6, 7, 8, 11)
    )


def _model_row(model: Compared) -> tuple[str, ...]:
    secondary = model.sinks[model.sinks["kind"] == "secondary"]
    found, spread = model.levels, MISSING
    if found.low == found.low:
        spread = f"{plain(model.rate(found.low))} to {plain(model.rate(found.high))}"
    return (
        model.name,
        model.record.get("phenomenon", {}).get("answer", MISSING),
        str(model.record["model"]["n_layers"]),
        str(len(model.record["texts"])),
        f"{model.n_tokens:,}",
        str(found.n_sinks),
        plain(model.rate(found.n_sinks)),
        spread,
        str(len(found.levels)),
        _counted(secondary["l_start"]),
        _counted(secondary["lifetime"], most=2),
        percent(float(secondary["mass_max"].median())) if len(secondary) else MISSING,
    )


def _counted(values: pd.Series, most: int | None = None) -> str:
    """Values with their counts, the most common first; all of them, or `most` and a rest."""
    if values.empty:
        return MISSING
    counts = {str(value): int(n) for value, n in values.value_counts().items()}
    return list_counts(counts, most=most or len(counts))


def _rates(models: Sequence[Compared]) -> list[Panel]:
    rows = [
        (m.name, "secondary sinks", *(m.rate(n) for n in (m.levels.n_sinks, m.levels.low,
                                                           m.levels.high)))
        for m in models
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["row", "series", "value", "low", "high"])
    figure = interval_dots(frame, "secondary sinks per 10,000 tokens", line=None)
    caption = (
        "Copies of sinks in earlier texts are not counted. Whiskers are 95% intervals over texts; "
        "a single text has no interval."
    )
    return [panel("rates", "Number of sinks", figure, frame, caption)]


def _maps(models: Sequence[Compared]) -> list[Panel]:
    """Level maps, several per figure; models without a sink have an empty map."""
    found = []
    for start in range(0, len(models), IN_A_ROW):
        part = models[start : start + IN_A_ROW]
        cells = {m.name: m.levels.cells_frame() for m in part}
        if all(one.empty for one in cells.values()):
            continue
        sizes = {m.name: int(m.record["model"]["n_layers"]) for m in part}
        figure = level_heatmaps({name: (one, sizes[name]) for name, one in cells.items()})
        table = pd.concat([one.assign(model=name) for name, one in cells.items()])
        caption = (
            "Number of secondary sinks by creation layer and lifetime, on one logarithmic scale. "
            "Numbers mark the most frequent pair of a level."
        )
        found.append(panel(f"levels-{start}", "Level maps", figure, table, caption))
    return found


def _claims_table(models: Sequence[Compared]) -> Table:
    """Table of claims by models; a claim about one layer shares a row over all layers."""
    keys = dict.fromkeys(claim.general for model in models for claim in model.claims)
    rows = tuple(
        (key[:1].upper() + key[1:], *(_cell(model, key) for model in models)) for key in keys
    )
    return Table(head=("claim", *(model.name for model in models)), rows=rows)


def _cell(model: Compared, key: str) -> str:
    """Outcome and number, with the layer if the claim is about one."""
    words = []
    for claim in model.claims:
        if claim.general == key:
            where = "" if claim.layer is None else f" (layer {claim.layer})"
            value = f": {claim.value}" if claim.value else ""
            interval = f", {claim.interval}" if claim.value and claim.interval else ""
            words.append(f"{claim.outcome}{where}{value}{interval}")
    return "\n".join(words) or "not asked"


def _differences(models: Sequence[Compared]) -> list[str]:
    """Differences between the runs other than the model."""
    settings = {
        "thresholds": [m.record["thresholds"] for m in models],
        "texts": [sorted(text["text_id"] for text in m.record["texts"]) for m in models],
        "dtypes": [m.record["dtype"] for m in models],
        "edits": [m.record["edit"] for m in models],
    }
    return [
        f"The runs differ in more than the model: they have different {name}."
        for name, values in settings.items()
        if any(value != values[0] for value in values)
    ]
