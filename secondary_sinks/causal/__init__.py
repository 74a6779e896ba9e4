"""Hooked model + `Trace` + sinks + edits -> `Effects`: what an intervention does."""

from secondary_sinks.causal.ablate import ablate
from secondary_sinks.causal.replay import Replay, replay

__all__ = ["Replay", "ablate", "replay"]
