"""`write_report`: run folder -> report.html, and `render`: its tables -> HTML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from secondary_sinks.detection import find_levels
from secondary_sinks.errors import DetectionError, RunFolderError
from secondary_sinks.plots.theme import KINDS
from secondary_sinks.questions import Answer
from secondary_sinks.report import embed, summary, tables, tested
from secondary_sinks.report.attention import attended
from secondary_sinks.report.claims import (
    claims,
    group_alike,
    next_step,
    plain_verdicts,
    tally,
    verdicts_of,
)
from secondary_sinks.report.glossary import glossary
from secondary_sinks.report.phenomenon import phenomenon_lines
from secondary_sinks.report.section import in_rows
from secondary_sinks.report.sections import not_asked, sections
from secondary_sinks.report.strips import strips
from secondary_sinks.report.strongest import strongest
from secondary_sinks.report.words import shown
from secondary_sinks.runs import read_answers
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.schema import whole_records, whole_table
from secondary_sinks.types import Levels, SinkTable, Thresholds


def write_report(folder: RunFolder, model: str | None = None) -> Path:
    """Write report.html of a finished run, and return its path.

    For a sweep of several models, `model` selects one. Raises `RunFolderError` for an unknown
    model, and if a file of the run is missing, damaged or incomplete.
    """
    return folder.write_text("report.html", report_page(folder, model))


def report_page(folder: RunFolder, model: str | None = None) -> str:
    """The page that `write_report` writes; errors are the same."""
    record = one_model(folder, model)
    names = ["sinks", "trace"] if record["edit"] is None else ["sinks", "trace", "effects"]
    frames = {name: _of_model(whole_table(folder, name), record) for name in names}
    roles = _of_model(whole_table(folder, "roles"), record) if record.get("writers") else None
    given = frames["sinks"], frames["trace"], frames.get("effects")
    return render(record, *given, read_answers(folder), roles)


def _of_model(frame: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    label = record.get("label", record["model"]["name"])
    return frame if "model" not in frame else frame[frame["model"] == label]


def _refuse_other_trace(record: Mapping[str, Any], trace: pd.DataFrame) -> None:
    """Raise `RunFolderError` for a trace of other texts or layers than those of the record."""
    lengths = {text["text_id"]: text["n_tokens"] for text in record["texts"]}
    n_tokens = pd.Series([lengths.get(name, 0) for name in trace["text_id"]], trace.index)
    n_layers = record["model"]["n_layers"]
    inside = trace["pos"].between(0, n_tokens - 1) & trace["layer"].between(0, n_layers - 1)
    what = "" if len(trace) else "the trace has no rows of this model"
    for _, row in trace[~inside].head(1).iterrows():
        place = f"position {row['pos']}, layer {row['layer']}"
        what = f"the trace has text {row['text_id']!r:.60}, {place}"
    if what:
        raise RunFolderError(
            f"run.json and trace.parquet are not of one run: {what}", "run its command again"
        )


def one_model(folder: RunFolder, name: str | None) -> dict[str, Any]:
    """The record of one model of a run. Raises `RunFolderError` if it is unclear which one."""
    records = whole_records(folder)
    names = [str(record.get("label", record["model"]["name"])) for record in records]
    if name is None and len(records) == 1:
        return records[0]
    if name not in names:
        problem = "has several models" if name is None else f"has no model {name!r}"
        raise RunFolderError(
            f"{str(folder.path)!r} {problem}", f"use --model with one of {', '.join(names)}"
        )
    return records[names.index(name)]


def render(
    record: dict[str, Any],
    sinks: pd.DataFrame,
    trace: pd.DataFrame,
    effects: pd.DataFrame | None,
    answers: Mapping[str, Answer] | None = None,
    roles: pd.DataFrame | None = None,
) -> str:
    """The page as self-contained HTML: no network, no other files.

    `effects` is None for a run that only detected; `answers` are those of the causal questions
    asked, `roles` is the table of roles. All text of the run is escaped.
    """
    answers = answers or {}
    ablated = effects is not None and not effects.empty
    levels, found = levels_of(record, sinks), claims(record, answers)
    _refuse_other_trace(record, trace)
    parts = sections(record, sinks, trace, effects, answers, levels, roles)
    return template("template.html").render(
        record=record,
        subtitle=summary.subtitle(record),
        phenomenon=phenomenon_lines(record),
        strongest=strongest(trace, sinks, roles),
        findings=summary.findings(record, sinks, levels),
        nothing_shown=tested.nothing_shown(effects, 1),
        claims=found,
        groups=group_alike(found, lambda claim: (claim.question, claim.lacks)),
        tally=tally(found),
        next_step=next_step(one for _, one in verdicts_of(record, plain_verdicts(answers))),
        limits=tested.limits(record, ablated, answers),
        edit=tested.edit_words(record["edit"]),
        setup=tables.setup_rows(record),
        thresholds=tables.threshold_table(record),
        texts=tables.text_table(record, sinks),
        strips=strips(record, trace, sinks),
        sections=parts,
        rows=in_rows(parts),
        not_asked=not_asked(answers),
        detected_only=effects is None,
        answered=list(answers),
        n_sinks=len(sinks),
        attended=attended(answers, trace, sinks),
        all_sinks=tables.sink_table(sinks),
        glossary=glossary(ablated),
        colours=KINDS,
        **assets(),
    )


def levels_of(record: Mapping[str, Any], sinks: pd.DataFrame) -> Levels:
    """Levels of a run's sinks; texts with the same tokens count once, as their sinks do."""
    texts = {text.get("tokens_sha256", text["text_id"]) for text in record["texts"]}
    n_layers = record["model"]["n_layers"]
    for name in ("l_start", "l_end", "lifetime"):
        if len(sinks) and sinks[name].max() > n_layers - (name != "lifetime"):
            raise RunFolderError(
                f"run.json and sinks.parquet are of different runs: {name} is {sinks[name].max()} "
                f"in a model of {n_layers} layers"
            )
    try:  # levels depend on no threshold
        return find_levels(SinkTable.from_frame(sinks, Thresholds()), n_texts=len(texts))
    except DetectionError as error:
        raise RunFolderError(
            f"run.json and sinks.parquet are of different runs: {error}"
        ) from error


def assets() -> dict[str, Any]:
    """Scripts and styles of a page, and the policy that allows only these scripts."""
    plotly, script = embed.plotly_js(), embed.own("draw.js") + embed.own("attention.js")
    return {
        "plotly": plotly,
        "script": script,
        "style": embed.own("style.css"),
        "policy": embed.content_policy([plotly, script]),
    }


def template(name: str) -> Any:
    """A template stored next to this module; every inserted value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment.get_template(name)
