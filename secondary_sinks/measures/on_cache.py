"""`on_cache` makes, from a measure of tensors, the same measure of a cache."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from torch import Tensor

from secondary_sinks.measures.hook_names import (
    Cache,
    get_activation,
    hook_name,
    layer_number,
    require_activations,
)

P = ParamSpec("P")
R = TypeVar("R")


@overload
def on_cache(
    measure: Callable[Concatenate[Tensor, P], R],
    point: str,
    /,
    *,
    name: str = "",
    returns: Any = None,
) -> Callable[Concatenate[Cache, int, P], R]: ...
@overload
def on_cache(
    measure: Callable[Concatenate[Tensor, Tensor, P], R], queries: str, keys: str, /
) -> Callable[..., R]: ...
def on_cache(
    measure: Callable[..., R], /, *points: str, name: str = "", returns: Any = None
) -> Callable[..., R]:
    """The measure with `(cache, layer)` in place of its first tensors, one for each hook point.

    The other parameters, their shapes and the definition in the docstring stay those of `measure`.
    Where rotated queries or keys are read, `rotary=False` is added: it reads those of models that
    do not rotate. `name` and `returns` (the shape of the result) are for a measure that is applied
    to several hook points.
    """
    rotated = any(point.startswith("rot_") for point in points)

    @functools.wraps(measure)
    def twin(cache: Cache, layer: int, *args: Any, **kwargs: Any) -> R:
        read = points
        if rotated and not kwargs.pop("rotary", True):
            read = tuple(point.removeprefix("rot_") for point in points)
        layer = layer_number(layer)
        require_activations(cache, [hook_name(layer, point) for point in read])
        return measure(*(get_activation(cache, layer, point) for point in read), *args, **kwargs)

    signature = _signature(measure, len(points), rotated, returns)
    twin.__name__ = twin.__qualname__ = name or measure.__name__
    twin.__module__ = __name__.replace("on_cache", "cached")
    twin.__doc__ = _docstring(measure, points, rotated)
    twin.__annotations__ = {
        **{item.name: item.annotation for item in signature.parameters.values()},
        "return": signature.return_annotation,
    }
    vars(twin).update(__signature__=signature)
    del vars(twin)["__wrapped__"]
    return twin


def _signature(
    measure: Callable[..., Any], n_tensors: int, rotated: bool, returns: Any
) -> inspect.Signature:
    """`(cache, layer, *others)`: the parameters of `measure` behind its tensors."""
    signature, either = inspect.signature(measure), inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("cache", either, annotation=Cache),
        inspect.Parameter("layer", either, annotation=int),
        *list(signature.parameters.values())[n_tensors:],
    ]
    if rotated:
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("rotary", keyword, default=True, annotation=bool))
    return inspect.Signature(parameters, return_annotation=returns or signature.return_annotation)


def _docstring(measure: Callable[..., Any], points: tuple[str, ...], rotated: bool) -> str:
    """Which hook points are read, then the definition, without its examples on tensors."""
    hooks = [f"`{hook_name(0, point).removeprefix('blocks.0.')}`" for point in points]
    plain = [hook.replace("rot_", "") for hook in hooks]
    instead = f" With `rotary=False` (no rotation), {' and '.join(plain)}." if rotated else ""
    definition = inspect.getdoc(measure) or ""
    definition = definition.partition(">>>")[0].strip()
    return f"`measures.{measure.__name__}` of {' and '.join(hooks)}.{instead}\n\n{definition}\n"
