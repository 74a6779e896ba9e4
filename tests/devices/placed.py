"""Ways to put a model on devices that are not there, as users load it."""

import accelerate
from transformers import AutoModelForCausalLM

from secondary_sinks import load_model
from secondary_sinks.layerwise.hf_layers import decoder_layers
from tests.marks import OLD


def _hooked(folder):
    return load_model(folder, device="cuda", bridge=False)


def _hooked_over_two(folder):
    return load_model(folder, device="cuda", bridge=False, n_devices=2)


def _bridge(folder):
    return load_model(folder, device="cuda", bridge=True)


def _hooked_on_mps(folder):
    return load_model(folder, device="mps", bridge=False)


def _bridge_on_mps(folder):
    return load_model(folder, device="mps", bridge=True)


def over_two(folder):
    """The original: the first layer and what is before it on one GPU, all else on another."""
    original = AutoModelForCausalLM.from_pretrained(folder)
    names = {module: name for name, module in original.named_modules()}
    layers = decoder_layers(original)
    places = {
        name: "cuda:1"
        for name in (n for n, m in original.named_modules() if not list(m.children()))
        if not name.startswith(f"{names[layers]}.")
    }
    places[names[original.get_input_embeddings()]] = "cuda:0"
    places |= {names[layer]: f"cuda:{min(at, 1)}" for at, layer in enumerate(layers)}
    return accelerate.dispatch_model(original, places)


def _bridge_over_two(folder):
    return load_model(over_two(folder))


PLACED = {
    "bridge": _bridge,
    "bridge over two": _bridge_over_two,
    "bridge on mps": _bridge_on_mps,
}
if OLD:
    PLACED |= {
        "hooked": _hooked,
        "hooked over two": _hooked_over_two,
        "hooked on mps": _hooked_on_mps,
    }
