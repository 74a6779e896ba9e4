"""Which variant of `testing.families` stands for which mechanism of an architecture.

`make test` runs the variants of `MECHANISMS`; `make test-all` runs every other one too, whose
mechanisms are proven by the variants that `LIKE` names.
"""

from secondary_sinks.testing.families import configs
from tools.conformance import model_classes

MECHANISMS = {
    "llama": "grouped queries, rope, a gated MLP",
    "llama3.1": "a rope whose frequencies are scaled one by one",
    "qwen2.5": "biases of queries, keys and values",
    "qwen2-window": "windows in some of the layers",
    "qwen2-yarn": "a rope that scales scores",
    "qwen3": "norms of queries and keys; heads wider than d_model / n_heads",
    "qwen3-moe": "experts",
    "phi4-mini-longrope": "joined projections, partial rotation by a long rope, tied embeddings",
    "gpt-oss": "learned sinks; experts with biases",
    "gemma2": "soft caps; scaled embeddings",
    "gemma3": "two ropes; norms before and after each sublayer",
    "olmo2": "norms only after each sublayer",
    "smollm3": "layers without a rope",
    "gpt2": "learned positions, LayerNorm, transposed weights, as many keys as queries",
    "pythia": "attention and MLP in parallel",
}
LIKE = {
    "qwen2": ("qwen2.5", "phi4-mini-longrope"),
    "qwen2-mha": ("qwen2.5", "gpt2"),
    "qwen2.5-math": ("qwen2.5",),
    "qwq": ("qwen2.5",),
    "deepseek-r1-qwen": ("qwen2.5",),
    "deepseek-r1-llama": ("llama3.1",),
    "qwen3-mha": ("qwen3", "gpt2"),
    "qwen3-moe-unnormed": ("qwen3-moe",),
    "llama-2": ("llama", "gpt2"),
    "llama-3": ("llama",),
    "codellama": ("llama", "gpt2"),
    "llama-mha-tied": ("llama", "gpt2", "phi4-mini-longrope"),
    "llama-linear-rope": ("llama3.1", "gemma3"),
    "llama-wide-heads": ("llama", "qwen3"),
    "mistral": ("llama",),
    "mistral-window": ("qwen2-window",),
    "mathstral": ("llama",),
    "phi3": ("phi4-mini-longrope",),
    "phi3-partial-rotary": ("phi4-mini-longrope", "pythia"),
    "phi-4": ("phi4-mini-longrope",),
    "gpt2-scaled-by-layer": ("gpt2",),
    "neox-sequential": ("pythia", "gpt2"),
}

CASES = [(variant, kind) for variant in configs() for kind in model_classes()]
"""Every variant, as every class that the installed TransformerLens has."""
ALTERNATING = [
    (variant, model_classes()[number % len(model_classes())])
    for number, variant in enumerate(MECHANISMS)
]
"""Every mechanism once, by turns as one class and as the other."""
OF_ATTENTION = ("qwen2-window", "qwen3-moe", "phi4-mini-longrope", "gpt-oss", "gemma3")
OF_ATTENTION += ("gpt2", "pythia")
"""Variants between which all mechanisms are found that an edit of a token meets: grouped and full
queries, windows, learned sinks, experts, joined projections, norms after a sublayer, parallel."""
