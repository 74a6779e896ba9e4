"""The figures of the page, with captions and downloadable data."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import (
    ablation_heatmap,
    attention_around_life,
    interval_dots,
    interval_lines,
    layer_effect_bars,
    layer_profiles,
    level_heatmap,
    life_lines,
    patch_heatmap,
    patch_table,
    profile_table,
    verdict_dots,
    verdict_table,
)
from secondary_sinks.plots.ablation import TOKEN, loss_shares, strongest_rows
from secondary_sinks.questions import Answer, Drawing, Question, Shown
from secondary_sinks.report.embed import csv_of, json_of
from secondary_sinks.report.tested import edit_words
from secondary_sinks.types import LayerEffect, Levels, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A figure, its caption, its data, and its place on the page."""

    name: str
    title: str
    caption: str
    height: int
    data: Markup
    """The figure as JSON."""
    table: Markup
    """The data of the figure, as CSV in a JSON string."""


JUDGED = (
    "Dots and whiskers: what each verdict was judged by, with its interval, from the same fields "
    "as the badges; upright ticks: the line that it was held against. The statistics: {}."
)


def judged(name: str, verdicts: Sequence[Verdict]) -> list[Panel]:
    """The numbers behind the verdicts of a section; empty if no verdict has a number."""
    table = verdict_table(verdicts)
    if table.empty:
        return []
    words = "; ".join(f"{number}: {one}" for number, one in enumerate(table["statistic"], start=1))
    figure, title = verdict_dots(verdicts), "What was judged"
    return [panel(f"judged-{name}", title, figure, table, JUDGED.format(words))]


def panel(name: str, title: str, figure: go.Figure, table: pd.DataFrame, caption: str) -> Panel:
    """A panel made of a figure and the table behind it."""
    return Panel(
        name=name,
        title=title,
        caption=caption,
        height=int(figure.layout.height),
        data=json_of(figure),
        table=csv_of(table),
    )


def profiles(trace: pd.DataFrame, sinks: pd.DataFrame) -> Panel:
    """Norm, alignment and attention mass by layer."""
    caption = (
        "Residual norm, centred alignment with the primary, and attention mass by layer, over all "
        "texts. Lines are medians; bands run from the 10th to the 90th percentile; thin lines are "
        "single sinks. A state at layer l is read by block l + 1, so mass follows one layer later."
    )
    figure, table = layer_profiles(trace, sinks), profile_table(trace, sinks)
    return panel("profiles", "Through the layers", figure, table, caption)


def lives(trace: pd.DataFrame, sinks: pd.DataFrame) -> list[Panel]:
    """Attention before creation and after the end; empty without a secondary sink."""
    table = attention_around_life(trace, sinks)
    if table.empty:
        return []
    caption = (
        "Attention that secondary sinks draw, in multiples of what a token at their place is "
        "expected to draw, by the layer less that of their creation (top) and less the last one at "
        "which they are sinks (bottom). Lines are medians over sinks, bands the 10th to the 90th "
        "percentile. A sink must be outlying; its attention need neither begin nor end with that."
        f"{_before_and_after(table)}"
    )
    figure = life_lines(table)
    return [panel("lives", "Before creation and after the end", figure, table, caption)]


def _before_and_after(table: pd.DataFrame) -> str:
    """Two numbers that show whether attention is confined to the lifetime."""
    found = table.set_index(["panel", "x"])["value"]
    words = {("l_start", -1): "a layer before its creation", ("l_end", 1): "a layer after its end"}
    known = [f"{found[key]:.1f} times {what}" for key, what in words.items() if key in found]
    return f" The median sink draws {' and '.join(known)}." if known else ""


def levels(found: Levels, n_layers: int) -> list[Panel]:
    """Number of sinks by creation layer and lifetime; empty without a sink."""
    cells = found.cells_frame()
    if cells.empty:
        return []
    caption = (
        "Number of secondary sinks by creation layer and lifetime, on a logarithmic scale. Each "
        "counts once, copies of earlier texts don't. A number marks the most frequent pair of a "
        "level."
    )
    return [panel("levels", "Level map", level_heatmap(cells, n_layers), cells, caption)]


def ablations(effects: pd.DataFrame, record: dict[str, Any]) -> list[Panel]:
    """Bars by layer, then maps of sinks and controls; only those with data."""
    edit = edit_words(record["edit"].split(",")[0]) or ""
    names = [name for name in ("edit", "site", "effect") if name in effects]
    kinds = effects[names].drop_duplicates()
    one = kinds.iloc[0]
    words = "" if len(kinds) == 1 else f" Of {len(kinds)} edits this is {', '.join(one)}."
    first = effects[(effects[names] == one).all(axis=1)]
    panels = [_bars(edit, record), *(_map(first, role, words) for role in _MAPS)]
    return [panel for panel in panels if panel is not None]


_MAPS = {
    "sink": "Each row is a sink, strongest first; each column is the layer whose MLP was edited at "
    "that sink alone. Colour is the share of the sink's attention mass that is lost, clipped to "
    "±100%. Grey cells could not have lost any: the edit comes after the sink's last layer. "
    "An edit to the right of the mark of the creation layer cannot keep the sink from arising.",
    "control": "The same edit at the sinks' controls, in the same order of sinks. Colour is lost "
    "mass in units of the matched sink's clean mass, so that a colour stands for the same "
    "amount of attention at a sink and at its control.",
}
_TITLES = {"sink": "Ablation map of the sinks", "control": "The same at their controls"}


def _map(effects: pd.DataFrame, role: str, others: str) -> Panel | None:
    try:
        figure = ablation_heatmap(effects, role)
    except SinkError:  # nothing to draw
        return None
    cells = loss_shares(effects, role)
    drawn = cells.merge(strongest_rows(cells)[TOKEN], on=TOKEN)
    names = [*TOKEN, "token", "role", "kind", "layer", "share", "mass_clean", "mass_edited"]
    names += ["lifetime_clean", "lifetime_edited", "norm_clean", "norm_edited"]
    names += ["kl_at_token"] if "kl_at_token" in drawn else []
    return panel(f"{role}s", _TITLES[role], figure, drawn[names], _MAPS[role] + others)


def _bars(edit: str, record: dict[str, Any]) -> Panel | None:
    names = [item.name for item in fields(LayerEffect)]
    found = record.get("layer_effects", [])
    rows, later = (
        [LayerEffect(**{name: row[name] for name in names if name in row}) for row in recorded]
        for recorded in (found, record.get("later_effects", []))
    )
    known = [row for row in rows if not math.isnan(row.lost)]
    if not known:
        return None
    drawn = [row for row in rows if row.n_sinks == 0 or not math.isnan(row.lost)]
    caption = (
        f"Attention mass that secondary sinks lose, less that which their controls lose, both in "
        f"units of the sinks' mass, median over texts, when the output of one layer's MLP is "
        f"{edit} at the token alone: by layers that could have ended the sink, and by later ones, "
        f"which could only weaken it. {known[0].n_sinks} sinks with controls in "
        f"{known[0].n_texts} texts. The share of sinks that end, by which a layer is judged, is in "
        "the figure above and in the data. "
    )
    caption += _whiskers(known)
    parts = {"can end the sink": drawn, "can only weaken it": [one for one in later if one.n_sinks]}
    table = pd.DataFrame(
        [{"sinks": name, **asdict(row)} for name, part in parts.items() for row in part]
    )
    title = "Attention lost by layer"
    return panel("bars", title, layer_effect_bars(drawn, later), table, caption)


def _whiskers(rows: Sequence[LayerEffect]) -> str:
    if math.isnan(rows[0].low):
        words = f"{rows[0].n_texts} text(s) are too few for an interval of so many claims. "
    else:
        words = "Whiskers: exact intervals over texts, at 95% for all claims of the page together. "
    return words + "A layer is needed only if its interval lies above 0, too."


def drawn(question: Question, answer: Answer, shown: Shown) -> list[Panel]:
    """Panels of an answer; empty if it has nothing to show."""
    return [one for one in map(_panel, question.figures(answer, shown)) if one is not None]


def _panel(drawing: Drawing) -> Panel | None:
    figure, table = PLOTS[drawing.plot](drawing.frame, **drawing.options)
    table = table if drawing.table is None else drawing.table
    if table.empty:
        return None
    return panel(drawing.name, drawing.title, figure, table, drawing.caption)


def _lines(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_lines(frame, **options), frame


def _dots(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_dots(frame, **options), frame


def _patches(
    frame: pd.DataFrame, *, sinks: pd.DataFrame, patch: str, n_layers: int
) -> tuple[go.Figure, pd.DataFrame]:
    table = patch_table(frame, sinks, patch)
    return go.Figure() if table.empty else patch_heatmap(table, patch, n_layers), table


PLOTS = {"lines": _lines, "dots": _dots, "patches": _patches}
"""Plot functions by name: (frame, **options) -> figure, and the table behind it."""
