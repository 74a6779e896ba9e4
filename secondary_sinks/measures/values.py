"""Length of what a head writes per unit of attention to a token."""

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.measures.axes import expect_fit, expect_groups


def value_drain(
    values: Float[Tensor, "pos kv_head d_head"], w_o: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "pos head"]:
    """||W_O v|| by position and query head: what a head writes per unit of attention, >= 0.

    Small at sinks: heads attend to them and write almost nothing. With grouped-query attention,
    each run of head / kv_head consecutive heads shares a value. The output bias is not included.
    Computed in float32, one head at a time, with `[pos, d_model]` in memory.
    Source: value-state drains, Guo et al. 2024 (arXiv 2410.13835); the norm of the transformed
    value, Kobayashi et al. 2020 (arXiv 2004.10102).

    >>> import torch
    >>> values, w_o = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]), torch.eye(2)[None]
    >>> value_drain(values, w_o).tolist()
    [[5.0], [0.0]]
    """
    expect_fit(values=(values, "pos kv_head d_head"), w_o=(w_o, "head d_head d_model"))
    group = expect_groups(len(w_o), values.shape[1], "value")
    written = [values[:, head // group].float() @ w_o[head].float() for head in range(len(w_o))]
    return torch.stack([one.norm(dim=-1) for one in written], dim=-1)
