"""How far rounding alone can move what one layer gives: measured on the model itself.

Rounding is what two honest computations of one model differ by: another order of additions, fused
attention, chunks, another processor. It cannot be told from the result; where large terms cancel,
as in layers that make or remove a massive activation, it is many times the usual. So it is made by
hand, as Monte Carlo arithmetic does: the model runs again while all that enters and leaves each of
its parts (linear maps, norms, activations, experts) is multiplied by 1 + or - a few units of
rounding, signs at random. How far a layer's output then moves, given the very same input, is what
rounding of that size does there. The signs are always the same and the disturbance is much larger
than the rounding of any processor, so the result hardly depends on where it is measured.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

UNITS = {torch.float32: 64, torch.float64: 64, torch.bfloat16: 8, torch.float16: 8}
"""Units of rounding in a disturbance. In full precision sums of thousands of products round at each
addition; in half precision they are made in float32 and rounded once."""


def disturbance(dtype: torch.dtype) -> float:
    """How large a disturbance is, relative to each number.

    >>> disturbance(torch.float32) == 64 * 2.0**-24
    True
    """
    return UNITS[dtype] * torch.finfo(dtype).eps / 2


@contextmanager
def disturb(model: nn.Module, without: type | tuple[type, ...] = ()) -> Iterator[None]:
    """Within, what enters and leaves each part of `model` is disturbed.

    Parts are modules that have weights of their own or hold no others; none of a type `without`.
    """
    parts = [part for part in model.modules() if _is_part(part) and not isinstance(part, without)]
    generator = torch.Generator().manual_seed(0)

    def disturb(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(disturb(item) for item in value)
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return _disturb(value, generator) if floating else value

    def entering(part: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return disturb(args), {name: disturb(value) for name, value in kwargs.items()}

    def leaving(part: nn.Module, args: Any, output: Any) -> Any:
        return disturb(output)

    with ExitStack() as stack:
        for part in parts:
            for handle in (
                part.register_forward_pre_hook(entering, with_kwargs=True),
                part.register_forward_hook(leaving),
            ):
                stack.callback(handle.remove)
        yield


def _is_part(module: nn.Module) -> bool:
    own = next(module.parameters(recurse=False), None)
    return own is not None or next(module.children(), None) is None


def _disturb(value: Tensor, generator: torch.Generator) -> Tensor:
    """A copy with every number multiplied by 1 + or - the disturbance; one copy at a time."""
    signs = torch.randint(0, 2, value.shape, generator=generator, dtype=torch.int8)
    factors = signs.to(value.device).to(value.dtype)
    size = disturbance(value.dtype)
    return factors.mul_(2 * size).add_(1 - size).mul_(value)
