"""Where sums are differences of large numbers: float64, on any device."""

from jaxtyping import Float
from torch import Tensor


def in_float64(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float64; on the processor where their device has no such numbers (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()
