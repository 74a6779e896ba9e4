"""The figures of the page, with captions and downloadable data."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from secondary_sinks.display import count
from secondary_sinks.errors import SinkError
from secondary_sinks.plots import (
    ablation_heatmap,
    attention_around_life,
    draw,
    layer_effect_bars,
    layer_profiles,
    level_heatmap,
    life_lines,
    profile_table,
    verdict_dots,
    verdict_table,
)
from secondary_sinks.plots.ablation import TOKEN, loss_shares, strongest_rows
from secondary_sinks.questions import Answer, Drawing, Question, Shown
from secondary_sinks.questions.layers import LITTLE
from secondary_sinks.report import links
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


STATISTICS = (
    "Dots: the statistic that decides each verdict; whiskers: its interval; upright ticks: the "
    "threshold. The numbers are those of the badges. Statistics: {}."
)


def verdict_panels(name: str, verdicts: Sequence[Verdict]) -> tuple[Panel, ...]:
    """The numbers behind the verdicts of a section; empty if no verdict has a number."""
    table = verdict_table(verdicts)
    if table.empty:
        return ()
    words = "; ".join(f"{number}: {one}" for number, one in enumerate(table["statistic"], start=1))
    figure, title = verdict_dots(verdicts), "Statistics of the verdicts"
    return (panel(f"judged-{name}", title, figure, table, STATISTICS.format(words)),)


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
        "single sinks. Attention at layer l is that in block l, which reads the state at layer "
        "l - 1."
    )
    figure, table = layer_profiles(trace, sinks), profile_table(trace, sinks)
    return panel("profiles", "Through the layers", figure, table, caption)


def lives(trace: pd.DataFrame, sinks: pd.DataFrame) -> list[Panel]:
    """Attention before creation and after the end; empty without a secondary sink."""
    table = attention_around_life(trace, sinks)
    if table.empty:
        return []
    caption = (
        "Attention that secondary sinks draw, as a multiple of that expected for a token at the "
        "same position, by layer relative to their creation (top) and to their last layer as a "
        "sink (bottom). Attention at layer l is that in block l + 1. "
        "Lines are medians over sinks, bands the 10th to the 90th percentile. "
        "Creation and end depend on a norm test, so the attention may begin earlier or end later."
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


def levels(found: Levels, n_layers: int, sinks: pd.DataFrame) -> list[Panel]:
    """Number of sinks by creation layer and lifetime; empty without a sink."""
    cells = found.cells_frame()
    if cells.empty:
        return []
    caption = (
        "Number of secondary sinks by creation layer and lifetime; colour is logarithmic. Copies "
        "of sinks in earlier texts are not counted. The most frequent pair of each level is named. "
        f"The axes show what is near these sinks, of layers 0 to {n_layers - 1}."
    )
    figure = links.link_levels(level_heatmap(cells, n_layers), sinks)
    caption += links.WORDS.format("the sinks of a cell")
    return [panel("levels", "Level map", figure, cells, caption)]


def ablations(effects: pd.DataFrame, record: dict[str, Any]) -> list[Panel]:
    """Bars by layer, then maps of sinks and controls; only those with data."""
    edit = edit_words(record["edit"].split(",")[0]) or ""
    names = [name for name in ("edit", "site", "effect") if name in effects]
    kinds = effects[names].drop_duplicates()
    shown = kinds.iloc[0]
    words = "" if len(kinds) == 1 else f" Shown is one of {len(kinds)} edits: {', '.join(shown)}."
    first = effects[(effects[names] == shown).all(axis=1)]
    panels = [_bars(edit, record), *(_map(first, role, words) for role in _MAPS)]
    return [panel for panel in panels if panel is not None]


_MAPS = {
    "sink": "Each row is a sink, strongest first; each column is the layer whose MLP was edited at "
    "that sink only. Colour is the share of the sink's attention mass that is lost, clipped to "
    "±100%. Grey cells are edited after the sink's last layer, too late to lose any. An edit to "
    "the right of the creation-layer mark cannot prevent the sink.",
    "control": "The same edit at the sinks' controls, in the same order. Colour is lost mass "
    "divided by the matched sink's clean mass, so the same colour means the same amount of "
    "attention at a sink and at its control.",
}
_TITLES = {"sink": "Ablation map of the sinks", "control": "Ablation map of the controls"}


def _map(effects: pd.DataFrame, role: str, others: str) -> Panel | None:
    try:
        figure = ablation_heatmap(effects, role)
    except SinkError:  # nothing to draw
        return None
    cells = loss_shares(effects, role)
    rows = strongest_rows(cells)
    drawn = cells.merge(rows[TOKEN], on=TOKEN)
    names = [*TOKEN, "token", "role", "kind", "layer", "share", "mass_clean", "mass_edited"]
    names += ["lifetime_clean", "lifetime_edited", "norm_clean", "norm_edited"]
    names += ["kl_at_token"] if "kl_at_token" in drawn else []
    caption = _MAPS[role] + others + links.WORDS.format("the sink of a row")
    return panel(f"{role}s", _TITLES[role], links.link_rows(figure, rows), drawn[names], caption)


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
        f"Attention mass lost by secondary sinks minus that lost by their controls, in units of "
        f"the sinks' mass (median over texts), when the output of one layer's MLP is {edit} at "
        f"that token only. Layers that could have ended the sink are separate from later ones, "
        f"which could only weaken it. {count(known[0].n_sinks, 'sink')} with controls in "
        f"{count(known[0].n_texts, 'text')}. The verdict on a layer depends on the share of sinks "
        "that end, shown with the verdicts and in the data. "
    )
    caption += _whiskers(known)
    parts = {"can end the sink": drawn, "can only weaken it": [one for one in later if one.n_sinks]}
    table = pd.DataFrame(
        [{"sinks": name, **asdict(row)} for name, part in parts.items() for row in part]
    )
    title = "Attention lost by layer"
    return panel("bars", title, layer_effect_bars(drawn, later, LITTLE), table, caption)


def _whiskers(rows: Sequence[LayerEffect]) -> str:
    if math.isnan(rows[0].low):
        words = (
            f"{count(rows[0].n_texts, 'text')}: too few for intervals that hold for all claims. "
        )
    else:
        words = "Whiskers: exact intervals over texts, jointly at 95% for all claims of the page. "
    return words + (
        "A layer is needed only if, with every way to ablate, the interval of this loss lies above "
        "one tenth (dotted), and that of the share of sinks that end above one half."
    )


def answer_panels(question: Question, answer: Answer, shown: Shown) -> list[Panel]:
    """Panels of an answer; empty if it has nothing to show."""
    panels = () if answer.effects.empty else map(_panel, question.figures(answer, shown))
    return [panel for panel in panels if panel is not None]


def _panel(drawing: Drawing) -> Panel | None:
    figure, shown = draw(drawing.plot, drawing.frame, **drawing.options)
    table = shown if drawing.table is None else drawing.table
    if table.empty:
        return None
    if drawing.plot == "patches":
        figure = links.link_rows(figure, shown.drop_duplicates("row"))
    return panel(drawing.name, drawing.title, figure, table, drawing.caption)
