"""Measures of attention patterns and residuals: plain functions of tensors, for any project.

Importing this package imports torch, einops and jaxtyping, and nothing else that is heavy. Each
measure takes tensors of one text with named axes; `measures.cached` has the same measures for the
activations in a cache.

    from secondary_sinks.measures import attention_mass, cached

    mass = attention_mass(cache["blocks.5.attn.hook_pattern"][0])
    mass = cached.attention_mass(cache, 5)  # the same
"""

from secondary_sinks.measures.attention import (
    attention_mass,
    head_mass,
    local_mass,
    mass_excess,
    paid_attention,
    received_attention,
    seeing_queries,
    sink_share,
    uniform_mass,
    virtual_mass,
)
from secondary_sinks.measures.contributions import (
    LayerContributions,
    layer_contributions,
    neuron_contributions,
    projection,
)
from secondary_sinks.measures.entropy import matrix_entropy, prefix_entropies
from secondary_sinks.measures.from_qk import mass_from_qk, received_from_qk
from secondary_sinks.measures.geometry import (
    alignment,
    centred_alignment,
    deviation_ratio,
    is_ordinary,
    norm_ratio,
    norms,
    typical_token,
)
from secondary_sinks.measures.massive import massive_activations
from secondary_sinks.measures.outputs import from_outputs
from secondary_sinks.measures.scores import mean_score
from secondary_sinks.measures.softmax import Denominator, attention_to_replaced_key
from secondary_sinks.measures.values import value_drain

__all__ = [
    "Denominator",
    "LayerContributions",
    "alignment",
    "attention_mass",
    "attention_to_replaced_key",
    "centred_alignment",
    "deviation_ratio",
    "from_outputs",
    "head_mass",
    "is_ordinary",
    "layer_contributions",
    "local_mass",
    "mass_excess",
    "mass_from_qk",
    "massive_activations",
    "matrix_entropy",
    "mean_score",
    "neuron_contributions",
    "norm_ratio",
    "norms",
    "paid_attention",
    "prefix_entropies",
    "projection",
    "received_attention",
    "received_from_qk",
    "seeing_queries",
    "sink_share",
    "typical_token",
    "uniform_mass",
    "value_drain",
    "virtual_mass",
]
