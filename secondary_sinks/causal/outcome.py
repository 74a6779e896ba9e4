"""What an edit did to its token: lifetime, creation layer, means over the layers of the sink."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.causal.replay import Replay
from secondary_sinks.detection import Tests, is_attended, joint_tests
from secondary_sinks.types import Thresholds, Trace

MEANS = ("alignment", "alignment_centred", "norm", "mass")


def edited_sinks(
    trace: Trace, result: Replay, thresholds: Thresholds
) -> Bool[Tensor, "layer cell"]:
    """Where each edited token is still a sink, by the same criterion as in the clean run."""
    positions = list(result.positions)
    expected, queries = trace.mass_expected[:, positions], trace.queries[:, positions]
    return Tests(
        aligned=result.alignment_centred >= thresholds.aligned,
        outlying=result.deviation_ratio >= thresholds.outlying,
        attended=is_attended(result.mass, expected, queries, thresholds),
        primary_active=joint_tests(trace, thresholds).primary_active,
    ).joint


def means_over(trace: Trace, result: Replay, cell: int, layers: Sequence[int]) -> dict[str, float]:
    """Means over some layers, clean and edited; masses in the blocks that read these layers.

    NaN where no block does.
    """
    own, pos = list(layers), result.positions[cell]
    values = {}
    for name in MEANS:
        rows = readers(own, len(trace.mass)) if name == "mass" else own
        values[f"{name}_clean"] = float(getattr(trace, name)[rows, pos].mean())
        values[f"{name}_edited"] = float(getattr(result, name)[rows, cell].mean())
    return values


def readers(layers: Sequence[int], n_layers: int) -> list[int]:
    """The blocks that attend to the states of these layers.

    >>> readers([2, 3, 7], n_layers=8)
    [3, 4]
    """
    return [layer + 1 for layer in layers if layer + 1 < n_layers]


def first(is_sink: Bool[Tensor, "layer"]) -> float:
    """The first layer at which a token is a sink; NaN where it is none."""
    layers = is_sink.nonzero()[:, 0]
    return float(layers[0]) if len(layers) else torch.nan
