"""Hooked model + traces + sinks -> an `Answer`: the causal questions, each with its controls.

Each takes `progress`, which is called with (texts done, texts) on the way.
"""

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.claims import n_claims_of
from secondary_sinks.questions.cost import Cost, costs
from secondary_sinks.questions.dose import norm_dose
from secondary_sinks.questions.forming import Forming, forming_frame, forming_mlps
from secondary_sinks.questions.harm import harm
from secondary_sinks.questions.layers import layer_effects, layer_verdicts
from secondary_sinks.questions.necessity import necessity
from secondary_sinks.questions.redistribution import redistribution
from secondary_sinks.questions.sparsity import sparsity
from secondary_sinks.questions.sufficiency import sufficiency

__all__ = [
    "Answer",
    "Cost",
    "Forming",
    "costs",
    "forming_frame",
    "forming_mlps",
    "harm",
    "layer_effects",
    "layer_verdicts",
    "n_claims_of",
    "necessity",
    "norm_dose",
    "redistribution",
    "sparsity",
    "sufficiency",
]
