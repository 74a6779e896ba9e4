"""Sinks made up by hand: what parts add up to does not depend on whether it is one."""

import torch

from secondary_sinks import observe
from secondary_sinks.models.convert import to_hooked
from secondary_sinks.models.loud import to_bridge
from secondary_sinks.testing.families import configs, tiny
from secondary_sinks.types import Sink, SinkTable
from tests.marks import thinned
from tests.mechanisms import OF_ATTENTION

TOKENS = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))
MOE = ("gpt-oss", "qwen3-moe", "qwen3-moe-unnormed")
BRIDGED = ("gemma2", "gemma3", "gpt-oss", "gpt2", "llama", "olmo2", "phi3", "pythia", "qwen3-moe")
CASES = thinned(
    [(name, "hooked") for name in sorted(configs())] + [(name, "bridge") for name in BRIDGED],
    [(name, "hooked") for name in (*OF_ATTENTION, "gemma2", "olmo2")] + [("gemma3", "bridge")],
)


def sink_at(trace, pos, layers, kind="secondary"):
    return Sink(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token="",
        kind=kind,
        criterion="joint",
        l_start=layers[0],
        l_end=layers[-1],
        lifetime=len(layers),
        layers=tuple(layers),
        level=0.0,
        censored="none",
        alignment_max=1.0,
        alignment_centred_max=1.0,
        norm_max=1.0,
        norm_ratio_max=1.0,
        mass_max=1.0,
        mass_excess_max=1.0,
    )


def made_up(trace):
    return SinkTable(sinks=(sink_at(trace, 7, [0]), sink_at(trace, 21, [1])))


def family(name, kind):
    """A model of random weights, a trace of it, and the cache of a plain run."""
    return family_of(tiny(name), name, kind)


def family_of(original, name, kind):
    """The same of a Hugging Face model that is there already."""
    bridge = kind == "bridge"
    model = to_bridge(original, None, name) if bridge else to_hooked(original, None, name, "cpu")
    trace = observe(model, TOKENS)
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS[None])
    return model, trace, cache
