"""The table of experiments, one row each; read by `all`, `pages`, `prices` and docs/experiments.md.

Each experiment describes itself by constants of its module: QUESTION, PAPER (what the paper
claims), METHOD, REFUTATION (what would change our mind).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from secondary_sinks.display import markdown_table
from secondary_sinks.errors import SinkError

SAID = ("QUESTION", "PAPER", "METHOD", "REFUTATION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment."""

    name: str
    """Name of its module in `experiments`."""
    figure: str = ""
    """The corresponding figure of the paper."""
    asks: tuple[str, ...] = ()
    """The causal questions that it asks (`roles` is one of them), which take most of its time.
    Empty for an experiment that only observes, and for one that edits in its own way: its module
    then has a function `cost(observed)`."""
    passes: int = 0
    """Further passes that it makes over each text with a secondary sink."""
    unpriced: str = ""
    """What else takes time, in words."""
    observes: bool = True
    """Whether its verdict needs no edit."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Options for a run in which it recomputes no text; an experiment that observes then edits
    nothing."""

    @property
    def module(self) -> ModuleType:
        """The module, imported on first use."""
        return import_module(f"experiments.{self.name}")

    def said(self) -> dict[str, str]:
        """The descriptive constants of the module, by the names in `SAID`.

        Raises `SinkError` for a missing constant.
        """
        missing = [name for name in SAID if not getattr(self.module, name, "")]
        if missing:
            raise SinkError(
                f"experiments.{self.name} has no {missing[0]}",
                f"expected texts in the constants {', '.join(SAID)}",
            )
        return {name: str(getattr(self.module, name)) for name in SAID}


EXPERIMENTS = (
    Experiment(name="norms", figure="1"),
    Experiment(name="sink_levels", figure="2"),
    Experiment(name="criterion_check"),
    Experiment(name="sink_tokens"),
    Experiment(name="mlp_anatomy", figure="MLP", passes=3),
    Experiment(name="mlp_directions", figure="5", passes=1),
    Experiment(name="separability", figure="6", passes=1),
    Experiment(name="norm_and_score", figure="7"),
    Experiment(
        name="primary_weakening",
        asks=("restoration", "redistribution"),
        quick={"restore": False},
    ),
    Experiment(name="prefix_entropy", passes=1, unpriced="and the spectra of prefixes"),
    Experiment(name="readers", passes=1),
    Experiment(name="writers", asks=("roles",), observes=False),
    Experiment(name="triggers", observes=False),
    Experiment(name="mlp_ablation", asks=("necessity",), observes=False),
    Experiment(name="mlp_patching", asks=("sufficiency",), observes=False),
    Experiment(name="norm_dose", asks=("norm_dose",), observes=False),
    Experiment(name="neurons", asks=("sparsity",), observes=False),
    Experiment(name="replacement", observes=False),
    Experiment(name="input_controls", observes=False),
    Experiment(name="function", asks=("function",), observes=False),
    Experiment(name="eviction", asks=("eviction",), observes=False),
    Experiment(name="accuracy", observes=False),
    Experiment(name="their_steering", observes=False),
)
"""All experiments, in the order in which they run."""
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
OBSERVING = tuple(experiment.name for experiment in EXPERIMENTS if experiment.observes)
"""Names of the experiments whose verdicts need no edit."""


def as_markdown(*, observes: bool) -> list[str]:
    """The observing or the editing experiments as rows of a Markdown table."""
    chosen = [one for one in EXPERIMENTS if one.observes == observes]
    rows = [(f"`{one.name}`", one.said()["QUESTION"], one.figure) for one in chosen]
    return markdown_table(["module", "question", "figure of the paper"], rows)
