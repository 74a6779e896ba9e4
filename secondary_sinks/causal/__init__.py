"""Hooked model + `Trace` + sinks + edits -> `Effects`: what an intervention does."""

from secondary_sinks.causal.ablate import ablate
from secondary_sinks.causal.necessity import layer_effects, necessity
from secondary_sinks.causal.replay import Replay, replay

__all__ = ["Replay", "ablate", "layer_effects", "necessity", "replay"]
