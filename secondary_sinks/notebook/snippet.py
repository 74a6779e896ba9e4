"""A trial as Python that gives its numbers again, with nothing but the public API."""

import json
import textwrap
from dataclasses import asdict

from secondary_sinks.notebook.trial import Tried, does
from secondary_sinks.types import Edit, Thresholds, Trace

TEMPLATE = """\
# {what}, at the token at {pos}{control}.
# `model` is the one that the explorer was given.
from secondary_sinks import {names}
from secondary_sinks.causal import {functions}

tokens = [
{tokens}
]
trace = observe(model, tokens)
edits = [
{edits}
]
replayed = replay(model, trace, edits)
effects = before_and_after(trace, replayed, layers={layers}{limits})
print(effects.T)
"""
TOTAL = """
totals = direct_and_total(model, trace, edits)
print(totals)
"""


def python_of(trace: Trace, tried: Tried, thresholds: Thresholds) -> str:
    """Code that needs `model` and leaves `effects`: the rows of the trial."""
    given = {
        name: value
        for name, value in asdict(thresholds).items()
        if value != getattr(Thresholds(), name)
    }
    limits = f", thresholds={_call('Thresholds', given)}" if given else ""
    names = ["Edit", *(["Thresholds"] if given else []), "observe", "replay"]
    functions = ["before_and_after", *(["direct_and_total"] if tried.totals else [])]
    what = does(tried.choice)
    code = TEMPLATE.format(
        what=what[:1].upper() + what[1:],
        pos=tried.choice.pos,
        control=" and at its control" if tried.control_kind else "",
        names=", ".join(names),
        functions=", ".join(functions),
        tokens=_wrapped(trace.tokens.tolist()),
        edits="\n".join(f"    {_edit(edit)}," for edit in tried.edits),
        layers=list(tried.layers),
        limits=limits,
    )
    return code + (TOTAL if tried.totals else "")


def _wrapped(numbers: list[int]) -> str:
    return textwrap.fill(
        ", ".join(map(str, numbers)) + ",",
        width=96,
        initial_indent="    ",
        subsequent_indent="    ",
    )


def _edit(edit: Edit) -> str:
    return _call("Edit", edit.to_dict())


def _call(name: str, given: dict[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in given.items())})"


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
