"""Print the sinks and verdicts of a run."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from secondary_sinks.cli.output import printable
from secondary_sinks.display import count
from secondary_sinks.questions import damage_in_words
from secondary_sinks.report import phenomenon_lines
from secondary_sinks.report.claims import TITLES, WRITING, group_alike, next_step, verdicts_of
from secondary_sinks.runs import RunFolder, whole_records, whole_table
from secondary_sinks.runs.plain import without_nan
from secondary_sinks.types.effects import number_and_interval

COLOURS = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}

MOST_TOKENS = 8
"""Tokens of one kind that have rows of their own in the table of sinks."""


LEGEND = (
    "created at: layer. lifetime: layers at which it is a sink; attended: at which it draws "
    "attention. norm: of the residual, in medians over the text. mass: share of the attention "
    "of the queries that see it. Both at the layer with the most."
)


def show_found(folder: RunFolder) -> str:
    """Print tables of the sinks and, if MLPs were ablated, the verdicts; gives what it printed."""
    console = Console(width=None if sys.stdout.isatty() else 100, record=True)
    records, sinks = whole_records(folder), whole_table(folder, "sinks")
    for record in records:
        if len(records) > 1:
            console.print(escape(printable(record["label"])), highlight=False)
        mine = sinks if len(records) == 1 else sinks[sinks["model"] == record["label"]]
        _show_one(console, record, mine)
    return console.export_text(styles=True)


def _show_one(console: Console, record: Mapping[str, Any], sinks: pd.DataFrame) -> None:
    (title, answer), *rest = phenomenon_lines(record)
    console.print(f"[b]{title}[/b] {escape(answer)}", highlight=False)
    console.print(_topics(rest), highlight=False)
    lasting = sinks[sinks["kind"] != "transient"]
    if not lasting.empty:
        console.print(sink_table(lasting, f"Sinks in {count(len(record['texts']), 'text')}"))
        console.print(LEGEND, style="dim", highlight=False)
    if record["dtype"] != "float32":
        console.print(rounding_line(record, sinks), highlight=False)
    verdicts = verdicts_of(record)
    _print_verdicts(console, [one for one in verdicts if one[0] in WRITING])
    if damage := damage_in_words(record.get("damage", ())):
        console.print(escape(damage), highlight=False)
    _print_verdicts(console, [one for one in verdicts if one[0] not in WRITING])
    if said := next_step(verdict for _, verdict in verdicts):
        console.print(f"[b]what next[/b]  {escape(said)}", highlight=False)


def print_json(folder: RunFolder) -> None:
    """Print what `show_found` prints as JSON."""
    sinks = whole_table(folder, "sinks")
    models = []
    for record in whole_records(folder):
        mine = sinks[sinks["model"] == record["label"]] if "label" in record else sinks
        models.append(_facts(record, mine))
    print_plain({"folder": str(folder.path), "models": models})


def _facts(record: Mapping[str, Any], sinks: pd.DataFrame) -> dict[str, Any]:
    """What was found in one model: verdicts, sinks, and whether they are the paper's."""
    asked = [verdict for answer in record.get("answers", []) for verdict in answer["verdicts"]]
    verdicts = (*record.get("writers", ()), *record["verdicts"], *record.get("later", ()), *asked)
    return {
        "model": record["model"]["name"],
        "n_texts": len(record["texts"]),
        "n_tokens": sum(text["n_tokens"] for text in record["texts"]),
        "phenomenon": record.get("phenomenon"),
        "verdicts": list(verdicts),
        "sinks": sinks.to_dict("records"),
    }


def print_plain(found: Any) -> None:
    """Print plain data as JSON, with null for NaN."""
    print(json.dumps(without_nan(found), indent=2, allow_nan=False))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines whose last word may be an outcome, which is coloured on a terminal."""
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        shown = Text(printable(line))
        colour = COLOURS.get(line.rpartition(" ")[2])
        if colour:
            shown.stylize(colour, line.rindex(" ") + 1)
        console.print(shown)


def _topics(lines: Iterable[tuple[str, str]]) -> Table:
    """One row per line: its topic, then its sentence, indented as one block."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for topic, said in lines:
        table.add_row(topic, escape(said))
    return table


def sink_table(sinks: pd.DataFrame, title: str) -> Table:
    """One row per kind and token id, the most frequent first: count, layers, norm, mass.

    Of a kind with more than `MOST_TOKENS` tokens, the rarer ones share one row.
    "lifetime" counts the layers at which the tokens are sinks, which includes a norm test;
    "attended" counts the layers at which their state draws attention, whatever the norm.
    """
    table = Table(title=title, title_justify="left")
    names = ("kind", "token", "count", "texts", "created at", "lifetime", "attended")
    for name in (*names, "norm", "mass"):
        right = name not in {"kind", "token"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    ids_of = sinks.groupby("token")["token_id"].nunique()
    for kind in sorted(sinks["kind"].unique()):
        for name, group in _by_token(sinks[sinks["kind"] == kind], ids_of):
            table.add_row(escape(printable(str(kind))), escape(printable(name)), *_numbers(group))
    return table


def _by_token(sinks: pd.DataFrame, ids_of: "pd.Series[int]") -> list[tuple[str, pd.DataFrame]]:
    """The sinks of each token under its name, and those of the rarest tokens together."""
    groups = [group for _, group in sinks.groupby("token_id", sort=False)]
    groups.sort(key=len, reverse=True)
    alone = groups if len(groups) <= MOST_TOKENS else groups[: MOST_TOKENS - 1]
    rest = groups[len(alone) :]
    named = [(_name(group, ids_of), group) for group in alone]
    return [*named, (f"{len(rest)} more tokens", pd.concat(rest))] if rest else named


def _name(group: pd.DataFrame, ids_of: "pd.Series[int]") -> str:
    """A token as Python writes it, with its id where another id reads alike."""
    token, token_id = group["token"].iloc[0], group["token_id"].iloc[0]
    return repr(token) + (f" [{token_id}]" if ids_of[token] > 1 else "")


def _numbers(group: pd.DataFrame) -> tuple[str, ...]:
    return (
        str(len(group)),
        str(group["text_id"].nunique()),
        _span(group["l_start"]),
        _span(group["lifetime"]),
        _span(group["lifetime_attention"]),
        f"{group['norm_ratio_max'].median():.1f} x",
        f"{group['mass_max'].median():.1%}",
    )


def rounding_line(record: Mapping[str, Any], sinks: pd.DataFrame) -> str:
    """Number of verdicts that rounding may decide in a half-precision run."""
    marked, near = int(sinks["within_rounding"].sum()), len(record.get("near_sinks", ()))
    return (
        f"Within the rounding of {record['dtype']}: {marked} of {count(len(sinks), 'sink')}, "
        f"and {count(near, 'token')} just below a threshold; a run in float32 decides these"
    )


def _print_verdicts(console: Console, verdicts: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """One line per verdict; what several of a question lack is said once, above their claims."""
    for group in group_alike(verdicts, lambda one: (one[0], one[1].get("lacks", ""))):
        (question, first), *others = group
        if not others:
            console.print(verdict_line(first), highlight=False)
            continue
        head = f"{TITLES[question]}, {count(len(group), 'claim')}: {first['lacks']}"
        console.print(_with_outcome(first["outcome"], head), highlight=False)
        for _, verdict in group:
            line = Padding(escape(printable(_in_words(verdict, verdict["found"]))), (0, 0, 0, 14))
            console.print(line, highlight=False)


def verdict_line(verdict: Mapping[str, Any]) -> str:
    """A verdict as one line of markup."""
    return _with_outcome(verdict["outcome"], _in_words(verdict, verdict["why"]))


def _with_outcome(outcome: str, words: str) -> str:
    colour = COLOURS[outcome]
    return f"[{colour}]{outcome}[/{colour}]  {escape(printable(words))}"


def _in_words(verdict: Mapping[str, Any], why: str) -> str:
    """The claim, why it is judged so, and the number behind it."""
    value, low, high = (verdict[name] for name in ("value", "low", "high"))
    number = number_and_interval(value, low, high, verdict.get("unit", ""))
    numbers = ""
    if verdict["n_sinks"]:
        nouns = verdict.get("counted", "sink"), verdict.get("grouped", "text")
        sample = ", ".join(map(count, (verdict["n_sinks"], verdict["n_texts"]), nouns))
        numbers = f" ({verdict['statistic']}: {number}; {sample})"
    return f"{verdict['claim']}{': ' * bool(why)}{why}{numbers}"


def _span(values: pd.Series) -> str:
    return "-" if values.isna().all() else span(int(values.min()), int(values.max()))


def span(low: int, high: int) -> str:
    """A range of whole numbers, or the one that it holds."""
    return str(low) if low == high else f"{low}-{high}"
