"""Run a hooked model in lockstep with an original: each layer gets the original layer's input."""

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
    """Output of each layer, named as in `Expected.states`, and row sums of each layer's pattern.

    The output of a layer is recorded, and its first positions are then replaced by the `given`
    state of that name before the next layer reads it.
    """
    states: States = {}
    row_sums: list[Tensor] = []

    def record(name: str) -> Callable[..., Tensor | None]:
        def hook(residual: Tensor, hook: Any) -> Tensor | None:
            states[name] = residual[0].detach().clone().cpu()
            if name not in given:
                return None
            replaced, first = residual.clone(), given[name]
            replaced[0, : len(first)] = first.to(residual)
            return replaced

        return hook

    def on_pattern(pattern: Tensor, hook: Any) -> None:
        row_sums.append(pattern[0].float().sum(-1).cpu())

    layers = range(model.cfg.n_layers)
    names = [hook_name(layer, point) for layer in layers for point in ("resid_pre", "resid_post")]
    hooks: list[Hook] = [(name, record(name)) for name in names]
    hooks += [(hook_name(layer, "pattern"), on_pattern) for layer in layers]
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, *edits]):
        logits = model(probe.to(model.cfg.device))
    return states | {"logits": logits[0].detach().cpu()}, row_sums


def expect_itself(model: Any) -> Expected:
    """States of a hooked model that has no original: its own. Its windows are not checked."""
    probe = probe_tokens(model.cfg.d_vocab, min(PROBE_LENGTH, model.cfg.n_ctx))
    states, _ = lockstep(model, probe, {})
    # A bridge treats a change at some of its hook points as an edit, and then computes differently.
    with disturb(model, without=HookPoint if is_bridge(model) else ()):
        disturbed, _ = lockstep(model, probe, states)
    return Expected(
        probe=probe, states=states, bounds=bounds_from(states, disturbed), far=0, n_visible=()
    )
