"""Activations of a text by hook name: in the clean run, and in edited runs of its cells."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from secondary_sinks.errors import HookError, expected_one_of
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name

Seen = dict[str, list[Tensor]]


class Activations(dict[str, Tensor]):
    """Activations by hook name; one that was not recorded is refused by name."""

    def __missing__(self, name: object) -> Tensor:
        """Raise `HookError`; its message lists the recorded activations."""
        raise HookError(
            f"the metric reads {name!r}, which was not recorded",
            f"add its full name, such as 'blocks.5.hook_resid_post', to names={list(self)}",
        )


class Recorded:
    """Records hook points whose activations have one row per token."""

    def __init__(self, model: HookedModel, names: Sequence[str]) -> None:
        """Nothing is recorded yet. Raises `HookError` for hook points that cannot be recorded."""
        for name in names:
            if name not in model.hook_dict:
                remedy = expected_one_of(_usable(model, name), name)
                raise HookError(f"this model has no hook point {name!r}", remedy)
            if not _has_rows(name):
                raise HookError(
                    f"{name!r} does not have one row per token of a layer, so it is not recorded",
                    "read states or outputs of layers, or take attention mass from `recompute`",
                )
        self.names = tuple(names)
        self.clean: dict[str, Tensor] = {}
        self.edited: dict[int, dict[str, Tensor]] = {}

    def hooks(self, layer: int, seen: Seen) -> list[Hook]:
        """Hooks that append what they see, chunk by chunk, to `seen`."""

        def keep(name: str) -> Hook:
            return name, lambda tensor, hook: seen.setdefault(name, []).append(tensor.detach())

        return [keep(name) for name in self.names if name.startswith(f"blocks.{layer}.")]

    def note_clean(self, seen: Seen) -> None:
        """Keep the clean activations of a layer."""
        self.clean |= {name: torch.cat(parts, 1)[0] for name, parts in seen.items()}

    def note(self, number: int, index: int, seen: Seen) -> None:
        """Keep the continuation of a cell in one layer: row `index` of what was seen."""
        for name, parts in seen.items():
            rest = torch.cat([part[index] for part in parts])
            whole = torch.cat([self.clean[name][: -len(rest)], rest])
            self.edited.setdefault(number, {})[name] = whole

    def enter(self, number: int, pos: int, rows: dict[str, Tensor]) -> None:
        """Keep an edited token in the layer of its first edit, in which all others are clean."""
        mine = self.edited.setdefault(number, {})
        for name, row in rows.items():
            mine[name] = mine.get(name, self.clean[name]).clone()
            mine[name][pos] = row

    def of(self, number: int | None = None) -> dict[str, Tensor]:
        """The activations `[1, pos, ...]` of a cell's run, or of the clean one."""
        missing = [name for name in self.names if name not in self.clean]
        if missing:
            raise HookError(f"hook point {missing[0]!r} never fires in this model")
        mine = {} if number is None else self.edited.get(number, {})
        return Activations({name: mine.get(name, self.clean[name])[None] for name in self.names})


def _has_rows(name: str) -> bool:
    layer, _, point = name.removeprefix("blocks.").partition(".")
    no_rows = ("hook_pattern", "hook_attn_scores", "hook_result")
    return name.startswith("blocks.") and layer.isdigit() and not point.endswith(no_rows)


def _usable(model: Any, like: str) -> list[str]:
    """Hook points that exist in a layer; of the layer in a name, if it has one."""
    layer = like.split(".")[1] if like.count(".") > 1 and like.split(".")[1].isdigit() else "0"
    points = ("resid_pre", "attn_out", "mlp_out", "resid_post", "z", "q", "k", "v", "post")
    names = [hook_name(int(layer), point) for point in points]
    return [name for name in names if name in model.hook_dict]
