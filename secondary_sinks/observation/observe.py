"""`observe`: hooked model + tokens -> `Trace`."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from secondary_sinks.errors import HookError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.observation.record import make_trace
from secondary_sinks.observation.tokens import token_ids, token_strings
from secondary_sinks.types import Trace


def observe(
    model: HookedModel,
    tokens: Tensor | Sequence[int] | str,
    *,
    text_id: str = "text",
    chunk: int | None = None,
    hooks: Sequence[Hook] = (),
) -> Trace:
    """Measure one text in a streaming pass over the layers.

    `tokens` are ids `[pos]` or `[1, pos]`, fed exactly as they are: nothing is prepended. Attention
    patterns exist for `chunk` queries at a time only (by default as many as fit); results don't
    depend on `chunk`. A second pass is needed if the primary turns out to be a token that the first
    pass did not follow.
    `hooks` are TransformerLens hooks `(name, function)`, as in `run_with_hooks`. A function may
    return a changed activation; the trace is then that of the changed run. It gets all positions at
    once, so `hooks` and `chunk` exclude each other.
    Raises `TextError` for fewer than two tokens, ids outside the vocabulary, or a text longer than
    the model's context; `HookError` for a hook point that no block has.
    """
    ids = token_ids(tokens, model.cfg.d_vocab, model.tokenizer, f"text {text_id!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 query, got {chunk}")
    if hooks and chunk is not None:
        raise ValueError("hooks see all positions at once: leave chunk out")
    strings = token_strings(ids, model.tokenizer)
    by_layer, size = _by_layer(model, hooks), len(ids) if hooks else chunk
    layers = model.cfg.n_layers
    dtype = model.cfg.dtype

    def records(watch: Sequence[int]) -> Iterator[LayerView]:
        return iter_layers(model, ids, chunk=size, watch=watch, hooks=by_layer.__getitem__)

    return make_trace(records, layers, ids, strings, text_id, dtype)


def _by_layer(model: HookedModel, hooks: Sequence[Hook]) -> list[list[Hook]]:
    """The hooks of each layer. Raises `HookError` for a point that no block of the model has."""
    found = [
        [hook for hook in hooks if str(hook[0]).startswith(f"blocks.{layer}.")]
        for layer in range(model.cfg.n_layers)
    ]
    known = model.hook_dict
    for name, _ in hooks:
        if not any(name == own for of_layer in found for own, _ in of_layer) or name not in known:
            raise HookError(
                f"no block of the model has a hook point {name!r}",
                "expected a name such as 'blocks.5.hook_mlp_out'; see model.hook_dict",
            )
    return found
