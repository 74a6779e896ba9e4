"""What an original computes on a probe text, kept so that the original itself need not be.

And how far rounding may move each state: see `models.disturbed`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.hf_layers import decoder_layers, visible_keys
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.configs import context_length
from secondary_sinks.models.proof.disturbed import disturb, disturbance

PROBE_LENGTH = 48
LONGEST_WINDOW = 1024
"""A window up to this long is walked past by the probe; of a longer one the mask is compared."""

States = dict[str, Float[Tensor, "pos _"]]
Bounds = dict[str, Float[Tensor, "pos"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Probe, states and masks of an original."""

    probe: Int[Tensor, "1 pos"]
    states: States
    """`resid_pre` and `resid_post` of every layer, and the logits, by hook name, in the dtype of
    the model."""
    bounds: Bounds
    """By name: how far the largest element of each position may be from that state."""
    far: int
    """A position past every sliding window, or the last one that the model can see."""
    visible: tuple[int, ...]
    """How many keys a query at `far` sees, by layer."""


def expect(hf_model: Any) -> Expected:
    """Run the original on a probe that walks past its sliding window, if that is not too long."""
    n_ctx = context_length(hf_model.config)
    window = int(getattr(hf_model.config, "sliding_window", None) or 0)
    length = PROBE_LENGTH + (window if window <= LONGEST_WINDOW else 0)
    probe = probe_tokens(hf_model.config.vocab_size, min(length, n_ctx))
    far = min(window + PROBE_LENGTH, n_ctx) - 1
    with _as_measured(hf_model):
        states = original_states(hf_model, probe)
        with disturb(hf_model):
            moved = original_states(hf_model, probe, states)
        visible = visible_keys(hf_model.base_model, decoder_layers(hf_model), far)
    return Expected(
        probe=probe,
        states=states,
        bounds=bounds_from(states, moved),
        far=far,
        visible=tuple(visible),
    )


def bounds_from(states: States, moved: States) -> Bounds:
    """How far a disturbance of every part has moved each position, and one of the state itself.

    The second is there so that a layer which reproduces perfectly has a bound all the same, and is
    all there is where half precision overflowed only because it was disturbed.
    """
    return {
        name: distance(moved[name], state).nan_to_num(0, posinf=0)
        + disturbance(state.dtype) * _largest(state)
        for name, state in states.items()
    }


def distance(ours: Float[Tensor, "*pos d"], theirs: Float[Tensor, "*pos d"]) -> Tensor:
    """Largest absolute difference at each position, in float64."""
    return (ours.double() - theirs.double()).abs().amax(-1)


def _largest(state: Float[Tensor, "*pos d"]) -> Tensor:
    return state.abs().amax(-1).double()


@contextmanager
def _as_measured(hf_model: Any) -> Iterator[None]:
    """Within, the model is as ours will be: eager attention, no dropout."""
    implementation, training = hf_model.config._attn_implementation, hf_model.training
    hf_model.set_attn_implementation("eager")
    hf_model.eval()
    try:
        yield
    finally:
        hf_model.set_attn_implementation(implementation)
        hf_model.train(training)


def probe_tokens(d_vocab: int, length: int) -> Int[Tensor, "1 pos"]:
    """Token ids spread over the vocabulary, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(d_vocab, (1, length), generator=generator)


def original_states(
    hf_model: Any, tokens: Int[Tensor, "1 pos"], given: Mapping[str, Tensor] | None = None
) -> States:
    """Residuals and logits of a Hugging Face model, in the order in which they are computed.

    With `given` states, each layer and the unembedding are handed those instead of what came out
    before: what each makes of the same input.
    """
    states: States = {}
    layers = decoder_layers(hf_model)

    def passed_on(point: str, layer: int, value: Tensor) -> Tensor:
        name = hook_name(layer, point)
        states[name] = value[0].detach().clone().cpu()
        return value if given is None else given[name][None].to(value)

    def entering(layer: int) -> Any:
        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            if args:
                return (passed_on("resid_pre", layer, args[0]), *args[1:]), kwargs
            own = passed_on("resid_pre", layer, kwargs["hidden_states"])
            return args, kwargs | {"hidden_states": own}

        return hook

    def leaving(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (passed_on("resid_post", layer, output[0]), *output[1:])
            return passed_on("resid_post", layer, output)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for index, module in enumerate(layers):
            before = module.register_forward_pre_hook(entering(index), with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(module.register_forward_hook(leaving(index)).remove)
        logits = hf_model(tokens.to(hf_model.device), use_cache=False).logits
    return states | {"logits": logits[0].cpu()}
