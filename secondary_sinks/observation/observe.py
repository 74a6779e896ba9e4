"""`observe`: hooked model + tokens -> `Trace`."""

from collections.abc import Iterator, Sequence
from typing import overload

from torch import Tensor

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.observation.record import make_trace
from secondary_sinks.observation.tokens import token_ids, token_strings
from secondary_sinks.progress import Progress, part_of, shows_progress
from secondary_sinks.texts import Text, tokenize
from secondary_sinks.types import Trace

Texts = list[str] | list[Tensor] | list[list[int]]


@overload
def observe(
    model: HookedModel,
    tokens: Tensor | Sequence[int] | str,
    *,
    text_id: str = ...,
    chunk: int | None = ...,
    progress: Progress | None = ...,
) -> Trace: ...
@overload
def observe(
    model: HookedModel,
    tokens: Texts,
    *,
    text_id: str = ...,
    chunk: int | None = ...,
    progress: Progress | None = ...,
) -> list[Trace]: ...
@shows_progress
def observe(
    model: HookedModel,
    tokens: Tensor | Sequence[int] | str | Texts,
    *,
    text_id: str = "text",
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Trace | list[Trace]:
    """Measure a text in a streaming pass over the layers; a list of texts gives a list of traces.

    `tokens` are ids `[pos]` or `[1, pos]`, fed exactly as they are: nothing is prepended. A string
    is fed with the special tokens that the tokenizer adds (as `tokenize` with "raw"). Several texts
    are called "text 0", "text 1" and so on. Attention patterns exist for `chunk` queries at a time
    only (by default as many as fit); results don't depend on `chunk`. A second pass is needed if
    the primary turns out to be a token that the first pass did not follow. `progress` is called
    with (layers done, layers of all texts).
    Raises `TextError` for fewer than two tokens, ids outside the vocabulary, or a text longer than
    the model's context.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 query, got {chunk}")
    if not isinstance(tokens, list) or not tokens or isinstance(tokens[0], int):
        return _observe(model, tokens, text_id, chunk, progress)  # type: ignore[arg-type]
    named = [(f"{text_id} {number}", one) for number, one in enumerate(tokens)]
    for name, one in named:  # before the first pass
        _ids(model, one, name)  # type: ignore[arg-type]
    return [
        _observe(model, one, name, chunk, part_of(progress, number, len(named)))  # type: ignore
        for number, (name, one) in enumerate(named)
    ]


def _ids(model: HookedModel, tokens: Tensor | Sequence[int] | str, text_id: str) -> Tensor:
    if isinstance(tokens, str):
        tokens = tokenize(Text(text_id=text_id, plain=tokens), model.tokenizer, "raw").tokens
    return token_ids(tokens, model.cfg.d_vocab, model.tokenizer, f"text {text_id!r}")


def _observe(
    model: HookedModel,
    tokens: Tensor | Sequence[int] | str,
    text_id: str,
    chunk: int | None,
    progress: Progress | None,
) -> Trace:
    ids = _ids(model, tokens, text_id)
    strings = token_strings(ids, model.tokenizer)
    layers = model.cfg.n_layers
    dtype = model.cfg.dtype

    def records(watch: Sequence[int]) -> Iterator[LayerView]:
        for view in iter_layers(model, ids, chunk=chunk, watch=watch):
            yield view
            if progress:
                progress(view.layer + 1, layers)
            del view

    return make_trace(records, layers, ids, strings, text_id, dtype)
