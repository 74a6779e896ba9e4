"""The paper criterion: the rule of Wong et al. 2025 (arXiv 2512.22213), as in their scripts.

Their states are the outputs of all blocks, the last one after the final norm. A `Trace` has
resid_post instead. Their rule never looks for sinks in the last state, and uses its norm for one
thing: the drop of the primary's norm at the end. After the final norm no token is massive, so here
the norm of the last state counts as 0.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Thresholds, Trace

KINDS = {"secondary": "secondary", "bos_sink": "primary_like", "noise": "noise"}
"""Label of the authors -> kind of a `Sink`; the primary itself has kind "primary"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaperTests:
    """Results of the paper criterion for one text."""

    primary: int
    """Position with the highest mean norm among the first ones (`paper_first`)."""
    start: int
    """First layer of the clip."""
    end: int
    """One after the last layer of the clip."""
    is_sink: Bool[Tensor, "layer pos"]
    """Where |cosine| is above the threshold, inside the clip and after the primary; for the
    primary itself, the whole clip."""


def paper_tests(trace: Trace, thresholds: Thresholds) -> PaperTests:
    """Apply the authors' rule. Raises `DetectionError` if the trace lacks what the rule needs."""
    first = trace.norm[:-1, : thresholds.paper_first]
    primary = int(first.mean(0).argmax())
    start, end = clip(trace.norm[:, primary])
    is_sink = against(trace, primary).alignment.abs() > thresholds.paper_aligned
    is_sink[:, : primary + 1] = False
    is_sink[:, primary] = True
    is_sink[:start], is_sink[end:] = False, False
    return PaperTests(primary=primary, start=start, end=end, is_sink=is_sink)


def clip(norm: Float[Tensor, "layer"]) -> tuple[int, int]:
    """Layers [start, end) of the primary, from its largest rise to its largest fall afterwards.

    With steps d[l] = norm[l + 1] - norm[l], start = argmax d + 1, and end is one after the first
    lowest step from start on; the norm of the last state counts as 0. Empty if the rise is at the
    end. A second episode, or a slow rise, is cut off: the authors' rule does so.

    >>> clip(torch.tensor([1.0, 1.0, 90.0, 90.0, 2.0, 2.0]))
    (2, 4)
    """
    states = norm.clone()
    states[-1] = 0.0
    steps = states.diff()
    start = int(steps.argmax()) + 1 if len(steps) else 0
    return start, start + int(steps[start:].argmin()) + 1 if start < len(steps) else start


def paper_label(lifetime: int, n_layers: int, thresholds: Thresholds | None = None) -> str:
    """The authors' label of a sink in a model of `n_layers`: secondary, bos_sink or noise.

    >>> [paper_label(lifetime, 48) for lifetime in (4, 5, 32, 33)]
    ['noise', 'secondary', 'secondary', 'bos_sink']
    """
    limits = thresholds or Thresholds()
    if lifetime >= n_layers - limits.paper_margin:
        return "bos_sink"
    return "secondary" if lifetime > limits.paper_noise else "noise"


def against(trace: Trace, primary: int) -> Trace:
    """The trace with raw alignments to another of its first positions; unknown ones are NaN."""
    if bool((trace.reference == primary).all()):
        return trace
    if trace.alignment_first is None or primary >= len(trace.alignment_first):
        raise DetectionError(
            f"text {trace.text_id!r}: the paper criterion takes position {primary} as primary, but "
            f"the trace only has alignments with position {trace.primary}",
            "make the trace with observe, and use a paper_first of at most 4",
        )
    unknown = ("alignment_centred", "mlp_alignment", "reference_resid")
    missing: dict[str, Any] = {
        name: torch.full_like(getattr(trace, name), torch.nan) for name in unknown
    }
    return replace(
        trace,
        primary=primary,
        reference=torch.full_like(trace.reference, primary),
        alignment=trace.alignment_first[primary],
        **missing,
    )
