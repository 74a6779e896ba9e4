"""Does a sink last, and does it draw enough attention to matter? If not, it is transient."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.types import Thresholds, read_by_next


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
    runs = math.ceil(max(thresholds.persists, 1))
    after = torch.ones_like(is_sink[:1]).expand(runs - 1, *is_sink.shape[1:])
    drawn = read_by_next(beyond)
    unknown = torch.full_like(drawn[:1], torch.nan).expand(runs - 1, *drawn.shape[1:])
    whole = _windows(is_sink | goes_on, after, runs).all(-1)
    inside = _windows(is_sink, ~after, runs).any(-1)
    amount = _windows(drawn, unknown, runs).nanmean(-1)
    return (whole & inside & (amount >= thresholds.draws)).any(0)


def _windows(values: Tensor, after: Tensor, size: int) -> Tensor:
    """Windows of `size` layers `[layer, *shape, size]`; `after` follows the last layer."""
    return torch.cat([values, after]).unfold(0, size, 1)
