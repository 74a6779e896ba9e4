"""Python code that reproduces the numbers of a trial, with the public API only."""

import json
import textwrap
from dataclasses import asdict

from secondary_sinks.notebook.trial import Trial, describe_edit
from secondary_sinks.types import Thresholds, Trace

TEMPLATE = """\
# {what}, at the token at {pos}{control}.
# `model` is the model of the explorer.
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


def python_of(trace: Trace, trial: Trial, thresholds: Thresholds) -> str:
    """Code that uses `model` and defines `effects`, the rows of the trial."""
    given = {
        name: value
        for name, value in asdict(thresholds).items()
        if value != getattr(Thresholds(), name)
    }
    limits = f", thresholds={_call('Thresholds', given)}" if given else ""
    names = ["Edit", *(["Thresholds"] if given else []), "observe", "replay"]
    functions = ["before_and_after", *(["direct_and_total"] if trial.totals else [])]
    what = describe_edit(trial.choice)
    code = TEMPLATE.format(
        what=what[:1].upper() + what[1:],
        pos=trial.choice.pos,
        control=" and at its control" if trial.control_kind else "",
        names=", ".join(names),
        functions=", ".join(functions),
        tokens=_wrap(trace.tokens.tolist()),
        edits="\n".join(f"    {_call('Edit', edit.to_dict())}," for edit in trial.edits),
        layers=list(trial.layers),
        limits=limits,
    )
    return code + (TOTAL if trial.totals else "")


def _wrap(numbers: list[int]) -> str:
    return textwrap.fill(
        ", ".join(map(str, numbers)) + ",",
        width=96,
        initial_indent="    ",
        subsequent_indent="    ",
    )


def _call(name: str, given: dict[str, object]) -> str:
    """A call of a constructor with keyword arguments, as code."""
    literals = {
        key: json.dumps(value) if isinstance(value, str) else repr(value)
        for key, value in given.items()
    }
    return f"{name}({', '.join(f'{key}={value}' for key, value in literals.items())})"
