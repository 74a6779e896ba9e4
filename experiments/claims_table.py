"""The table of claims x models: which claims of the paper hold, in which model.

Its cells are outcomes and numbers of verdict.json, copied to docs/results/MODEL/data, each with a
link to the page that says more. What each row is about: `experiments.claims`.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.claims import CLAIMS, PARTS, Part, Row
from experiments.copied import records_of
from experiments.looked_at import Records, layers_of, looked_at, middle_words
from experiments.recorded import EARLIER, UNTESTABLE, is_superseded, shown_outcome
from experiments.table import BY_NAME
from secondary_sinks.display import markdown_table, rounded
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder

OUTCOMES = {
    "supported": "**supported**",
    "contradicted": "**contradicted**",
    "inconclusive": "inconclusive",
    UNTESTABLE: UNTESTABLE,
    "failed": "**failed**",
}
UNASKED = "not asked"
HEAD = (
    "# Which claims hold, in which model\n\n"
    "Each row is a claim in the form that is tested, each cell the verdict for one model: "
    "*supported* or *contradicted* where the interval over texts lies on one side of the line, "
    "else *inconclusive*; then the statistic and its interval. The intervals of one page hold "
    "together: 95 % for all claims of that page, not of all pages. Each cell links to the page "
    f"with the method, the controls, the reason and all numbers. *{UNTESTABLE}* says that these "
    f"texts gave no statistic; *{UNASKED}* says that this model "
    f"was not asked; *{EARLIER}* that the page was computed before a change of the method, "
    "which it names, so it decides nothing here. Claims are those of Wong et al. 2025 "
    "([arXiv 2512.22213](https://arxiv.org/abs/2512.22213)).\n\n"
    "**Rules.** The rules of some verdicts were sharpened after earlier outcomes on these texts "
    "were known (the changelog names them), so a run on other texts is the cleaner test."
)


def write_claims_page(results: Path) -> Path:
    """Write index.md from the folders of `results` that hold data of a model."""
    RunFolder(results).write_text("index.md", claims_page(read_models(results), results))
    return results / "index.md"


def read_models(results: Path) -> dict[str, Records]:
    """Records of every model that has a folder in `results`, by the name of the folder.

    Raises `RunFolderError` if there is none, and `SinkError` for a damaged record.
    """
    folders = sorted(path.parent for path in results.glob("*/data") if path.is_dir())
    if not folders:
        raise RunFolderError(
            f"{str(results)!r} holds no results of a model", "make some with make results"
        )
    return {folder.name: records_of(folder / "data") for folder in folders}


def claims_page(models: Mapping[str, Records], results: Path | None = None) -> str:
    """The page: the table of claims, then what was looked at in each model.

    Where the sinks stand is read from the tables in `results`; without it, that is not told.
    """
    tables = {name: results / name / "data" if results else None for name in models}
    layers = {name: layers_of(records, tables[name]) for name, records in models.items()}
    titles = ["<br>".join([f"[{name}]({name}/index.md)", *where]) for name, where in layers.items()]
    table = markdown_table(
        ["claim", *titles], [row for part in PARTS for row in _part(part, models)]
    )
    parts = [HEAD, *middle_words(models), "\n".join(table), *looked_at(models, tables)]
    return "\n\n".join(parts) + "\n"


def _part(part: Part, models: Mapping[str, Records]) -> list[list[str]]:
    """The rows of a part below its title, which counts the outcomes."""
    tested = [one for one in CLAIMS if one.part == part.name]
    counts = [_counts(tested, records) for records in models.values()]
    cells = [
        [_cell(one, records, f"{name}/{one.experiment}.md") for name, records in models.items()]
        for one in tested
    ]
    rows = [[one.sharp, *row] for one, row in zip(tested, cells, strict=True)]
    return [[f"**{part.title}.** The paper: {part.says}", *counts], *rows]


def _counts(tested: list[Row], records: Records) -> str:
    """How many verdicts of a part have which outcome."""
    found = Counter(
        shown_outcome(verdict)
        for one in tested
        for verdict in verdicts_of(one, records.get(one.experiment, {}))
    )
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES if found[outcome])


def verdicts_of(tested: Row, record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The verdicts of a row in a record; empty if it was not asked, failed, or is superseded."""
    if "verdict" not in record or is_superseded(record):
        return []
    verdicts = [record["verdict"], *record["further"]]
    found = verdicts[tested.verdict : tested.end]
    if not found and not _left_out(tested, record):
        return verdicts[:1]  # nothing could be asked, and the first verdict says why
    return found if tested.and_on else found[:1]


def _left_out(tested: Row, record: Mapping[str, Any]) -> bool:
    """Whether options of the experiment left a further verdict out."""
    quick = dict(BY_NAME[tested.experiment].quick)
    return bool(quick) and record.get("provenance", {}).get("options") == quick


def _cell(tested: Row, records: Records, page: str) -> str:
    record = records.get(tested.experiment, {})
    if "failed" in record:
        return f"[{OUTCOMES['failed']}]({page})"
    if is_superseded(record):
        return f"[{EARLIER}]({page})"
    found = [_verdict(verdict, page) for verdict in verdicts_of(tested, record)]
    return "<br>".join(found) or UNASKED


def _verdict(verdict: Mapping[str, Any], page: str) -> str:
    """Outcome with its link, layer, number and interval."""
    layer = verdict.get("layer")
    words = [f"[{OUTCOMES[shown_outcome(verdict)]}]({page})"]
    words += [f"MLP {layer}:"] if layer is not None else []
    if verdict["value"] is not None:
        words.append(f"{rounded(verdict['value'], 2)}")
    if verdict["low"] is not None:
        words.append(f"[{rounded(verdict['low'], 2)}, {rounded(verdict['high'], 2)}]")
    return " ".join(words)
