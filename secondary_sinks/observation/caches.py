"""The cache of an ordinary run -> `Trace`."""

from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import CacheError, MeasureError
from secondary_sinks.measures import norms
from secondary_sinks.measures.attention import read_paid, sum_received
from secondary_sinks.measures.hook_names import (
    Cache,
    get_activation,
    has_activations,
    hook_name,
    n_layers,
    require_activations,
)
from secondary_sinks.numbers import finite_number, true_or_false, whole_number
from secondary_sinks.observation.cache_checks import check_activations
from secondary_sinks.observation.record import LayerRecord, make_trace
from secondary_sinks.observation.tokens import check_text_id, token_ids, token_strings
from secondary_sinks.types import Trace

NEEDED = ("resid_post", "pattern", "mlp_out")
Windows = Sequence[int | None]


def trace_from_cache(
    cache: Cache,
    tokens: Tensor | Sequence[int] | str,
    *,
    windows: Windows | None = None,
    scale: float | Sequence[float] | None = None,
    rotary: bool = True,
    strings: Sequence[str] | None = None,
    text_id: str = "text",
) -> Trace:
    """The trace that `observe` gives, from the cache of an ordinary `run_with_cache` of one text.

    `cache` is an `ActivationCache` or a dict of hook names, without a batch axis or with one of
    size 1, from all layers of the model. It must hold, for every layer, `hook_resid_post`,
    `hook_mlp_out` and `attn.hook_pattern`. Further hooks fill further measures, which are NaN
    without them:

    * `key_norm_raw`: `attn.hook_k`;
    * `key_norm`: `attn.hook_rot_k`;
    * `score`: `attn.hook_rot_q`, `attn.hook_rot_k` and the `scale` of q.k (one number, or one per
      layer; usually 1 / sqrt(d_head));
    * `value_norm`: `attn.hook_v`.

    With `rotary=False`, for models without rotation, `attn.hook_q` and `attn.hook_k` are read.

    `tokens` are the ids that were fed, `[pos]` or `[1, pos]`; `strings` are their strings (by
    default, ids in brackets). `windows` are the sliding windows, one per layer, None for a layer
    without one. They are never guessed: a pattern whose queries don't see all positions needs
    `windows`, and a pattern that reaches beyond its window is refused.

    Raises `CacheError` that lists the missing hook names, or says what does not fit: activations of
    another length, dtype or width than the rest, values that are not finite, a `pattern` that is no
    causal attention, a `scale` that is no finite number above 0. `ModelError` for a residual that
    is not finite.

    >>> from secondary_sinks import trace_from_cache
    >>> from secondary_sinks.testing import Plant, plant
    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    >>> logits, cache = planted.model.run_with_cache(planted.tokens[None])
    >>> trace_from_cache(cache, planted.tokens, rotary=False).primary
    0
    """
    ids, layers = token_ids(tokens), range(n_layers(cache))
    require_activations(cache, [hook_name(layer, point) for layer in layers for point in NEEDED])
    strings = token_strings(ids) if strings is None else _strings(strings, len(ids))
    scales, windows = _scales(scale, len(layers)), _windows(windows, len(layers))
    check_text_id(text_id)
    true_or_false("rotary", rotary, MeasureError)
    check_activations(cache, len(layers), len(ids))
    for layer in layers:
        _check_window(layer, get_activation(cache, layer, "pattern"), windows)

    def records(watch: Sequence[int]) -> Iterator[LayerRecord]:
        for layer in layers:
            yield _record(cache, layer, windows, scales[layer], rotary, tuple(watch))

    dtype = get_activation(cache, 0, "resid_post").dtype
    return make_trace(records, len(layers), ids, strings, text_id, dtype)


def _record(
    cache: Cache,
    layer: int,
    windows: Windows | None,
    scale: float | None,
    rotary: bool,
    watch: tuple[int, ...],
) -> LayerRecord:
    pattern = get_activation(cache, layer, "pattern")
    queries, keys = ("rot_q", "rot_k") if rotary else ("q", "k")

    def optional(point: str) -> Tensor | None:
        return get_activation(cache, layer, point) if has_activations(cache, layer, point) else None

    raw = optional("k")
    return LayerRecord(
        layer=layer,
        resid_post=get_activation(cache, layer, "resid_post"),
        mlp_out=get_activation(cache, layer, "mlp_out"),
        received=sum_received(pattern).cpu(),
        watched=watch,
        paid=read_paid(pattern, watch).cpu(),
        key_norm_raw=norms(raw).mean(-1) if raw is not None else None,
        window=None if windows is None else windows[layer],
        queries=optional(queries),
        keys=optional(keys),
        values=optional("v"),
        scale=scale,
    )


def _strings(strings: Any, n_pos: int) -> tuple[str, ...]:
    words = not isinstance(strings, str) and all(isinstance(one, str) for one in strings)
    _expect(words, f"strings {strings!r:.60}", "a list of strings, one per token")
    _expect(len(strings) == n_pos, f"{len(strings)} strings", f"one per token ({n_pos})")
    return tuple(strings)


def _scales(scale: Any, n_layers: int) -> list[float | None]:
    """The scale of each layer; None where none is given."""
    scale = _plain(scale)
    scales = scale if isinstance(scale, list | tuple) else [scale] * n_layers
    _expect(len(scales) == n_layers, f"{len(scales)} scales", f"one per layer ({n_layers})")
    return [
        None if one is None else finite_number("scale", one, CacheError, 0.0, above=True)
        for one in scales
    ]


def _plain(numbers: Any) -> Any:
    """Tensors and arrays as plain numbers or lists; anything else as it is."""
    return numbers.tolist() if hasattr(numbers, "tolist") else numbers


def _windows(windows: Any, n_layers: int) -> Windows | None:
    """The windows of all layers, checked; None if none are given."""
    if windows is None:
        return None
    windows, expected = _plain(windows), f"a list with those of {n_layers} layers (None: no window)"
    _expect(isinstance(windows, list | tuple), f"windows {windows!r:.60}", expected)
    _expect(len(windows) == n_layers, f"windows of {len(windows)} layers", expected)
    return [
        None if one is None else whole_number("a window", one, CacheError, 1) for one in windows
    ]


def _check_window(
    layer: int, pattern: Float[Tensor, "head pos pos"], windows: Windows | None
) -> None:
    """Refuse a missing or too small window, which would make masses wrong."""
    query, key = (pattern.amax(0) > 0).nonzero(as_tuple=True)
    _expect(len(query) > 0, f"a pattern at layer {layer} without any attention", "weights above 0")
    behind, n_pos = query - key, pattern.shape[-1]
    ahead = f"a pattern at layer {layer} with queries that attend to later keys"
    _expect(int(behind.min()) >= 0, ahead, "causal attention")
    reach = int(behind.max()) + 1
    if windows is None:
        _expect(
            reach == n_pos,
            f"a pattern at layer {layer} whose queries see {reach} of {n_pos} positions at most",
            "the sliding windows: windows=[...], one per layer, None where a layer has none",
        )
        return
    window = windows[layer]
    if window is not None:
        given = f"a pattern at layer {layer} whose queries see {reach} positions"
        _expect(reach <= window, given, f"at most its window of {window}")


def _expect(true: bool, came: str, expected: str) -> None:
    if not true:
        raise CacheError(f"got {came}", f"expected {expected}")
