"""Who writes along a direction: signed parts that add up to what the residual has of it.

All parts are lengths along the direction (its own length does not matter), so they can be added
and compared: a part is negative where something is written against the direction.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.measures.precision import in_float64


def projection(
    vectors: Float[Tensor, "*shape d"], direction: Float[Tensor, "*#shape d"]
) -> Float[Tensor, "*shape"]:
    """Signed length along a direction; NaN where the direction is zero.

    Linear in `vectors`: the projections of parts add up to that of their sum. Added up in
    float64, so that rounding does not hide a small part behind a massive coordinate.

    >>> import torch
    >>> projection(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([5.0, 0.0]))
    tensor([ 3., -1.])
    """
    along = in_float64(vectors) * unit(direction)
    return along.sum(-1).float().to(vectors.device)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerContributions:
    """Signed lengths along one direction, by what wrote them."""

    embed: Float[Tensor, "*pos"]
    """What enters layer 0."""
    attention: Float[Tensor, "layer *pos"]
    """What the attention of each layer writes."""
    mlp: Float[Tensor, "layer *pos"]
    """What the MLP of each layer writes."""

    @property
    def resid_post(self) -> Float[Tensor, "layer *pos"]:
        """What the residual has of it after each layer: the sum of all that was written so far."""
        written = (in_float64(self.attention) + in_float64(self.mlp)).cumsum(0)
        return (in_float64(self.embed) + written).float().to(self.embed.device)


def layer_contributions(
    embed: Float[Tensor, "*pos d_model"],
    attn_out: Float[Tensor, "layer *pos d_model"],
    mlp_out: Float[Tensor, "layer *pos d_model"],
    direction: Float[Tensor, "d_model"],
) -> LayerContributions:
    """What the embedding, and attention and MLP of each layer, write along a direction.

    `embed` is `resid_pre` of layer 0. Outputs are as they are added to the residual: after norms
    that follow a sublayer (`hook_attn_out` and `hook_mlp_out` are).

    >>> import torch
    >>> embed, attn_out, mlp_out = torch.ones(2), torch.eye(2), torch.tensor([[0, 5.0], [-3.0, 0]])
    >>> layer_contributions(embed, attn_out, mlp_out, torch.tensor([1.0, 0.0])).resid_post
    tensor([ 2., -1.])
    """
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
    """What each neuron of an MLP writes along a direction, signed.

    `post` are the activations that W_out reads (in a gated MLP: act x up, `mlp.hook_post`). With
    `projection(b_out, direction)` for the bias they add up to the projection of the MLP's output,
    as it is before any norm that follows the MLP (Gemma 2 and 3, OLMo 2 have one).

    >>> import torch
    >>> post, w_out = torch.tensor([2.0, 1.0]), torch.tensor([[3.0, 0.0], [-1.0, 7.0]])
    >>> neuron_contributions(post, w_out, torch.tensor([1.0, 0.0]))
    tensor([ 6., -1.])
    """
    along = in_float64(w_out) @ unit(direction)
    return (in_float64(post) * along).float().to(post.device)


def unit(direction: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape d"]:
    """The direction at length 1, in float64; NaN where it is zero.

    >>> import torch
    >>> unit(torch.tensor([0.0, 4.0])).tolist()
    [0.0, 1.0]
    """
    direction = in_float64(direction)
    return direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
