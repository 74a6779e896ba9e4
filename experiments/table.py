"""The table of experiments, one row each; read by `all`, `pages`, `prices` and docs/experiments.md.

Each experiment describes itself by constants of its module: QUESTION, PAPER (what the paper
claims), METHOD, REFUTATION (what would change our mind).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from secondary_sinks.errors import SinkError

SAID = ("QUESTION", "PAPER", "METHOD", "REFUTATION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment."""

    name: str
    """Name of its module in `experiments`."""
    claim: str
    """The claim under test, as in docs/experiments.md."""
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
    Experiment(
        name="norms",
        claim="values (and keys: raw, the output of k_proj, and used, after q/k norm and rotation) "
        "of secondary sinks are shorter than those of the same tokens elsewhere; also what sinks "
        "draw before their creation and after their end",
        figure="1",
    ),
    Experiment(
        name="sink_levels",
        claim="secondary sinks come in several levels of creation layer and lifetime (one is not "
        "several); several models with `--also`, the authors' detections with `--released`",
        figure="2",
    ),
    Experiment(name="criterion_check", claim="the paper's criterion and ours find the same sinks"),
    Experiment(name="sink_tokens", claim="secondary sinks are white space, digits or punctuation"),
    Experiment(
        name="mlp_anatomy",
        claim="what the MLP of the creation layer writes at sinks points along the primary's "
        "direction, and is more along it than what any earlier MLP writes",
        figure="MLP",
        passes=1,
    ),
    Experiment(
        name="mlp_directions",
        claim="few principal components of that MLP's input are enough to trigger it, and those of "
        "controls are not",
        figure="5",
        passes=1,
    ),
    Experiment(
        name="separability",
        claim="a linear classifier tells sinks from the same tokens in texts that it has not seen",
        figure="6",
        passes=1,
    ),
    Experiment(
        name="norm_and_score",
        claim="within a text and creation layer, the longer what the MLP writes, the more "
        "attention, and the more layers attended; the lifetime by the norm test is shown, and "
        "judged in nothing",
        figure="7",
    ),
    Experiment(
        name="primary_weakening",
        claim="the primary weakens at queries that can see a new secondary sink, beyond those "
        "before it and beyond texts without one; it gets that back when the sink is removed, and "
        "takes over more than any softmax gives it (causal)",
        asks=("restoration", "redistribution"),
        quick={"restore": False},
    ),
    Experiment(
        name="prefix_entropy",
        claim="the matrix-based entropy of the text so far falls with a secondary sink",
        passes=1,
        unpriced="and the spectra of prefixes",
    ),
    Experiment(
        name="writers",
        claim="one MLP writes each sink: its output, put in or taken out, decides, alone and with "
        "all earlier MLPs zeroed, and lies along the primary beyond random directions",
        asks=("roles",),
        observes=False,
    ),
    Experiment(
        name="mlp_ablation",
        claim="sinks need the MLP of one layer (zero, mean and resample, against controls)",
        asks=("necessity",),
        observes=False,
    ),
    Experiment(
        name="mlp_patching",
        claim="what the forming MLPs write makes a control token a sink; and the reverse",
        asks=("sufficiency",),
        observes=False,
    ),
    Experiment(
        name="norm_dose",
        claim="the longer that is, the more attention the sink draws, and at the more layers",
        asks=("norm_dose",),
        observes=False,
    ),
    Experiment(
        name="neurons",
        claim="few neurons of these MLPs are needed",
        asks=("sparsity",),
        observes=False,
    ),
    Experiment(
        name="their_steering",
        claim="the authors' own intervention (every MLP output along the primary's gets a given "
        "length) touches the sinks and only them, and does to each what an exact edit of it does",
        observes=False,
    ),
)
"""All experiments, in the order in which they run."""
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
OBSERVING = tuple(experiment.name for experiment in EXPERIMENTS if experiment.observes)
"""Names of the experiments whose verdicts need no edit."""


def as_markdown(*, observes: bool) -> list[str]:
    """The observing or the editing experiments as rows of a Markdown table."""
    rows = [
        f"| `{one.name}` | {one.claim} | {one.figure} |"
        for one in EXPERIMENTS
        if one.observes == observes
    ]
    return ["| module | is it true that | figure of the paper |", "|---|---|---|", *rows]
