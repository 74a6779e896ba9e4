"""A finding on disk: data, figures and the verdict, with everything that determined them.

NAME.parquet and NAME.csv of every table (`data` holds the data of the main figure), figure.html
(works offline), figure.png if a browser is available to draw it, and verdict.json, which is written
last: until then it says that writing was interrupted. It lists the files of the finding.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from experiments.recorded import RECORD, read_record, write_record
from experiments.shared import Finding
from secondary_sinks import Verdict, files
from secondary_sinks.display import count, rounded
from secondary_sinks.errors import RunFolderError
from secondary_sinks.plots import verdict_dots
from secondary_sinks.runs import RunFolder, escape_text

KINDS = {".parquet", ".csv", ".html", ".png"}
OF_RUNS = ("run.json", "sweep")
"""What tells the folder of a run."""
INTERRUPTED = "it was interrupted while its results were written"
JUDGED = "judged"
CAPTION = "Statistic of each verdict with its interval; upright ticks: the threshold."
PICTURE = {"width": 760, "scale": 2}
"""Width of a picture in pixels of a page, which shows it about so wide, and dots per pixel."""
ON_PAPER: dict[str, Any] = {
    **{"paper_bgcolor": "white", "plot_bgcolor": "white"},
    "font": {"color": "#24272c", "size": 13},
}
"""Layout of a picture: dark on white, legible on light and dark pages."""
STYLE = "body{font-family:system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"


def write(finding: Finding, out: str | Path, provenance: Mapping[str, Any]) -> list[str]:
    """Write a finding to the folder `out`; returns lines that say where, and what is missing.

    `provenance` (`Observed.record`, and perhaps the command) goes into verdict.json. Files of an
    earlier finding are replaced, each completely or not at all, and those that this one lacks are
    removed. Raises `OSError` or `RunFolderError` if the folder cannot be written, and
    `RunFolderError` if it holds what this experiment did not write (`earlier`).
    """
    folder, place = Path(out), RunFolder(out)
    folder.mkdir(parents=True, exist_ok=True)
    old, new = _own_files(folder, earlier(folder, finding.name)), _names(finding)
    unfinished = {"name": finding.name, "question": "", "failed": INTERRUPTED}
    write_record(folder, unfinished | {"files": sorted(old | new)})
    for name in old - new:
        (folder / name).unlink(missing_ok=True)
    for name, table in {"data": finding.frame, **finding.tables}.items():
        place.write_table(name, table)
        place.write_text(f"{name}.csv", escape_text(table).to_csv(index=False))
    figures = {"figure": finding.figure, **finding.figures, **verdict_figure(finding)}
    for name, figure in figures.items():
        place.write_text(f"{name}.html", _page(finding, name, figure))
    failed = _draw({folder / f"{name}.png": figure for name, figure in figures.items()})
    record = {
        "name": finding.name,
        "question": finding.question,
        "verdict": asdict(finding.verdict),
        "further": [asdict(verdict) for verdict in finding.further],
        "columns": dict(finding.columns),
        "captions": {**finding.captions, JUDGED: CAPTION},
        "files": sorted(new),
    } | ({"provenance": dict(provenance)} if provenance else {})
    write_record(folder, without_nan(record))
    return [f"{finding.name}: {folder}", *([failed] if failed else [])]


def earlier(folder: Path, name: str) -> dict[str, Any]:
    """The record that an experiment left in its folder; empty without one.

    Raises `RunFolderError` for a foreign or damaged record, for a file of another origin that has
    the name of a table or figure, and in the folder of a run. Other files, such as a log or answers
    that the experiment keeps to resume, are left alone.
    """
    found = list(RunFolder(folder).contents())
    record = read_record(folder / RECORD) if RECORD in found else {}
    if record and record.get("name") != name:
        raise _foreign(folder, RECORD, name, f" (it is of {record.get('name')!r:.60})")
    mine = {RECORD, *_own_files(folder, record)}
    for one in found:
        if one not in mine and (Path(one).suffix in KINDS or one in OF_RUNS):
            raise _foreign(folder, one, name)
    return record


def _foreign(folder: Path, found: str, name: str, why: str = "") -> RunFolderError:
    return RunFolderError(
        f"{str(folder)!r} holds {found!r}, which {name} did not write{why}",
        "choose another --out, or move it away",
    )


def _own_files(folder: Path, record: Mapping[str, Any]) -> set[str]:
    """Files of a finding. Records of earlier versions list none: then those of its kinds."""
    listed = record.get("files") if "files" in record else RunFolder(folder).contents()
    mine = (one for one in listed or () if record and Path(one).name == one)
    return {one for one in mine if Path(one).suffix in KINDS}


def _names(finding: Finding) -> set[str]:
    """Names of the files that a finding is written to, besides its record."""
    tables, figures = ["data", *finding.tables], ["figure", *finding.figures]
    figures += verdict_figure(finding)
    own = {f"{name}{kind}" for name in tables for kind in (".parquet", ".csv")}
    return own | {f"{name}{kind}" for name in figures for kind in (".html", ".png")}


def verdict_figure(finding: Finding) -> dict[str, go.Figure]:
    """Figure of the numbers in the verdicts; empty if no verdict has one."""
    known = [verdict for verdict in finding.verdicts if not math.isnan(verdict.value)]
    return {JUDGED: verdict_dots(known)} if known else {}


def in_words(verdict: Verdict) -> str:
    """A verdict on one line."""
    interval = ""
    if not math.isnan(verdict.low):
        interval = f" [{rounded(verdict.low)}, {rounded(verdict.high)}]"
    numbers = ""
    if not math.isnan(verdict.value):
        numbers = (
            f" ({verdict.statistic}: {rounded(verdict.value)}{interval}; "
            f"{count(verdict.n_sinks, verdict.counted)}, {count(verdict.n_texts, verdict.grouped)})"
        )
    return f"{verdict.outcome}: {verdict.claim}: {verdict.why}{numbers}"


def without_nan(value: Any) -> Any:
    """The same plain data with NaN and infinities, which JSON lacks, replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(finding: Finding, name: str, figure: go.Figure) -> str:
    """A figure with the question above it, and caption and verdict below."""
    question, verdict = escape(finding.question), escape(in_words(finding.verdict))
    caption = escape({**finding.captions, JUDGED: CAPTION}.get(name, ""))
    drawn = figure.to_html(include_plotlyjs=True, full_html=False)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{question}</title>'
        f"<style>{STYLE}</style><h1>{question}</h1>{drawn}<p>{caption}</p><p>{verdict}</p></html>"
    )


def _draw(figures: Mapping[Path, go.Figure]) -> str:
    """Draw figures as pictures, in one browser, or return a line that says why that failed."""
    for path in figures:
        files.refuse_special(path)
        path.unlink(missing_ok=True)
    shown = [go.Figure(figure).update_layout(ON_PAPER) for figure in figures.values()]
    try:
        plotly.io.write_images(shown, list(figures), **PICTURE)
    except Exception as error:  # no kaleido, no browser or a failing one: many error types
        for path in figures:
            path.unlink(missing_ok=True)
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        return f"no pictures (.png) of the figures: {reason.strip()}"
    return ""
