"""Let a text enter a model, after checking that its numbers will mean what they say."""

from jaxtyping import Int
from torch import Tensor

from secondary_sinks.errors import ModelError, TextError, UnsupportedModelError
from secondary_sinks.layerwise.bridge_run import BridgeForward
from secondary_sinks.layerwise.hooked_run import HookedForward
from secondary_sinks.layerwise.interface import LayerwiseForward
from secondary_sinks.layerwise.protocol import HookedModel, is_bridge


def layerwise_forward(model: HookedModel, tokens: Int[Tensor, "pos"]) -> LayerwiseForward:
    """Let a text enter a model.

    Raises `TextError` for a text longer than the context, and what `check_model` raises.
    """
    check_model(model)
    if len(tokens) > model.cfg.n_ctx:
        raise TextError(
            f"the text has {len(tokens)} tokens, but the model sees at most {model.cfg.n_ctx}; "
            "shorten or split the text"
        )
    if is_bridge(model):
        return BridgeForward(model, tokens)

    return HookedForward(model, tokens)


def check_model(model: HookedModel) -> None:
    """Raise before any pass what would make its numbers wrong without a word.

    `UnsupportedModelError` for a model that is not causal, has no MLPs, or adds positions inside
    attention (shortformer); `ModelError` for weights of another dtype than the config says, and
    for hooks left on the model: they would fire on chunks and replicas, at wrong positions.
    """
    cfg = model.cfg
    if cfg.attention_dir != "causal" or cfg.attn_only:
        raise UnsupportedModelError("expected a causal model with MLPs; got one without")
    if cfg.positional_embedding_type == "shortformer":
        raise UnsupportedModelError("shortformer positions are not supported")
    dtype = next(model.parameters()).dtype
    if dtype != cfg.dtype:
        raise ModelError(
            f"the weights are {dtype}, cfg.dtype says {cfg.dtype}; use model.to(dtype)"
        )
    left = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    if left:
        raise ModelError(f"the model has a hook at {left[0]!r}; remove it: model.reset_hooks()")
