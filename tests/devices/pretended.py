"""Devices that are not there: tensors that say they are elsewhere, and refuse to mix.

The numbers are the processor's own. What a real accelerator refuses is refused here too: an
operation on tensors of two devices, a tensor made by default on the processor among its operands,
`numpy()` of what was not moved back. So code that passes here mixes no devices on real ones.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from secondary_sinks import foreign
from secondary_sinks.models.original import read

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
"""What takes numbers from one device to another."""
INDEXED = {
    *(aten.index.Tensor, aten._unsafe_index.Tensor),
    *(aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default),
}
"""Where indices may stay on the processor."""
WITH_NUMBERS = {torch.where, torch.Tensor.where}
"""What torch makes numbers among the operands of into tensors, on a device that has no data."""
WHOLE = {
    torch.nn.functional.one_hot: torch.nn.functional.one_hot,
    torch.histc: lambda one, **options: torch.histc(one.float(), **options).to(one.dtype),
}
"""What looks at the data on the way, or is made on GPUs only for some dtypes."""
ATTENTION = torch.nn.functional.scaled_dot_product_attention
"""A kernel of its own on each device; on one without data, several operations."""
CPU = torch.device("cpu")
KINDS = ("cuda", "mps")
MEMORY = 10**10
LENS = "transformer_lens.HookedTransformer"


class Elsewhere(torch.Tensor):
    """A tensor of the processor (`held`) that says it is on another device.

    For torch itself, which knows no such device, it is one without data (meta).
    """

    held: torch.Tensor
    place: torch.device
    is_meta, is_cpu = False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, place: torch.device) -> "Elsewhere":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        options = {"dtype": held.dtype, "device": "meta", "requires_grad": held.requires_grad}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **layout, **options)
        made.held, made.place = held.detach(), place
        return made

    @property
    def is_cuda(self) -> bool:
        """Whether it says it is on a GPU of that kind."""
        return self.place.type == "cuda"

    @property
    def device(self) -> torch.device:
        """Where it says it is."""
        return self.place

    def __repr__(self) -> str:
        return f"{self.device}: {self.held!r}"

    def __getitem__(self, index: Any) -> Any:
        """Lists as tensors of the processor: torch would make ones without data of them."""
        return super().__getitem__(_as_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        """The same, of the value too."""
        known = isinstance(value, torch.Tensor)
        number = value if known else torch.tensor(value, dtype=self.dtype)
        super().__setitem__(_as_tensors(index), number)

    def tolist(self) -> Any:
        """As a real one gives it; torch does not do it for subclasses."""
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        """As a real one refuses it."""
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _as_tensors(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Moves(TorchFunctionMode):
    """`tensor.to(another)` goes where that one says it is, and `cuda` is cuda:0."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and len(args) == 2 and isinstance(args[1], Elsewhere):
            args = (args[0], args[1].device, args[1].dtype)
        if func in (torch.tensor, torch.as_tensor) and (place := (kwargs or {}).get("device")):
            return func(*args, **{**kwargs, "device": CPU}).to(place)
        if func in WHOLE and isinstance(args[0], Elsewhere):
            found = WHOLE[func](args[0].held, *args[1:], **(kwargs or {}))
            return Elsewhere(found, args[0].device)
        if func is ATTENTION and isinstance(args[0], Elsewhere):
            given = [*args[:3], (kwargs or {}).get("attn_mask")]
            _refuse_mixed(func, given, [one for one in given if one is not None])
            found = func(*map(_held, args), **tree_map(_held, kwargs or {}))
            return Elsewhere(found, args[0].device)
        if func in WITH_NUMBERS:
            args = tuple(torch.tensor(one) if isinstance(one, float) else one for one in args)
        if func is torch.device and isinstance(args[0], int):
            args = (f"cuda:{args[0]}",)
        if func is not torch.device:
            args, kwargs = tree_map(_with_index, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _type(one: Any) -> type:
    """What TransformerLens compares with `torch.Tensor`."""
    return torch.Tensor if isinstance(one, Elsewhere) else type(one)


def _load_weights(folder: Any, *, device_map: Any, **options: Any) -> Any:
    """Weights that are read straight to a device: accelerate would ask torch's CUDA library."""
    model, told = foreign.load_weights(folder, device_map=None, **options)
    return model.to(device_map[""]) if device_map else model, told


@contextmanager
def pretended() -> Iterator[None]:
    """While it lasts, tensors can be made on cuda:0, cuda:1, ... or mps, and moved to them.

    As many GPUs with as much memory as anybody looks for are there.
    """
    future, kept = torch.__future__, torch.__future__.get_overwrite_module_params_on_conversion()
    future.set_overwrite_module_params_on_conversion(True)  # or parameters would lose what is held
    free = {"mem_get_info": (MEMORY, MEMORY), "memory_allocated": 0, "device_count": 2}
    of_each = {"total_memory": MEMORY, "major": 7, "minor": 0}  # too old for special kernels
    free["get_device_properties"] = SimpleNamespace(**of_each)
    try:
        with ExitStack() as stack:
            stack.enter_context(patch.object(torch.cuda, "_lazy_init", lambda: None))
            for name, value in free.items():
                stack.enter_context(patch.object(torch.cuda, name, lambda *_, value=value: value))
            if LENS in sys.modules:
                stack.enter_context(patch.object(sys.modules[LENS], "type", _type, create=True))
            stack.enter_context(patch.object(read, "load_weights", _load_weights))
            stack.enter_context(_Moves())
            stack.enter_context(_Mode())
            yield
    finally:
        future.set_overwrite_module_params_on_conversion(kept)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    flat, shape = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, torch.Tensor)]
    target = kwargs.get("device")
    if target is not None and target.type == "meta":  # of a new tensor like another
        target = _common(tensors, otherwise=target)
    if func not in COPIES:
        _refuse_mixed(func, args, tensors)
    where = target or _common(tensors)
    owners = {id(one.held): one for one in tensors if isinstance(one, Elsewhere)}
    args, kwargs = tree_unflatten([_held(one) for one in flat], shape)
    if target is not None:
        kwargs["device"] = CPU if target.type != "meta" else target
    found = func(*args, **kwargs)

    def owned(one: Any) -> Any:
        if not isinstance(one, torch.Tensor) or where.type in ("cpu", "meta"):
            return one
        if where.type == "mps" and one.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        if id(one) not in owners:
            return Elsewhere(one, where)
        owner = owners[id(one)]
        assert owner.shape == one.shape, f"{func} changes the shape in place"
        return owner

    return tree_map(owned, found)


def _held(one: Any) -> Any:
    return one.held if isinstance(one, Elsewhere) else one


def _with_index(one: Any) -> Any:
    """A device as its tensors name it; all else as it is."""
    known = isinstance(one, str | torch.device)
    kind = next((kind for kind in KINDS if known and str(one) == kind), None)
    return one if kind is None else torch.device(kind, 0)


def _common(tensors: list[torch.Tensor], otherwise: torch.device = CPU) -> torch.device:
    """Where the first tensor is that is not on the processor."""
    return next((one.device for one in tensors if one.device != CPU), otherwise)


def _refuse_mixed(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raise what torch raises where operands are on several devices."""
    if func in INDEXED:
        placed, indices = [args[0], *args[2:3]], [one for one in args[1] if one is not None]
        if any(one.device not in (CPU, args[0].device) for one in indices):
            raise RuntimeError("indices should be on the cpu or on the device of what is indexed")
        tensors = [one for one in placed if isinstance(one, torch.Tensor)]
        scalars = True
    else:
        tags = getattr(func, "tags", ())
        scalars = torch.Tag.pointwise in tags or getattr(func, "overloadpacket", None) is aten.fill_
    places = {
        one.device for one in tensors if not (scalars and one.ndim == 0 and one.device == CPU)
    }
    if len(places) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device; {func}: {places}")
