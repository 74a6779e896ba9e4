"""Rows of the page's tables, with cells as text."""

import math
from typing import Any

import pandas as pd

from secondary_sinks.plots.labels import make_visible
from secondary_sinks.report.section import Table, without_constants
from secondary_sinks.report.strips import MOST_SINKS, sink_key
from secondary_sinks.report.words import MISSING, format_number, percent

SINK_COLUMNS = (
    "text", "position", "token", "token id", "kind", "layers", "lifetime", "layers outlying",
    "layers attended", "level", "cut off",
    "within rounding",
    "peak mass", "peak norm ÷ median", "peak centred alignment",
)  # fmt: skip
THRESHOLDS = {
    "aligned": "minimum centred cosine with the primary",
    "outlying": "minimum distance from the typical token, in multiples of its median over the text",
    "attended": "minimum attention mass, in multiples of the even share and of that of neighbours",
    "persists": "minimum number of layers in a row; a briefer sink is transient",
    "draws": "minimum attention mass beyond the expected one, mean over such a run",
    "min_queries": "minimum number of queries that must see a token to classify it",
    "primary_like": "a sink that lasts for this share of the primary's layers is primary-like",
    "as_massive": "a sink that reaches this share of the primary's outlyingness is primary-like",
    "another_primary": "a token that draws this share of the primary's attention stands in for it",
}


def sink_table(sinks: pd.DataFrame) -> Table:
    """One row per sink, in the order of the frame; at most `MOST_SINKS`."""
    shown = sinks.head(MOST_SINKS).to_dict("records")
    table = Table(
        head=SINK_COLUMNS,
        rows=tuple(_sink_row(sink) for sink in shown),
        numeric=(1, 3, 6, 7, 8, 9, 12, 13, 14),
        mono=(2,),
        keys=tuple(sink_key(sink["text_id"], sink["pos"]) for sink in shown),
    )
    return without_constants(table, optional=["level"])


def text_table(record: dict[str, Any], sinks: pd.DataFrame) -> Table:
    """One row per text: name, feed, tokens, position of the primary, secondary sinks."""
    counts = sinks.loc[sinks["kind"] == "secondary", "text_id"].value_counts()
    primaries = record.get("primaries", {})
    rows = tuple(
        (
            text["text_id"],
            text["feed"],
            f"{text['n_tokens']:,}",
            str(primaries.get(text["text_id"], MISSING)),
            str(int(counts.get(text["text_id"], 0))),
        )
        for text in record["texts"]
    )
    head = ("text", "feed", "tokens", "primary at", "secondary sinks")
    return without_constants(Table(head=head, rows=rows, numeric=(2, 3, 4)))


def threshold_table(record: dict[str, Any]) -> Table:
    """One row per threshold of the joint criterion: name, value, meaning."""
    given = record["thresholds"].items()
    rows = tuple(
        (name, f"{value:g}", THRESHOLDS.get(name, ""))
        for name, value in given
        if not name.startswith("paper_")
    )
    return Table(head=("name", "value", "meaning"), rows=rows, numeric=(1,))


def setup_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, value) pairs for everything else that determined the numbers."""
    model = record["model"]
    shape = f"{model['n_layers']} layers, {model['n_heads']} heads, width {model['d_model']}"
    versions = ", ".join(f"{name} {v}" for name, v in record["versions"].items() if v)
    laps = record.get("timings_s", {})
    timings = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in laps.items())
    rows = [
        ("model", model["name"]),
        ("architecture", f"{model['architecture']}: {shape}"),
        ("loaded as", model.get("class", "")),
        ("skipped load checks", ", ".join(model.get("skipped_checks", ()))),
        ("weights (SHA-256)", model["weights_sha256"][:12]),
        ("device, dtype", f"{record['device']}, {record['dtype']}"),
        ("versions", versions),
        ("time taken", timings),
    ]
    return [(name, value) for name, value in rows if value]


def _level(sink: dict[Any, Any]) -> str:
    """The level of a sink, or that a secondary sink has none."""
    if math.isnan(sink["level"]):
        return "none" if sink["kind"] == "secondary" else MISSING
    return str(int(sink["level"]))


def _sink_row(sink: dict[Any, Any]) -> tuple[str, ...]:
    return (
        sink["text_id"],
        str(sink["pos"]),
        make_visible(sink["token"]),
        str(sink["token_id"]),
        sink["kind"].replace("_", "-"),
        sink["segments"],
        str(sink["lifetime"]),
        format_number(sink["lifetime_norm"], ".0f"),
        format_number(sink["lifetime_attention"], ".0f"),
        _level(sink),
        "no" if sink["censored"] == "none" else sink["censored"],
        "yes" if sink["within_rounding"] else "no",
        percent(sink["mass_max"]),
        format_number(sink["norm_ratio_max"]),
        format_number(sink["alignment_centred_max"], ".2f"),
    )
