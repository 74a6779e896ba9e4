"""The axes of a measure's tensors: real numbers of one text, never a batch, of sizes that fit.

Axes are named as in the annotations of the measures: `*name` is any number of axes, and `*#name`
are axes that are repeated along those of `*name`, which an earlier tensor has.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from secondary_sinks.errors import MeasureError


def expect_real(given: Any, name: str = "a tensor", expected: str = "") -> None:
    """Raise `MeasureError` unless this is a tensor of real numbers.

    >>> expect_real([1.0, 2.0], "mass")
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: mass is a list; expected a tensor: give torch.tensor(...)
    """
    if not isinstance(given, Tensor):
        raise MeasureError(
            f"{name} is a {type(given).__name__}",
            f"expected a tensor{expected}: give torch.tensor(...)",
        )
    if given.is_complex() or given.dtype == torch.bool:
        raise MeasureError(
            f"{name} has dtype {given.dtype}",
            f"expected real numbers{expected}: the measures are of real vectors only",
        )


def expect_axes(given: Tensor, axes: str, name: str = "a tensor") -> None:
    """Raise `MeasureError` unless a tensor is real and has the axes named; a batch is refused.

    >>> import torch
    >>> expect_axes(torch.zeros(5, 2, 3, 3), "head query key")
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: got a tensor of shape [5, 2, 3, 3]; expected the axes \
[head query key] of one text: measure one text of a batch at a time
    """
    expect_real(given, name, f" with the axes [{axes}]")
    n, some = len(axes.split()), "*" in axes
    if given.ndim < n - 1 if some else given.ndim != n:
        batch = ": measure one text of a batch at a time" if given.ndim == n + 1 else ""
        raise MeasureError(
            f"got {name} of shape {list(given.shape)}",
            f"expected the axes [{axes}] of one text{batch}",
        )


def expect_fit(**given: tuple[Tensor, str]) -> None:
    """`expect_axes` of each tensor; axes of one name must have one size in all of them.

    Raises `MeasureError` otherwise: torch would repeat an axis of size 1, and return a number.

    >>> import torch
    >>> expect_fit(vectors=(torch.zeros(5, 4), "pos d"), direction=(torch.zeros(1), "d"))
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: got direction of shape [1]: its axis d is 1, but that of \
vectors is 4; expected tensors of one text and model, whose axes of one name have one size
    """
    sizes: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for name, (tensor, axes) in given.items():
        expect_axes(tensor, axes, name)
        for axis, size in _sizes(tensor, axes):
            if not _fits(size, sizes.setdefault(axis.removeprefix("#"), size), axis):
                raise _unfit(name, tensor, axis, size, owners, sizes)
            owners.setdefault(axis.removeprefix("#"), name)


def expect_groups(n_heads: int, n_shared: int, shared: str) -> int:
    """Number of query heads on each shared key or value; `MeasureError` unless it is a whole one.

    >>> expect_groups(6, 2, "value")
    3
    """
    if n_shared < 1 or n_heads % n_shared:
        raise MeasureError(
            f"got {n_heads} heads on {n_shared} {shared}s",
            f"expected heads in groups that share a {shared}: a multiple of {n_shared}",
        )
    return n_heads // n_shared


def _sizes(tensor: Tensor, axes: str) -> Iterator[tuple[str, Any]]:
    """Each axis by name with its size, or its sizes where the name stands for any number."""
    names, shape = axes.split(), tuple(tensor.shape)
    any_number = next((place for place, name in enumerate(names) if name[0] == "*"), len(names))
    behind = names[any_number + 1 :]
    yield from zip(names[:any_number], shape, strict=False)
    if any_number < len(names):
        end = len(shape) - len(behind)
        yield names[any_number][1:], shape[any_number:end]
        yield from zip(behind, shape[end:], strict=True)


def _fits(size: Any, first: Any, axis: str) -> bool:
    """Whether the sizes are those found first; with `#`, whether they are repeated along them."""
    if not axis.startswith("#"):
        return bool(size == first)
    pairs = zip(reversed(size), reversed(first), strict=False)
    return len(size) <= len(first) and all(own in (1, other) for own, other in pairs)


def _unfit(
    name: str,
    tensor: Tensor,
    axis: str,
    size: Any,
    owners: dict[str, str],
    sizes: dict[str, Any],
) -> MeasureError:
    plain = axis.removeprefix("#")
    own, other = (list(one) if isinstance(one, tuple) else one for one in (size, sizes[plain]))
    return MeasureError(
        f"got {name} of shape {list(tensor.shape)}: its axis {plain} is {own}, but that of "
        f"{owners.get(plain, name)} is {other}",
        "expected tensors of one text and model, whose axes of one name have one size",
    )
