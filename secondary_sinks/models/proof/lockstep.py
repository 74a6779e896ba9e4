"""A hooked model in lockstep with an original: each layer is handed what the original's was."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from secondary_sinks.layerwise.protocol import Hook, is_bridge
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.disturbed import disturb
from secondary_sinks.models.proof.expected import (
    PROBE_LENGTH,
    Expected,
    States,
    bounds_from,
    probe_tokens,
)


def lockstep(
    model: Any,
    probe: Int[Tensor, "1 pos"],
    given: Mapping[str, Float[Tensor, "first d_model"]],
    edits: Sequence[Hook] = (),
) -> tuple[States, list[Float[Tensor, "head pos"]]]:
    """What each layer gives, by the names of `Expected.states`; sums of rows of each pattern.

    What comes out of a layer goes no further where there is a `given` state of that name: its
    first positions, as many as are given, are replaced by those.
    """
    states: States = {}
    sums: list[Tensor] = []

    def pass_on(name: str) -> Callable[..., Tensor | None]:
        def hook(residual: Tensor, hook: Any) -> Tensor | None:
            states[name] = residual[0].detach().clone().cpu()
            if name not in given:
                return None
            replaced, first = residual.clone(), given[name]
            replaced[0, : len(first)] = first.to(residual)
            return replaced

        return hook

    def on_pattern(pattern: Tensor, hook: Any) -> None:
        sums.append(pattern[0].float().sum(-1).cpu())

    layers = range(model.cfg.n_layers)
    names = [hook_name(layer, point) for layer in layers for point in ("resid_pre", "resid_post")]
    hooks: list[Hook] = [(name, pass_on(name)) for name in names]
    hooks += [(hook_name(layer, "pattern"), on_pattern) for layer in layers]
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, *edits]):
        logits = model(probe.to(model.cfg.device))
    return states | {"logits": logits[0].detach().cpu()}, sums


def expect_itself(model: Any) -> Expected:
    """A hooked model taken for its own original; how far it sees is not looked at."""
    probe = probe_tokens(model.cfg.d_vocab, min(PROBE_LENGTH, model.cfg.n_ctx))
    states, _ = lockstep(model, probe, {})
    # A bridge takes a change at some of its points for an edit, and computes in another way then.
    with disturb(model, without=HookPoint if is_bridge(model) else ()):
        moved, _ = lockstep(model, probe, states)
    return Expected(
        probe=probe, states=states, bounds=bounds_from(states, moved), far=0, visible=()
    )
