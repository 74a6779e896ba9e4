"""Whether the activations of a cache fit together: those of one text and one model."""

from torch import Tensor, isfinite

from secondary_sinks.errors import CacheError
from secondary_sinks.measures.hook_names import Cache, get_activation, has_activations, hook_name
from secondary_sinks.measures.patterns import check_weights

RESIDUAL, VECTORS = ("resid_post", "mlp_out"), ("q", "k", "v", "rot_q", "rot_k")


def check_activations(cache: Cache, n_layers: int, n_pos: int) -> None:
    """Raise `CacheError` for an activation that does not fit the others, by its hook name.

    Each hook point has one dtype, a floating one, at all layers. Two hook points may differ:
    TransformerLens computes the attention of models in half precision in float32.
    """
    first: dict[str, Tensor] = {}
    for layer in range(n_layers):
        held = {
            point: get_activation(cache, layer, point)
            for point in (*RESIDUAL, *VECTORS, "pattern")
            if has_activations(cache, layer, point)
        }
        for point, activation in held.items():
            name = hook_name(layer, point)
            _check_dtype(name, activation, first.setdefault(point, activation))
            if point == "pattern":
                _expect_shape(name, activation, (None, n_pos, n_pos))
                check_weights(activation, name, CacheError)
            else:
                width = first["resid_post"].shape[-1] if point in RESIDUAL else None
                _check_states(name, activation, n_pos, width)
        _check_heads(layer, held)


def _check_dtype(name: str, activation: Tensor, first: Tensor) -> None:
    if not activation.is_floating_point():
        raise CacheError(f"{name} has dtype {activation.dtype}", "expected floating point")
    if activation.dtype != first.dtype:
        raise CacheError(
            f"{name} has dtype {activation.dtype}", f"expected {first.dtype}, as at other layers"
        )


def _check_states(name: str, activation: Tensor, n_pos: int, width: int | None) -> None:
    """One vector per position; that residuals are finite is checked where they are measured."""
    expected = (n_pos, width) if width is not None else (n_pos, *(None,) * (activation.ndim - 1))
    _expect_shape(name, activation, expected)
    if not name.endswith("resid_post") and not isfinite(activation).all():
        raise CacheError(
            f"{name} holds NaN or infinity",
            "expected finite numbers; in float16 an activation may overflow: use float32 or "
            "bfloat16",
        )


def _check_heads(layer: int, held: dict[str, Tensor]) -> None:
    """Queries have the heads of the pattern; a key has a group of them, and the queries' width."""
    n_heads = len(held["pattern"])
    for point in VECTORS:
        if point not in held:
            continue
        own, name = held[point].shape[1], hook_name(layer, point)
        if n_heads != own if "q" in point else n_heads % own:
            raise CacheError(f"{name} has {own} heads", f"the pattern of the layer has {n_heads}")
    for queries, keys in (("q", "k"), ("rot_q", "rot_k")):
        if {queries, keys} <= held.keys():
            expected = (None, None, held[queries].shape[-1])
            _expect_shape(hook_name(layer, keys), held[keys], expected)


def _expect_shape(name: str, activation: Tensor, expected: tuple[int | None, ...]) -> None:
    """The given sizes, and no size of 0."""
    found = tuple(activation.shape)
    same = all(want is None or own == want for own, want in zip(found, expected, strict=True))
    if not same or 0 in found:
        words = ", ".join("any" if size is None else str(size) for size in expected)
        raise CacheError(
            f"{name} has shape {list(found)}",
            f"expected [{words}]: the cache of one run on the tokens that are given",
        )
