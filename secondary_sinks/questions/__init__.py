"""The causal questions: hooked model + traces + sinks -> an `Answer`, with controls.

What the questions have in common:

* `traces` are one or more traces of `model`, one per text; `sinks` are what `detect` found in them
  by the joint criterion. Sinks that cannot be tested are counted in `Answer.left_out`.
* `forming` is the result of `forming_mlps`; by default it is computed. Give it to several questions
  to compute it once.
* `n_claims` is the number of claims that all intervals of a report are corrected for; by default
  those of the answer.
* `progress` is called with (texts done, texts).
* An *exact* interval is wrong on each side with a probability of at most 2.5 % / `n_claims`.
* Raises `TraceError` for no trace, or one of another model or text; `DetectionError` for sinks of
  another criterion, and for a sink that `forming` lacks; `EditError` for an unknown edit, and for
  counts below 1.
"""

from secondary_sinks.questions.answer import (
    Answer,
    combine_outcomes,
    format_exclusions,
    judge,
    judge_beyond,
    sum_counts,
    verdict_of,
)
from secondary_sinks.questions.circuit import (
    EVICTION,
    FUNCTION,
    READER_HEADS,
    Circuit,
    circuit,
    eviction,
    function,
    reader_heads,
    trigger,
    writer,
)
from secondary_sinks.questions.circuit.trigger import trigger_cost
from secondary_sinks.questions.circuit.trigger_verdicts import FEW_HEADS, verdicts_on
from secondary_sinks.questions.damage import (
    damage_at_tokens,
    damage_by_layer,
    damage_in_words,
)
from secondary_sinks.questions.dose import norm_dose
from secondary_sinks.questions.forming import (
    Forming,
    forming_cost,
    forming_frame,
    forming_mlps,
)
from secondary_sinks.questions.harm import harm
from secondary_sinks.questions.layers import later_verdict, layer_verdicts
from secondary_sinks.questions.lost_by_layer import by_way, later_effects, layer_effects
from secondary_sinks.questions.matched_pairs import MatchedPair, TextPairs, match_pairs
from secondary_sinks.questions.necessity import EDITS, necessity
from secondary_sinks.questions.question import CellCounts, Cost, Drawing, Question, Sample, Shown
from secondary_sinks.questions.redistribution import redistribution
from secondary_sinks.questions.redistribution_verdict import MATERIAL
from secondary_sinks.questions.restoration import restoration
from secondary_sinks.questions.role_tests import roles_cost
from secondary_sinks.questions.roles import Role, roles
from secondary_sinks.questions.run_claims import family_of, run_claims
from secondary_sinks.questions.sparsity import sparsity
from secondary_sinks.questions.sufficiency import sufficiency
from secondary_sinks.questions.table import BY_NAME, QUESTIONS, costs, n_claims_of
from secondary_sinks.questions.writers import (
    NO_TWIN,
    levels_in,
    shares_of_roles,
    writer_verdicts,
    writers_of,
)

__all__ = [
    "BY_NAME",
    "EDITS",
    "EVICTION",
    "FEW_HEADS",
    "FUNCTION",
    "MATERIAL",
    "NO_TWIN",
    "QUESTIONS",
    "READER_HEADS",
    "Answer",
    "CellCounts",
    "Circuit",
    "Cost",
    "Drawing",
    "Forming",
    "MatchedPair",
    "Question",
    "Role",
    "Sample",
    "Shown",
    "TextPairs",
    "by_way",
    "circuit",
    "combine_outcomes",
    "costs",
    "damage_at_tokens",
    "damage_by_layer",
    "damage_in_words",
    "eviction",
    "family_of",
    "format_exclusions",
    "forming_cost",
    "forming_frame",
    "forming_mlps",
    "function",
    "harm",
    "judge",
    "judge_beyond",
    "later_effects",
    "later_verdict",
    "layer_effects",
    "layer_verdicts",
    "levels_in",
    "match_pairs",
    "n_claims_of",
    "necessity",
    "norm_dose",
    "reader_heads",
    "redistribution",
    "restoration",
    "roles",
    "roles_cost",
    "run_claims",
    "shares_of_roles",
    "sparsity",
    "sufficiency",
    "sum_counts",
    "trigger",
    "trigger_cost",
    "verdict_of",
    "verdicts_on",
    "writer",
    "writer_verdicts",
    "writers_of",
]
