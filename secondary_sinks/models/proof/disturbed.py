"""Effect of rounding on the output of each layer, measured by disturbing the model.

Two correct computations of one model differ by rounding: by the order of additions, fused
attention, chunks, the processor. The size of this difference cannot be read off the result. Where
large terms cancel, as in layers that make or remove a massive activation, it is many times larger
than elsewhere. So it is measured, as in Monte Carlo arithmetic: the model runs again while the
inputs and outputs of each of its parts (linear maps, norms, activations, experts) are multiplied by
1 + or - a few units of rounding, with random signs. The change of a layer's output, for the same
input, is the effect of rounding of that size. The signs are always the same and the disturbance is
much larger than the rounding of any processor, so the result hardly depends on the machine.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

UNITS = {torch.float32: 64, torch.float64: 64, torch.bfloat16: 8, torch.float16: 8}
"""Size of a disturbance in units of rounding. In full precision, sums of thousands of products are
rounded at each addition; in half precision, they are computed in float32 and rounded once."""


def disturbance(dtype: torch.dtype) -> float:
    """Size of a disturbance, relative to each number.

    >>> disturbance(torch.float32) == 64 * 2.0**-24
    True
    """
    return UNITS[dtype] * torch.finfo(dtype).eps / 2


@contextmanager
def disturb(model: nn.Module, without: type | tuple[type, ...] = ()) -> Iterator[None]:
    """A context in which the inputs and outputs of each part of `model` are disturbed.

    Parts are modules with weights of their own or without submodules, except for types `without`.
    """
    parts = [part for part in model.modules() if _is_part(part) and not isinstance(part, without)]
    generator = torch.Generator().manual_seed(0)

    def disturb_all(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(disturb_all(item) for item in value)
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return _disturb(value, generator) if floating else value

    def on_input(part: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return disturb_all(args), {name: disturb_all(value) for name, value in kwargs.items()}

    with ExitStack() as stack:
        for part in parts:
            for handle in (
                part.register_forward_pre_hook(on_input, with_kwargs=True),
                part.register_forward_hook(lambda part, args, output: disturb_all(output)),
            ):
                stack.callback(handle.remove)
        yield


def _is_part(module: nn.Module) -> bool:
    own_weight = next(module.parameters(recurse=False), None)
    return own_weight is not None or next(module.children(), None) is None


def _disturb(value: Tensor, generator: torch.Generator) -> Tensor:
    """The value with every number multiplied by 1 + or - the disturbance; makes only one copy."""
    signs = torch.randint(0, 2, value.shape, generator=generator, dtype=torch.int8)
    factors = signs.to(value.device).to(value.dtype)
    size = disturbance(value.dtype)
    return factors.mul_(2 * size).add_(1 - size).mul_(value)
