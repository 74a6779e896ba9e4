"""A `TransformerBridge` that raises an error where a plain one is silently wrong.

Silent mistakes of a bridge, in TransformerLens 3.9 and 4.3 (`tests/models/test_loud.py`):

* a hook on a name that does not exist is ignored (3.9);
* a filter that matches no name caches nothing (3.9), or hooks nothing (both);
* `hook_rot_q` and `hook_rot_k` exist but never fire if queries, keys and values come from one
  matrix (Phi-3 and 4, GPT-NeoX);
* a write to `hook_resid_mid` changes what the MLP reads, not the residual;
* `past_kv_cache=`, the cache argument of `HookedTransformer`, is ignored.
"""

import copy
import difflib
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from secondary_sinks.errors import HookError, UnsupportedModelError, reason
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.configs import architecture_of, context_length
from secondary_sinks.models.original.tokenizer import attach_tokenizer

Names = str | Callable[[str], bool]
READ_ONLY = ("hook_resid_mid", "ln2.hook_in")
IGNORED = ("past_kv_cache", "past_left_attention_mask", "shortformer_pos_embed")
"""Arguments of `HookedTransformer.forward` that a bridge accepts and ignores."""
MAY_BE_DEAD = ("rot_q", "rot_k")


class LoudBridge(TransformerBridge):
    """A `TransformerBridge` whose silent mistakes raise `HookError`."""

    @property
    def hook_dict(self) -> dict[str, Any]:
        """All hook points by name, as in a plain bridge, but cached until some are added.

        A plain bridge resolves every alias again on each call, in 20 ms for 30 layers.
        """
        cached = vars(self).get("_cached_points")
        if cached is None or cached[0] != len(self._hook_registry):
            cached = (len(self._hook_registry), super().hook_dict)
            object.__setattr__(self, "_cached_points", cached)
        return dict(cached[1])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As in a plain bridge; refuses arguments that would be ignored."""
        ignored = [name for name in IGNORED if kwargs.get(name) is not None]
        if ignored:
            raise HookError(
                f"a TransformerBridge ignores {ignored[0]!r}, an argument of HookedTransformer; "
                "expected past_key_values=DynamicCache() of transformers, which grows in place"
            )
        return super().forward(*args, **kwargs)

    def hooks(
        self, fwd_hooks: Iterable[Any] = (), bwd_hooks: Iterable[Any] = (), **kwargs: Any
    ) -> Any:
        """As in a plain bridge; refuses hooks that would do nothing."""
        checked = (self._check_hooks(fwd_hooks), self._check_hooks(bwd_hooks))
        return super().hooks(*checked, **kwargs)

    def run_with_hooks(
        self,
        *args: Any,
        fwd_hooks: Iterable[Any] = (),
        bwd_hooks: Iterable[Any] = (),
        **kwargs: Any,
    ) -> Any:
        """As in a plain bridge; refuses hooks that would do nothing."""
        hooks = {
            "fwd_hooks": self._check_hooks(fwd_hooks),
            "bwd_hooks": self._check_hooks(bwd_hooks),
        }
        return super().run_with_hooks(*args, **hooks, **kwargs)

    def run_with_cache(self, *args: Any, names_filter: Any = None, **kwargs: Any) -> Any:
        """As in a plain bridge; refuses a filter that would cache nothing."""
        one = isinstance(names_filter, str) or callable(names_filter)
        for names in [names_filter] if one else names_filter or []:
            self._check_name(names)
        return super().run_with_cache(*args, names_filter=names_filter, **kwargs)

    def add_hook(self, name: Names, hook_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As in a plain bridge; refuses a hook that would do nothing."""
        ((name, hook_fn),) = self._check_hooks([(name, hook_fn)])
        return super().add_hook(name, hook_fn, *args, **kwargs)

    def _check_hooks(self, hooks: Iterable[Any]) -> list[tuple[Names, Callable[..., Any]]]:
        checked = []
        for names, function in hooks:
            self._check_name(names)
            checked.append((names, _refuse_writes(function)))
        return checked

    def _check_name(self, names: Names) -> None:
        if callable(names):
            if not any(names(name) for name in self.hook_dict):
                raise HookError("the filter matches no hook point", "see model.hook_dict for names")
            return
        if names in self.__dict__.get("_dead_points", ()):
            raise HookError(
                f"{names!r} never fires in this model, whose queries, keys and values come from "
                "one matrix",
                "expected hook_q or hook_k, which are before the rotation",
            )
        if self.get_hook_point(names) is None and names not in self.hook_dict:
            similar = difflib.get_close_matches(names, list(self.hook_dict), n=2)
            hint = f" (did you mean {' or '.join(similar)}?)" if similar else ""
            raise HookError(f"the model has no hook point {names!r}{hint}", "see model.hook_dict")


def make_loud(bridge: Any) -> Any:
    """Make a bridge loud, in place; one forward pass finds out which points never fire."""
    names = [
        hook_name(layer, point) for layer in range(bridge.cfg.n_layers) for point in MAY_BE_DEAD
    ]
    existing = [name for name in names if name in bridge.hook_dict]
    fired: set[str] = set()
    hooks = [(name, lambda tensor, hook, name=name: fired.add(name)) for name in existing]
    with torch.no_grad(), TransformerBridge.hooks(bridge, fwd_hooks=hooks):
        bridge(torch.zeros(1, 2, dtype=torch.long, device=bridge.cfg.device))
    bridge.__class__ = LoudBridge
    object.__setattr__(bridge, "_dead_points", frozenset(existing) - fired)
    return bridge


def _refuse_writes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same hook function; raises `HookError` if it writes to a point that is read-only."""

    @wraps(function)
    def guarded(tensor: Tensor, hook: Any) -> Any:
        if not str(hook.name).endswith(READ_ONLY):
            return function(tensor, hook=hook)
        before = tensor.clone()
        result = function(tensor, hook=hook)
        if not _equal(before, tensor) or (result is not None and not _equal(before, result)):
            raise HookError(
                "a write to hook_resid_mid of a TransformerBridge changes what the MLP reads, not "
                "the residual",
                "write to hook_attn_out or hook_resid_pre instead",
            )
        return None

    return guarded


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def to_bridge(hf_model: Any, tokenizer: Any, name: str) -> Any:
    """A `TransformerBridge` around `hf_model`, which becomes part of it and stays on its devices.

    Weights are neither converted nor copied. Raises `UnsupportedModelError` if TransformerLens has
    no bridge for the architecture.
    """
    hf_model.eval().set_attn_implementation("eager")  # other implementations compute no pattern
    architecture = architecture_of(hf_model)
    config = copy.deepcopy(hf_model.config)
    if not hasattr(config, "pad_token_id"):
        config.pad_token_id = None
    try:
        bridge = build_bridge_from_module(
            hf_model, architecture, hf_config=config, model_name=name, tokenizer=None
        )
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(
            f"TransformerLens has no bridge for architecture {architecture!r}: {reason(error)}"
        ) from error
    bridge.cfg.n_ctx = context_length(hf_model.config)
    attach_tokenizer(bridge, tokenizer)
    return make_loud(bridge)
