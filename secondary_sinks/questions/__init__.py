"""Hooked model + traces + sinks -> an `Answer`: the causal questions, each with its controls.

Each takes `progress`, which is called with (texts done, texts) on the way.
"""

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.claims import family_of, n_claims_of
from secondary_sinks.questions.cost import Cost, costs
from secondary_sinks.questions.damage import writer_damage
from secondary_sinks.questions.dose import norm_dose
from secondary_sinks.questions.forming import Forming, forming_frame, forming_mlps
from secondary_sinks.questions.harm import harm
from secondary_sinks.questions.later import later_verdict
from secondary_sinks.questions.layers import layer_verdicts
from secondary_sinks.questions.lost_by_layer import by_way, later_effects, layer_effects
from secondary_sinks.questions.necessity import necessity
from secondary_sinks.questions.redistribution import redistribution
from secondary_sinks.questions.restoration import restoration
from secondary_sinks.questions.roles import Role, roles
from secondary_sinks.questions.run_claims import run_claims
from secondary_sinks.questions.sparsity import sparsity
from secondary_sinks.questions.sufficiency import sufficiency
from secondary_sinks.questions.writers import shares_of_roles, writer_verdicts

__all__ = [
    "Answer",
    "Cost",
    "Forming",
    "Role",
    "by_way",
    "costs",
    "family_of",
    "forming_frame",
    "forming_mlps",
    "harm",
    "later_effects",
    "later_verdict",
    "layer_effects",
    "layer_verdicts",
    "n_claims_of",
    "necessity",
    "norm_dose",
    "redistribution",
    "restoration",
    "roles",
    "run_claims",
    "shares_of_roles",
    "sparsity",
    "sufficiency",
    "writer_damage",
    "writer_verdicts",
]
