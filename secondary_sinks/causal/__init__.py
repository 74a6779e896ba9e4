"""Hooked model + `Trace` + sinks + edits -> `Effects`: what an intervention does."""

from secondary_sinks.causal.ablate import ablate
from secondary_sinks.causal.active_rule import ActiveRule, Met
from secondary_sinks.causal.compare import before_and_after, direct_and_total
from secondary_sinks.causal.controls import ordinary_positions
from secondary_sinks.causal.donors import reference_means, token_twins
from secondary_sinks.causal.metric import sweep_metric
from secondary_sinks.causal.outcome import drawn_by, readers, watched_sinks
from secondary_sinks.causal.recompute import recompute
from secondary_sinks.causal.recomputed import Recomputed
from secondary_sinks.causal.replay import replay
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.causal.score_under import Scored, score_under

__all__ = [
    "ActiveRule",
    "Met",
    "Recomputed",
    "Replay",
    "Scored",
    "ablate",
    "before_and_after",
    "direct_and_total",
    "drawn_by",
    "ordinary_positions",
    "readers",
    "recompute",
    "reference_means",
    "replay",
    "score_under",
    "sweep_metric",
    "token_twins",
    "watched_sinks",
]
