"""Planted models: small hooked models with hand-set weights, whose sinks are known.

They are the ground truth for detection and causal tests. The residual stream has an axis for the
sink direction, one that marks tokens which attention copies from, a marker and an own axis for each
plant, and further axes for ordinary content. A planted MLP neuron reads one marker and writes along
the sink direction. Heads attend to keys by their component along the sink axis after the norm, and
optionally a little by content. Everything else in attention and MLPs moves content only, so that a
planted token has exactly the creation layer, lifetime and writers that were asked for. MLPs read
the residual without a norm, so that the output of a planted neuron does not depend on other
components, and contributions add up, also after an ablation.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformer_lens
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import PlantError
from secondary_sinks.numbers import whole_number
from secondary_sinks.testing.plant_checks import check_flags, check_options, check_plants
from secondary_sinks.testing.plant_layout import D_HEAD, N_HEADS, N_ORDINARY, Layout
from secondary_sinks.testing.plant_spec import ExpectedSink, Plant, expected_sinks
from secondary_sinks.testing.plant_weights import (
    attend_to_marks,
    set_embeddings,
    set_ordinary_weights,
    set_planted_weights,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedModel:
    """A planted model, its text, and the sinks that this text must have."""

    model: Any
    tokens: Int[Tensor, "pos"]
    plants: tuple[Plant, ...]
    direction: Float[Tensor, "d_model"]
    """Unit vector of the sink direction."""

    def expected_sinks(self) -> tuple[ExpectedSink, ...]:
        """The true sinks of `tokens`: primaries first, then by position."""
        n_layers, n_pos = self.model.cfg.n_layers, len(self.tokens)
        return expected_sinks(self.plants, n_layers, n_pos, last_head=N_HEADS - 1)


def plant(
    plants: Sequence[Plant],
    *,
    n_layers: int = 8,
    n_pos: int = 64,
    n_kv_heads: int | None = None,
    anisotropy: float = 0.0,
    gated: bool = False,
    positions: str = "learned",
    content_queries: bool = False,
    by_marks: bool = False,
    twins: int = 1,
    seed: int = 0,
) -> PlantedModel:
    """A small hooked model with exactly the sinks of `plants`, and the text that has them.

    Ordinary tokens have random content of length about 6. `anisotropy` adds a common direction of
    this length to every token, and the sink direction leans towards it: at 30, nearly all tokens
    have a raw cosine above 0.9 with the primary. `n_kv_heads` (2 or 4) makes grouped queries,
    `gated` makes gated MLPs. With "learned" `positions` the markers belong to positions, and every
    planted token id also occurs `twins` times as an ordinary token, so that an id alone makes no
    sink. With "rotary" positions the markers belong to token ids, and there are no twins. Queries
    are the same for all tokens, so that freezing them changes nothing, unless `content_queries` is
    set. With `by_marks` heads attend to planted tokens for their marks, in all layers alike,
    whatever is written along the sink direction.

    Raises `PlantError` for plants that are impossible or have no clear truth.

    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    >>> [(sink.pos, sink.kind, sink.l_start) for sink in planted.expected_sinks()]
    [(0, 'primary', 1), (20, 'secondary', 3)]
    """
    check_options(
        n_layers=n_layers,
        n_pos=n_pos,
        n_kv_heads=n_kv_heads,
        n_heads=N_HEADS,
        anisotropy=anisotropy,
        seed=seed,
    )
    check_flags(gated=gated, content_queries=content_queries, by_marks=by_marks)
    twins = int(twins) if isinstance(twins, bool) else whole_number("twins", twins, PlantError, 0)
    check_plants(plants, n_layers, n_pos, N_HEADS)
    if positions not in ("learned", "rotary"):
        raise PlantError(f"positions are 'learned' or 'rotary'; got {positions!r}")
    if any(one.identity is not None for one in plants) and (gated or positions == "rotary"):
        raise PlantError("identity needs learned positions and MLPs without a gate")
    if by_marks and any(one.by == "attention" or one.attended is not None for one in plants):
        raise PlantError("with by_marks no plant is copied by attention, and none is `attended`")
    if any(one.read_by is not None for one in plants) and (by_marks or n_kv_heads):
        raise PlantError("read_by needs heads with keys of their own", "leave out n_kv_heads")
    layout = Layout(plants, anisotropy, seed)
    model = _empty_model(layout, n_layers, n_pos, n_kv_heads, gated, positions, seed)
    with torch.no_grad():
        tokens = layout.tokens(n_pos, min(twins, n_pos) if positions == "learned" else 0)
        set_embeddings(model, layout, tokens)
        residual = model(tokens[None], stop_at_layer=0)
        for layer, block in enumerate(model.blocks):
            set_ordinary_weights(block, layout, content_queries)
            if by_marks:
                attend_to_marks(block, layout)
            residual = set_planted_weights(block, layer, layout, residual)
        model.setup()  # hook points are named again, without those of the removed norms
        model.ln_final.w.fill_(1.0)
        model.unembed.W_U.copy_(0.1 * layout.randn(*model.unembed.W_U.shape))
    return PlantedModel(
        model=model, tokens=tokens, plants=tuple(plants), direction=layout.direction
    )


def _empty_model(
    layout: "Layout",
    n_layers: int,
    n_pos: int,
    n_kv_heads: int | None,
    gated: bool,
    positions: str,
    seed: int,
) -> Any:
    """A model whose weights are zero, except those of its norms."""
    rotary = {"positional_embedding_type": "rotary", "rotary_dim": 4}
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=n_layers,
        d_model=layout.d_model,
        n_ctx=n_pos,
        d_head=D_HEAD,
        n_heads=N_HEADS,
        n_key_value_heads=n_kv_heads,
        d_mlp=layout.n_plants + N_ORDINARY,
        d_vocab=layout.n_special + N_ORDINARY,
        act_fn="silu" if gated else "relu",
        gated_mlp=gated,
        normalization_type="RMS",
        model_name="planted",
        device="cpu",
        seed=seed,
        default_prepend_bos=False,
        **(rotary if positions == "rotary" else {}),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HookedTransformer is deprecated.*")
        model = transformer_lens.HookedTransformer(cfg)
    for parameter in model.parameters():
        parameter.data.zero_()
    for block in model.blocks:
        block.ln1.w.data.fill_(1.0)
        block.ln2 = torch.nn.Identity()
    return model
