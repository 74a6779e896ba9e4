"""Start a layer-by-layer forward pass, after checking that the model and the text allow it."""

from jaxtyping import Int
from torch import Tensor

from secondary_sinks.errors import ModelError, TextError, UnsupportedModelError
from secondary_sinks.layerwise.bridge_run import BridgeForward
from secondary_sinks.layerwise.hooked_run import HookedForward
from secondary_sinks.layerwise.interface import LayerwiseForward
from secondary_sinks.layerwise.protocol import HookedModel, is_bridge


def layerwise_forward(model: HookedModel, tokens: Int[Tensor, "pos"]) -> LayerwiseForward:
    """A forward pass of a text that runs one layer at a time; the tokens are embedded.

    Raises `TextError` for a text longer than the context, and the errors of `check_model`.
    """
    check_model(model)
    if len(tokens) > model.cfg.n_ctx:
        raise TextError(
            f"the text has {len(tokens)} tokens, but the model sees at most {model.cfg.n_ctx}; "
            "shorten or split the text"
        )
    return BridgeForward(model, tokens) if is_bridge(model) else HookedForward(model, tokens)


def check_model(model: HookedModel) -> None:
    """Raise an error for a model whose results would be wrong without any other sign.

    `UnsupportedModelError` for a model that is not causal, has no MLPs, or adds positions inside
    attention (shortformer). `ModelError` for weights of another dtype than the config states, and
    for hooks left on the model: they would fire on chunks and on replayed tokens, at wrong
    positions.
    """
    cfg = model.cfg
    if cfg.attention_dir != "causal" or cfg.attn_only:
        raise UnsupportedModelError("expected a causal model with MLPs; got one without")
    if cfg.positional_embedding_type == "shortformer":
        raise UnsupportedModelError("shortformer positions are not supported")
    dtype = next(model.parameters()).dtype
    if dtype != cfg.dtype:
        raise ModelError(
            f"the weights are {dtype}, cfg.dtype says {cfg.dtype}", "use model.to(dtype)"
        )
    hooked = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    if hooked:
        raise ModelError(f"the model has a hook at {hooked[0]!r}", "remove it: model.reset_hooks()")
