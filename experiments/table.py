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
        claim="values of secondary sinks (and keys: raw, the output of k_proj, and used, after q/k "
        "norm and rotation) have smaller norms than those of their controls; also the "
        "attention that sinks draw before their creation and after their end",
        figure="1",
    ),
    Experiment(
        name="sink_levels",
        claim="secondary sinks come in several levels of creation layer and lifetime (one is not "
        "several); several models with `--also`, the authors' detections with `--released`",
        figure="2",
    ),
    Experiment(name="criterion_check", claim="the paper's criterion and ours find the same sinks"),
    Experiment(
        name="sink_tokens",
        claim="secondary sinks are white space, digits or punctuation, where ordinary tokens of "
        "their text contain letters",
    ),
    Experiment(
        name="mlp_anatomy",
        claim="the MLP output of the creation layer points along the primary's direction at sinks "
        "and not at their controls, and more so than that of any earlier MLP",
        figure="MLP",
        passes=1,
    ),
    Experiment(
        name="mlp_directions",
        claim="a few principal components of that MLP's input at sinks are enough to trigger it, "
        "and those at controls are not",
        figure="5",
        passes=1,
    ),
    Experiment(
        name="separability",
        claim="a linear classifier, trained on earlier texts, separates sinks from the same tokens",
        figure="6",
        passes=1,
    ),
    Experiment(
        name="norm_and_score",
        claim="within a text and creation layer, sinks with a larger norm of the MLP output draw "
        "more attention, and at more layers; the lifetime by the norm test is shown, but used in "
        "no verdict",
        figure="7",
    ),
    Experiment(
        name="primary_weakening",
        claim="the primary loses attention of queries after a new secondary sink, compared with "
        "queries before it and with texts without one; it regains attention when the sink is "
        "removed, as by any softmax, and more than the softmax alone would give it (causal)",
        asks=("restoration", "redistribution"),
        quick={"restore": False},
    ),
    Experiment(
        name="prefix_entropy",
        claim="the matrix-based entropy of the prefix falls with a secondary sink, and more than "
        "with its control",
        passes=1,
        unpriced="and the spectra of prefixes",
    ),
    Experiment(
        name="readers",
        claim="most attention to secondary sinks comes from heads that also read the primary; and "
        "what makes their scores (bias, the component along the primary, the rest, position)",
        passes=1,
    ),
    Experiment(
        name="writers",
        claim="one MLP writes each sink: patching its output in makes a sink, replacing it ends "
        "the sink, it is enough with all earlier MLPs zeroed, and it is aligned with the primary",
        asks=("roles",),
        observes=False,
    ),
    Experiment(
        name="triggers",
        claim="few attention heads trigger each sink: replaced by a token twin's, their outputs "
        "end it; by layer, head and source token",
        observes=False,
    ),
    Experiment(
        name="mlp_ablation",
        claim="sinks need the MLP of one layer (ablated in four ways, against controls)",
        asks=("necessity",),
        observes=False,
    ),
    Experiment(
        name="mlp_patching",
        claim="the forming MLPs' outputs at a sink make a control token a sink; and the reverse",
        asks=("sufficiency",),
        observes=False,
    ),
    Experiment(
        name="norm_dose",
        claim="scaling these outputs up, beyond their own norm, makes sinks draw more attention, "
        "and at more layers",
        asks=("norm_dose",),
        observes=False,
    ),
    Experiment(
        name="neurons",
        claim="sinks need few neurons of these MLPs",
        asks=("sparsity",),
        observes=False,
    ),
    Experiment(
        name="replacement",
        claim="removing one sink makes another token a sink; later sinks need the first one",
        observes=False,
    ),
    Experiment(
        name="input_controls",
        claim="fewer secondary sinks arise when the tokens are in random order, are random, are "
        "read again, or lack the first one; a token becomes a sink when all before it is hidden",
        observes=False,
    ),
    Experiment(
        name="function",
        claim="secondary sinks are no-ops: their values tell later tokens less than those of "
        "ordinary keys with equal attention",
        observes=False,
    ),
    Experiment(
        name="eviction",
        claim="dropping secondary sinks from the cache costs more than dropping random keys; "
        "keeping them is better than keeping heavy hitters",
        observes=False,
    ),
    Experiment(
        name="accuracy",
        claim="answers are worse, right answers less likely and other tokens sinks when the tokens "
        "that a rule finds are edited while the model writes, compared with as many other tokens",
        observes=False,
    ),
    Experiment(
        name="their_steering",
        claim="the authors' own intervention (every MLP output along the primary's is rescaled to "
        "a given norm) edits the sinks and little else, and acts on each as an exact edit of it "
        "does",
        observes=False,
    ),
)
"""All experiments, in the order in which they run."""
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
OBSERVING = tuple(experiment.name for experiment in EXPERIMENTS if experiment.observes)
"""Names of the experiments whose verdicts need no edit."""


def as_markdown(*, observes: bool) -> list[str]:
    """The observing or the editing experiments as rows of a Markdown table."""
    chosen = [one for one in EXPERIMENTS if one.observes == observes]
    rows = [(f"`{one.name}`", one.claim, one.figure) for one in chosen]
    return markdown_table(["module", "is it true that", "figure of the paper"], rows)
