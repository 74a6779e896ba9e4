"""States of an original on a probe text, and how far rounding may move them.

They are computed before the model is hooked, so that the original need not be kept. The effect of
rounding is measured in `proof.disturbed`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.hf_layers import decoder_layers, n_visible_keys
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.configs import context_length
from secondary_sinks.models.proof.disturbed import disturb, disturbance

PROBE_LENGTH = 48
LONGEST_WINDOW = 1024
"""The probe text is longer than a sliding window of up to this length; of longer windows only the
mask is compared."""

States = dict[str, Float[Tensor, "pos _"]]
Bounds = dict[str, Float[Tensor, "pos"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Probe text, states and masks of an original."""

    probe: Int[Tensor, "1 pos"]
    states: States
    """`resid_pre` and `resid_post` of every layer, and the logits, by hook name, in the dtype of
    the model."""
    bounds: Bounds
    """Largest allowed difference from each state, by name and position."""
    far: int
    """A position beyond every sliding window, or the last position of the context."""
    n_visible: tuple[int, ...]
    """Number of keys that a query at `far` sees, by layer."""


def expect(hf_model: Any) -> Expected:
    """Run the original on a probe text, which is longer than its sliding window if possible."""
    n_ctx = context_length(hf_model.config)
    window = int(getattr(hf_model.config, "sliding_window", None) or 0)
    length = PROBE_LENGTH + (window if window <= LONGEST_WINDOW else 0)
    probe = probe_tokens(hf_model.config.vocab_size, min(length, n_ctx))
    far = min(window + PROBE_LENGTH, n_ctx) - 1
    with _evaluation_mode(hf_model):
        states = original_states(hf_model, probe)
        with disturb(hf_model):
            disturbed = original_states(hf_model, probe, states)
        n_visible = n_visible_keys(hf_model.base_model, decoder_layers(hf_model), far)
    return Expected(
        probe=probe,
        states=states,
        bounds=bounds_from(states, disturbed),
        far=far,
        n_visible=tuple(n_visible),
    )


def bounds_from(states: States, disturbed: States) -> Bounds:
    """Largest change of each position by disturbing every part, plus a disturbance of the state.

    The second term gives a bound to layers that reproduce perfectly. It is the whole bound where
    half precision overflowed only because of the disturbance.
    """
    return {
        name: largest_difference(disturbed[name], state).nan_to_num(0, posinf=0)
        + disturbance(state.dtype) * state.abs().amax(-1).double()
        for name, state in states.items()
    }


def largest_difference(ours: Float[Tensor, "*pos d"], theirs: Float[Tensor, "*pos d"]) -> Tensor:
    """Largest absolute difference at each position, in float64."""
    return (ours.double() - theirs.double()).abs().amax(-1)


@contextmanager
def _evaluation_mode(hf_model: Any) -> Iterator[None]:
    """A context in which the model uses eager attention and no dropout, like the hooked model."""
    implementation, training = hf_model.config._attn_implementation, hf_model.training
    hf_model.set_attn_implementation("eager")
    hf_model.eval()
    try:
        yield
    finally:
        hf_model.set_attn_implementation(implementation)
        hf_model.train(training)


def probe_tokens(d_vocab: int, length: int) -> Int[Tensor, "1 pos"]:
    """Random token ids from the whole vocabulary, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(d_vocab, (1, length), generator=generator)


def original_states(
    hf_model: Any, tokens: Int[Tensor, "1 pos"], given: Mapping[str, Tensor] | None = None
) -> States:
    """Residuals and logits of a Hugging Face model, in the order in which they are computed.

    With `given` states, each layer and the unembedding get these as their input, instead of the
    output of the layer before.
    """
    states: States = {}
    layers = decoder_layers(hf_model)

    def record(point: str, layer: int, value: Tensor) -> Tensor:
        name = hook_name(layer, point)
        states[name] = value[0].detach().clone().cpu()
        return value if given is None else given[name][None].to(value)

    def input_hook(layer: int) -> Any:
        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            if args:
                return (record("resid_pre", layer, args[0]), *args[1:]), kwargs
            hidden = record("resid_pre", layer, kwargs["hidden_states"])
            return args, kwargs | {"hidden_states": hidden}

        return hook

    def output_hook(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (record("resid_post", layer, output[0]), *output[1:])
            return record("resid_post", layer, output)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for index, module in enumerate(layers):
            before = module.register_forward_pre_hook(input_hook(index), with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(module.register_forward_hook(output_hook(index)).remove)
        logits = hf_model(tokens.to(hf_model.device), use_cache=False).logits
    return states | {"logits": logits[0].cpu()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two computations of one state, at one position."""

    pos: int
    error: float
    """Largest absolute difference, relative to the largest element at this position."""
    share: float
    """Largest absolute difference, relative to its bound; more than 1 is a disagreement."""


Agreements = dict[str, Agreement]


def compare(ours: States, theirs: States, bounds: Bounds, *, median: bool = False) -> Agreements:
    """Agreement of each state that both have, by name, in the order of `theirs`.

    It is that of the worst position or, with `median`, of the median position.
    """
    return {
        name: _agreement(ours[name], state, bounds[name], median)
        for name, state in theirs.items()
        if name in ours
    }


def _agreement(
    ours: Tensor, theirs: Tensor, bound: Float[Tensor, "pos"], median: bool
) -> Agreement:
    difference = largest_difference(ours, theirs)
    shares = torch.where(difference == 0, 0.0, difference / bound)
    ranked = shares.argsort()  # NaN last
    pos = int(ranked[(len(ranked) - 1) // 2 if median else -1])
    error = relative_error(ours[pos].double(), theirs[pos].double())
    return Agreement(pos=pos, error=error, share=float(shares[pos]))


def relative_error(ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]) -> float:
    """Maximum over positions of max|ours - theirs| / max|theirs|.

    It is relative to each position, so that one massive token cannot hide errors at others.
    """
    return float(((ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)).max())
