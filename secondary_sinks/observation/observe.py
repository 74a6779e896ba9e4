"""`observe`: hooked model + tokens -> `Trace`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from torch import Tensor

from secondary_sinks.errors import HookError, MeasureError
from secondary_sinks.layerwise.protocol import Hook, HookedModel, check_is_model
from secondary_sinks.numbers import whole_number
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.observation.record import make_trace
from secondary_sinks.observation.tokens import (
    GivenText,
    check_text_id,
    is_conversation,
    token_strings,
    tokenize_given,
)
from secondary_sinks.progress import Progress, part_of, shows_progress
from secondary_sinks.texts import Text, TokenizedText
from secondary_sinks.texts.text import Message
from secondary_sinks.types import Trace

Texts = (
    list[str]
    | list[Text]
    | list[TokenizedText]
    | list[Tensor]
    | list[list[int]]
    | list[list[Message]]
)


@overload
def observe(
    model: HookedModel,
    tokens: GivenText,
    *,
    text_id: str | None = ...,
    chunk: int | None = ...,
    hooks: Sequence[Hook] = ...,
    progress: Progress | None = ...,
) -> Trace: ...
@overload
def observe(
    model: HookedModel,
    tokens: Texts,
    *,
    text_id: str | None = ...,
    chunk: int | None = ...,
    hooks: Sequence[Hook] = ...,
    progress: Progress | None = ...,
) -> list[Trace]: ...
@shows_progress
def observe(
    model: HookedModel,
    tokens: GivenText | Texts,
    *,
    text_id: str | None = None,
    chunk: int | None = None,
    hooks: Sequence[Hook] = (),
    progress: Progress | None = None,
) -> Trace | list[Trace]:
    """Measure a text in a streaming pass over the layers; a list of texts gives a list of traces.

    `tokens` are ids `[pos]` or `[1, pos]`, fed exactly as they are: nothing is prepended. A string
    is fed with the special tokens that the tokenizer adds (as `tokenize` with "raw"). A text of
    `read_texts`, and a list of messages (`{"role": ..., "content": ...}`), are fed as `tokenize`
    feeds them: a conversation through the chat template. Texts of `read_texts` keep their names;
    others are called `text_id`, or "text"; several of them "text 0", "text 1" and so on.

    Attention patterns exist for `chunk` queries at a time only (by default as many as fit); results
    don't depend on `chunk`. A second pass is needed if the primary turns out to be a token that the
    first pass did not follow. `progress` is called with (layers done, layers of all texts).
    `hooks` are TransformerLens hooks `(name, function)`, as in `run_with_hooks`. A function may
    return a changed activation; the trace is then that of the changed run. It gets all positions at
    once, so `hooks` and `chunk` exclude each other.

    Raises `TextError` for fewer than two tokens, ids outside the vocabulary, or a text longer than
    the model's context; `HookError` for a hook point that no block has and for a hook that returns
    another shape or dtype; `ModelError` for anything but a hooked model; `MeasureError` for a
    `chunk` that is not a whole number of at least 1; `ValueError` for `hooks` with `chunk`.
    """
    check_is_model(model)
    if chunk is not None:
        chunk = whole_number("chunk", chunk, MeasureError, 1)
    if hooks and chunk is not None:
        raise ValueError("hooks see all positions at once: leave chunk out")
    given: dict[str, Any] = {"chunk": chunk, "hooks": _by_layer(model, hooks) if hooks else None}
    if not _are_several(tokens):
        return _observe(model, tokenize_given(model, tokens, text_id), progress, **given)  # type: ignore[arg-type]
    texts = [
        tokenize_given(model, text, _name_of(text, text_id, number))
        for number, text in enumerate(tokens)  # type: ignore[arg-type]
    ]
    return [
        _observe(model, text, part_of(progress, number, len(texts)), **given)
        for number, text in enumerate(texts)
    ]


def _are_several(tokens: GivenText | Texts) -> bool:
    """Whether this is a list of texts, not of the ids or messages of one."""
    first = tokens[0] if isinstance(tokens, list) and tokens else 0
    return not isinstance(first, int) and not is_conversation(tokens)


def _name_of(text: Any, text_id: str | None, number: int) -> str | None:
    """The name of one of several texts; None for one that has a name of its own."""
    if text_id is None and isinstance(text, Text | TokenizedText):
        return None
    return f"{'text' if text_id is None else check_text_id(text_id)} {number}"


def _observe(
    model: HookedModel,
    text: TokenizedText,
    progress: Progress | None,
    *,
    chunk: int | None,
    hooks: list[list[Hook]] | None,
) -> Trace:
    ids = text.tokens
    strings = token_strings(ids, model.tokenizer)
    layers = model.cfg.n_layers
    dtype = model.cfg.dtype

    def records(watch: Sequence[int]) -> Iterator[LayerView]:
        options: dict[str, Any] = {"watch": watch, "chunk": chunk if hooks is None else len(ids)}
        options |= {} if hooks is None else {"hooks": hooks.__getitem__}
        for view in iter_layers(model, ids, **options):
            yield view
            if progress:
                progress(view.layer + 1, layers)
            del view

    return make_trace(records, layers, ids, strings, text.text_id, dtype)


def _by_layer(model: HookedModel, hooks: Sequence[Hook]) -> list[list[Hook]]:
    """The hooks of each layer. Raises `HookError` for a point that no block of the model has."""
    found = [
        [
            (name, _same_form(name, function))
            for name, function in hooks
            if str(name).startswith(f"blocks.{layer}.")
        ]
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


def _same_form(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A hook function whose result is an activation like the one it got, or None."""

    def checked(activation: Tensor, hook: Any) -> Any:
        result, form = function(activation, hook=hook), (activation.shape, activation.dtype)
        given = (getattr(result, "shape", None), getattr(result, "dtype", None))
        if result is not None and given != form:
            what = f"{given[1]} {tuple(given[0])}" if given[0] else type(result).__name__
            raise HookError(
                f"the hook at {name!r} returned {what}",
                f"expected None, or {form[1]} {tuple(form[0])} as it was given",
            )
        return result

    return checked
