"""float64 on any device, for sums in which large numbers cancel."""

from jaxtyping import Float
from torch import Tensor


def in_float64(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float64; on the CPU if their device has no float64 (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()
