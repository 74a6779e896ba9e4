"""What makes a tensor an attention pattern: weights of a causal softmax."""

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.axes import expect_real

ROUNDING = 4 * torch.finfo(torch.bfloat16).eps
"""Share by which a row of weights may exceed 1, whatever its dtype: weights that were computed in
bfloat16 keep its rounding when they are cast up."""
_REMEDY = "give the weights after the softmax (attn.hook_pattern, not attn.hook_attn_scores)"


def check_weights(
    pattern: Tensor,
    name: str = "the pattern",
    error: type[MeasureError] = MeasureError,
) -> None:
    """Raise `error` unless `[..., head, query, key]` are attention weights: floats of at least 0.

    Rows sum to 1 at most, up to the rounding of bfloat16. They sum to less in models with
    learned sinks or softmax-off-by-one, and to 0 where a query sees no key.

    >>> import torch
    >>> check_weights(torch.tensor([[[2.0, 0.0], [1.0, 1.0]]]))
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: a query of the pattern pays 2 in all; expected at most 1: \
give the weights after the softmax (attn.hook_pattern, not attn.hook_attn_scores)
    """
    expect_real(pattern, name)
    if not pattern.is_floating_point():
        raise error(f"{name} has dtype {pattern.dtype}", f"expected floating point: {_REMEDY}")
    if not pattern.numel():
        raise error(f"{name} has shape {list(pattern.shape)}", "expected no axis of size 0")
    least = float(pattern.amin())
    if not least >= 0:  # NaN too
        raise error(f"{name} has the weight {least:g}", f"expected weights from 0 to 1: {_REMEDY}")
    most = float(pattern.sum(-1, dtype=torch.float32).amax())
    if not most <= 1 + ROUNDING:
        raise error(f"a query of {name} pays {most:g} in all", f"expected at most 1: {_REMEDY}")


def check_own_keys(n_keys: int, n_queries: int, offset: int) -> None:
    """Raise `MeasureError` unless the keys go at least to the position of the last query."""
    if n_keys < offset + n_queries:
        raise MeasureError(
            f"got {n_keys} keys for {n_queries} queries from position {offset} on",
            f"expected the keys of positions 0 to {offset + n_queries - 1}, the last query's own "
            "included",
        )


def check_visible(
    pattern: Float[Tensor, "head query key"], window: int | None, offset: int
) -> None:
    """Raise `MeasureError` if a query attends to a key that it cannot see: later, or too early."""
    n_queries, n_keys = pattern.shape[-2:]
    query = torch.arange(offset, offset + n_queries, device=pattern.device)[:, None]
    behind = query - torch.arange(n_keys, device=pattern.device)
    hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
    wrong = ((pattern.amax(0) > 0) & hidden).nonzero()
    if len(wrong):
        first, key = wrong[0].tolist()
        raise MeasureError(
            f"the query at position {offset + first} attends to key {key}, which it cannot see "
            f"with window={window}",
            "give offset= (position of the first query) and the layer's window=; masses are of "
            "causal attention only",
        )
