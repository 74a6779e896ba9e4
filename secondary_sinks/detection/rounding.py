"""Which sinks might not be sinks, or the reverse, because a run in half precision rounds.

Every write to the residual stream rounds it by at most u = eps / 2 of its size. Between a state
and the measure that is judged there are about eight more roundings (norm and its weight, query,
key, two each for their rotation). Taken as independent, the roundings of the 2 L writes of L layers
and these eight add up like a random walk, to r = u sqrt(2 L + 8) of the state's size. A test
compares two rounded numbers (a state with a median, two states, a mass with that of the
neighbours), so every number that is tested is moved by 2 r:

* a distance from the typical token by 2 d of itself, with d = r x norm / distance, since the
  whole state is rounded;
* the angle of a centred cosine by 2 d, that of an uncentred one by 2 r;
* a mass by the factor exp(2 r |score|), since a score is rounded by r of its size, at least 1.

`tests/detection/test_rounding.py` compares runs in half precision with float32.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.types import Sink, Thresholds, Trace

INSIDE = 8
HALF = (torch.bfloat16, torch.float16)
Rule = Callable[[Trace, Thresholds], Sequence[Sink]]


def rounding(trace: Trace) -> float:
    """Relative rounding error r of a state (see the module); bfloat16, 32 layers: 0.033."""
    return torch.finfo(trace.dtype).eps / 2 * math.sqrt(2 * len(trace.norm) + INSIDE)


def mark_rounding(
    trace: Trace, sinks: Sequence[Sink], rule: Rule, thresholds: Thresholds
) -> tuple[list[Sink], list[Sink]]:
    """Mark sinks that rounding may have made, and find tokens that it may have hidden.

    `sinks` are those that `rule` finds in `trace`. A sink is marked if it is no sink, or of another
    kind, once every tested number is moved by the rounding in one direction or the other.
    """
    if trace.dtype not in HALF:
        return list(sinks), []
    mild = {sink.pos: sink for sink in rule(move_by_rounding(trace, 1), thresholds)}
    strict = {sink.pos: sink for sink in rule(move_by_rounding(trace, -1), thresholds)}
    kinds = [{pos: sink.kind for pos, sink in found.items()} for found in (mild, strict)]
    marked = [
        replace(sink, within_rounding=any(one.get(sink.pos) != sink.kind for one in kinds))
        for sink in sinks
    ]
    there = {sink.pos for sink in sinks}
    near = [replace(sink, within_rounding=True) for pos, sink in mild.items() if pos not in there]
    return marked, near


def move_by_rounding(trace: Trace, sign: int) -> Trace:
    """The trace with every tested number moved by its rounding error.

    `sign` 1: towards being a sink; -1: away from it.
    """
    r = rounding(trace)
    distance = trace.deviation_ratio * trace.median_deviation[:, None]
    far = (r * trace.norm / distance).clamp(max=1.0)  # the error is never larger than the distance
    first = trace.alignment_first
    return replace(
        trace,
        deviation_ratio=trace.deviation_ratio * (2 * sign * far).exp(),
        alignment_centred=_turn(trace.alignment_centred, 2 * sign * far),
        alignment=_turn_unsigned(trace.alignment, 2 * sign * r),
        alignment_first=None if first is None else _turn_unsigned(first, 2 * sign * r),
        mass=trace.mass * (2 * sign * r * trace.score.abs().nan_to_num(1.0).clamp(min=1.0)).exp(),
    )


def _turn(
    cosine: Float[Tensor, "*shape"], angle: float | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The cosine after making the angle smaller by `angle` (radians), kept between 0 and pi."""
    return (cosine.clamp(-1, 1).acos() - angle).clamp(0, torch.pi).cos()


def _turn_unsigned(cosine: Float[Tensor, "*shape"], angle: float) -> Float[Tensor, "*shape"]:
    """The same for a criterion that judges the absolute value of the cosine."""
    return cosine.sign() * _turn(cosine.abs(), angle)
