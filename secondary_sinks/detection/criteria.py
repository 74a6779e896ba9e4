"""The three tests of the joint criterion: aligned with an active primary, outlying, attended.

No single test is enough: in an anisotropic model nearly every token is aligned, a massive token
need not be attended, and a token can be attended for its content.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.types import Thresholds, Trace, read_by_next


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tests:
    """Result of each test, `[layer, pos]` (or `[layer, cell]`)."""

    aligned: Bool[Tensor, "layer pos"]
    outlying: Bool[Tensor, "layer pos"]
    attended: Bool[Tensor, "layer pos"]
    primary_active: Bool[Tensor, "layer"]

    @property
    def joint(self) -> Bool[Tensor, "layer pos"]:
        """Whether all tests pass. At the last layer, which no block reads, no sink can start."""
        joint = self.aligned & self.outlying & self.attended & self.primary_active[:, None]
        return torch.cat([joint[:-1], joint[-1:] & joint[-2:-1]])

    @property
    def goes_on(self) -> Bool[Tensor, "layer pos"]:
        """Where a token is outlying and attended, but no primary is active to compare it with."""
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
    """Where each token passes the joint criterion; for a primary, where it is active."""
    is_sink = tests.joint
    for pos in trace.reference[tests.primary_active].unique().tolist():
        is_sink[:, pos] |= tests.primary_active & (trace.reference == pos)
    return is_sink


def lasting_sinks(
    tests: Tests, beyond: Float[Tensor, "layer pos"], thresholds: Thresholds
) -> Bool[Tensor, "layer pos"]:
    """Where each token is a sink; nowhere for a token that is transient (see `lasts`)."""
    return tests.joint & lasts(tests.joint, tests.goes_on, beyond, thresholds)


def is_attended(
    mass: Float[Tensor, "layer *shape"],
    expected: Float[Tensor, "layer *#shape"],
    queries: Int[Tensor, "layer *#shape"],
    thresholds: Thresholds,
) -> Bool[Tensor, "layer *shape"]:
    """Whether the state at layer l draws more attention than expected in block l + 1, its reader.

    False where too few queries see the token. No block reads the last state: there the answer is
    that of the layer before, so that a sink which is still aligned and outlying counts as alive.
    """
    enough = (mass >= thresholds.attended * expected) & (queries >= thresholds.min_queries)
    read = read_by_next(enough.float()) > 0
    return torch.cat([read[:-1], read[-2:-1] if len(read) > 1 else read[-1:]])


def lasts(
    is_sink: Bool[Tensor, "layer *shape"],
    goes_on: Bool[Tensor, "layer *shape"],
    beyond: Float[Tensor, "layer *shape"],
    thresholds: Thresholds,
) -> Bool[Tensor, "*shape"]:
    """Whether a token is a sink for `persists` layers in a row and draws `draws` meanwhile.

    `beyond` is attention mass by block, minus the mass expected at the token's position; its mean
    over the blocks that read these layers must reach `draws`. A run of layers that is cut off may
    be shorter: one that reaches the last layer, or that continues while no primary is active and
    the token is still outlying and attended (`goes_on`). A run that begins at layer 0 is not cut
    off: below it there is only the embedding.
    """
    return lasts_from(is_sink, goes_on, beyond, thresholds).any(0)


def run_length(thresholds: Thresholds) -> int:
    """Number of layers in a row for which a sink must last."""
    return math.ceil(max(thresholds.persists, 1))


def lasts_from(
    is_sink: Bool[Tensor, "layer *shape"],
    goes_on: Bool[Tensor, "layer *shape"],
    beyond: Float[Tensor, "layer *shape"],
    thresholds: Thresholds,
) -> Bool[Tensor, "layer *shape"]:
    """Whether `run_length` layers of the kind that `lasts` asks for begin at each layer."""
    runs = run_length(thresholds)
    after = torch.ones_like(is_sink[:1]).expand(runs - 1, *is_sink.shape[1:])
    drawn = read_by_next(beyond)
    unknown = torch.full_like(drawn[:1], torch.nan).expand(runs - 1, *drawn.shape[1:])
    whole = _windows(is_sink | goes_on, after, runs).all(-1)
    inside = _windows(is_sink, ~after, runs).any(-1)
    amount = _windows(drawn, unknown, runs).nanmean(-1)
    return whole & inside & (amount >= thresholds.draws)


def _windows(values: Tensor, after: Tensor, size: int) -> Tensor:
    """Windows of `size` layers `[layer, *shape, size]`; `after` follows the last layer."""
    return torch.cat([values, after]).unfold(0, size, 1)
