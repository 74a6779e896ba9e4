"""Tensor -> tensor: what other projects import. No model, no disk.

from secondary_sinks.measures import attention_mass
mass = attention_mass(cache["blocks.5.attn.hook_pattern"][0])
"""

from secondary_sinks.measures.attention import (
    attention_mass,
    local_mass,
    mass_excess,
    received_attention,
    seeing_queries,
    uniform_mass,
)
from secondary_sinks.measures.geometry import (
    alignment,
    centred_alignment,
    is_ordinary,
    norms,
    typical_token,
)
from secondary_sinks.measures.scores import mean_score
from secondary_sinks.measures.softmax import Denominator, attention_to_replaced_key

__all__ = [
    "Denominator",
    "alignment",
    "attention_mass",
    "attention_to_replaced_key",
    "centred_alignment",
    "is_ordinary",
    "local_mass",
    "mass_excess",
    "mean_score",
    "norms",
    "received_attention",
    "seeing_queries",
    "typical_token",
    "uniform_mass",
]
