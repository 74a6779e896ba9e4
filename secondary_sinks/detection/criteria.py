"""The joint criterion: aligned with an active primary, outlying, and attended; each by itself.

Alone, each test fails somewhere: in an anisotropic model nearly every token is aligned, a
massive token need not be attended, and a token can be attended for its content.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.detection.persistence import lasts
from secondary_sinks.types import Thresholds, Trace, read_by_next


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tests:
    """Each test by layer and position (or by layer and cell)."""

    aligned: Bool[Tensor, "layer pos"]
    outlying: Bool[Tensor, "layer pos"]
    attended: Bool[Tensor, "layer pos"]
    primary_active: Bool[Tensor, "layer"]

    @property
    def joint(self) -> Bool[Tensor, "layer pos"]:
        """All tests at once; the last layer, which no block reads, can only go on with a sink."""
        joint = self.aligned & self.outlying & self.attended & self.primary_active[:, None]
        return torch.cat([joint[:-1], joint[-1:] & joint[-2:-1]])

    @property
    def goes_on(self) -> Bool[Tensor, "layer pos"]:
        """Where a token stands out and is attended, but no primary is there to say it is a sink."""
        return self.outlying & self.attended & ~self.primary_active[:, None]


def joint_tests(trace: Trace, thresholds: Thresholds) -> Tests:
    """Apply the three tests to every layer and position of a trace."""
    outlying = trace.deviation_ratio >= thresholds.outlying
    attended = is_attended(trace.mass, trace.mass_expected, trace.queries, thresholds)
    stands = outlying & attended
    return Tests(
        aligned=trace.alignment_centred >= thresholds.aligned,
        outlying=outlying,
        attended=attended,
        primary_active=stands.gather(1, trace.reference[:, None])[:, 0],
    )


def joint_sinks(trace: Trace, tests: Tests) -> Bool[Tensor, "layer pos"]:
    """Where each token is a sink by the joint criterion; a primary where it is active."""
    is_sink = tests.joint
    for pos in trace.reference[tests.primary_active].unique().tolist():
        is_sink[:, pos] |= tests.primary_active & (trace.reference == pos)
    return is_sink


def lasting_sinks(
    tests: Tests, beyond: Float[Tensor, "layer pos"], thresholds: Thresholds
) -> Bool[Tensor, "layer pos"]:
    """Where each token is a sink; nowhere where that does not last or draws too little."""
    return tests.joint & lasts(tests.joint, tests.goes_on, beyond, thresholds)


def is_attended(
    mass: Float[Tensor, "layer *shape"],
    expected: Float[Tensor, "layer *#shape"],
    queries: Int[Tensor, "layer *#shape"],
    thresholds: Thresholds,
) -> Bool[Tensor, "layer *shape"]:
    """Whether the state at layer l draws more attention than expected in block l + 1, its reader.

    Too few queries is "not shown". No block reads the last state: there the answer is that of
    the layer before, so that a sink which is still aligned and outlying counts as still alive.
    """
    enough = (mass >= thresholds.attended * expected) & (queries >= thresholds.min_queries)
    read = read_by_next(enough.float()) > 0
    return torch.cat([read[:-1], read[-2:-1] if len(read) > 1 else read[-1:]])
