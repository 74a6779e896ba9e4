"""`observe`: hooked model + tokens -> `Trace`."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from secondary_sinks.layerwise.protocol import HookedModel
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
) -> Trace:
    """Measure one text in a streaming pass over the layers.

    `tokens` are ids `[pos]` or `[1, pos]`, fed exactly as they are: nothing is prepended. Attention
    patterns exist for `chunk` queries at a time only (by default as many as fit); results don't
    depend on `chunk`. A second pass is needed if the primary turns out to be a token that the first
    pass did not follow.
    Raises `TextError` for fewer than two tokens, ids outside the vocabulary, or a text longer than
    the model's context.
    """
    ids = token_ids(tokens, model.cfg.d_vocab, model.tokenizer, f"text {text_id!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 query, got {chunk}")
    strings = token_strings(ids, model.tokenizer)
    layers = model.cfg.n_layers
    dtype = model.cfg.dtype

    def records(watch: Sequence[int]) -> Iterator[LayerView]:
        return iter_layers(model, ids, chunk=chunk, watch=watch)

    return make_trace(records, layers, ids, strings, text_id, dtype)
