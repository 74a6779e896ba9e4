"""Which verdicts lie within the rounding of a run in half precision.

Every write to the residual stream rounds it by at most u = eps / 2 of its size, and from a state
to what is judged there are about eight roundings more (norm and its weight, query, key, two each
for their rotation). Over the 2 L writes of L layers and these eight the roundings, as good as
independent, add up like a random walk: to r = u sqrt(2 L + 8) of the state's size. A test compares
two numbers that were rounded like that (a state with a median, two states, a mass with that of the
neighbours), so it is moved by 2 r:

* a distance from the typical token by 2 d of itself, with d = r x norm / distance, since what is
  rounded is the whole state;
* the angle of a cosine by 2 d where it is centred, by 2 r where it is not;
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
    """Relative error r by rounding, see above; bfloat16 of 32 layers: 0.033."""
    return torch.finfo(trace.dtype).eps / 2 * math.sqrt(2 * len(trace.norm) + INSIDE)


def mark_rounding(
    trace: Trace, sinks: Sequence[Sink], rule: Rule, thresholds: Thresholds
) -> tuple[list[Sink], list[Sink]]:
    """The sinks, marked where rounding may decide, and what rounding may have kept from being one.

    `sinks` are those that `rule` finds in `trace`. A sink is marked when, with every test moved by
    the rounding to one side or the other, it is none or of another kind.
    """
    if trace.dtype not in HALF:
        return list(sinks), []
    mild = {sink.pos: sink for sink in rule(moved(trace, 1), thresholds)}
    strict = {sink.pos: sink for sink in rule(moved(trace, -1), thresholds)}
    marked = [
        replace(
            sink, within_rounding=any(_kind(found, sink) != sink.kind for found in (mild, strict))
        )
        for sink in sinks
    ]
    there = {sink.pos for sink in sinks}
    near = [replace(sink, within_rounding=True) for pos, sink in mild.items() if pos not in there]
    return marked, near


def moved(trace: Trace, sign: int) -> Trace:
    """The trace with every number that a test judges moved by the rounding.

    Towards a sink with `sign` 1, away from it with -1.
    """
    r = rounding(trace)
    distance = trace.deviation_ratio * trace.median_deviation[:, None]
    far = (r * trace.norm / distance).clamp(max=1.0)  # rounding that drowns all says nothing
    first = trace.alignment_first
    return replace(
        trace,
        deviation_ratio=trace.deviation_ratio * (2 * sign * far).exp(),
        alignment_centred=_turn(trace.alignment_centred, 2 * sign * far),
        alignment=_turn_unsigned(trace.alignment, 2 * sign * r),
        alignment_first=None if first is None else _turn_unsigned(first, 2 * sign * r),
        mass=trace.mass * (2 * sign * r * trace.score.abs().nan_to_num(1.0).clamp(min=1.0)).exp(),
    )


def _kind(found: dict[int, Sink], sink: Sink) -> str | None:
    return found[sink.pos].kind if sink.pos in found else None


def _turn(
    cosine: Float[Tensor, "*shape"], angle: float | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The cosine when the angle gets smaller by `angle` (radians), between 0 and pi."""
    return (cosine.clamp(-1, 1).acos() - angle).clamp(0, torch.pi).cos()


def _turn_unsigned(cosine: Float[Tensor, "*shape"], angle: float) -> Float[Tensor, "*shape"]:
    """The same where a negative cosine counts as much."""
    return cosine.sign() * _turn(cosine.abs(), angle)
