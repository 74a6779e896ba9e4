"""Contributions of components along a direction, which add up to the projection of the residual.

Contributions are signed lengths along the direction, whose own length does not matter. A
contribution is negative if a component writes against the direction.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.measures.axes import expect_fit
from secondary_sinks.measures.precision import in_float64


def projection(
    vectors: Float[Tensor, "*shape d"], direction: Float[Tensor, "*#shape d"]
) -> Float[Tensor, "*shape"]:
    """Signed length along a direction; NaN where the direction is zero.

    Linear in `vectors`, so projections of summands add up. Computed in float64, so that rounding of
    a massive coordinate does not hide a small contribution.

    >>> import torch
    >>> projection(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([5.0, 0.0]))
    tensor([ 3., -1.])
    """
    expect_fit(vectors=(vectors, "*shape d"), direction=(direction, "*#shape d"))
    along = in_float64(vectors) * unit_vector(direction)
    return along.sum(-1).float().to(vectors.device)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerContributions:
    """Signed lengths along one direction, by component."""

    embed: Float[Tensor, "*pos"]
    """Projection of the residual that enters layer 0."""
    attention: Float[Tensor, "layer *pos"]
    """Contribution of the attention of each layer."""
    mlp: Float[Tensor, "layer *pos"]
    """Contribution of the MLP of each layer."""

    @property
    def resid_post(self) -> Float[Tensor, "layer *pos"]:
        """Projection of the residual after each layer: the sum of all contributions up to it."""
        written = (in_float64(self.attention) + in_float64(self.mlp)).cumsum(0)
        return (in_float64(self.embed) + written).float().to(self.embed.device)


def layer_contributions(
    embed: Float[Tensor, "*pos d_model"],
    attn_out: Float[Tensor, "layer *pos d_model"],
    mlp_out: Float[Tensor, "layer *pos d_model"],
    direction: Float[Tensor, "d_model"],
) -> LayerContributions:
    """Contributions of the embedding, and of attention and MLP of each layer, along a direction.

    `embed` is `resid_pre` of layer 0. Outputs are those that are added to the residual, after any
    norm that follows a sublayer, as in `hook_attn_out` and `hook_mlp_out`.

    >>> import torch
    >>> embed, attn_out, mlp_out = torch.ones(2), torch.eye(2), torch.tensor([[0, 5.0], [-3.0, 0]])
    >>> layer_contributions(embed, attn_out, mlp_out, torch.tensor([1.0, 0.0])).resid_post
    tensor([ 2., -1.])
    """
    expect_fit(
        attn_out=(attn_out, "layer *pos d_model"),
        mlp_out=(mlp_out, "layer *pos d_model"),
        embed=(embed, "*pos d_model"),
        direction=(direction, "d_model"),
    )
    return LayerContributions(
        embed=projection(embed, direction),
        attention=torch.stack([projection(layer, direction) for layer in attn_out]),
        mlp=torch.stack([projection(layer, direction) for layer in mlp_out]),
    )


def neuron_contributions(
    post: Float[Tensor, "*pos d_mlp"],
    w_out: Float[Tensor, "d_mlp d_model"],
    direction: Float[Tensor, "d_model"],
) -> Float[Tensor, "*pos d_mlp"]:
    """Signed contribution of each neuron of an MLP along a direction.

    `post` are the activations that W_out reads (`mlp.hook_post`; in a gated MLP, act x up).
    Together with `projection(b_out, direction)` they add up to the projection of the MLP's output,
    before any norm that follows the MLP (as in Gemma 2 and 3 and OLMo 2).

    >>> import torch
    >>> post, w_out = torch.tensor([2.0, 1.0]), torch.tensor([[3.0, 0.0], [-1.0, 7.0]])
    >>> neuron_contributions(post, w_out, torch.tensor([1.0, 0.0]))
    tensor([ 6., -1.])
    """
    expect_fit(
        post=(post, "*pos d_mlp"), w_out=(w_out, "d_mlp d_model"), direction=(direction, "d_model")
    )
    along = in_float64(w_out) @ unit_vector(direction)
    return (in_float64(post) * along).float().to(post.device)


def unit_vector(direction: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape d"]:
    """The direction at length 1, in float64; NaN where it is zero.

    >>> import torch
    >>> unit_vector(torch.tensor([0.0, 4.0])).tolist()
    [0.0, 1.0]
    """
    direction = in_float64(direction)
    return direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
