"""Hooked model + traces + sinks -> an `Answer`: the causal questions, each with its controls."""

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.forming import Forming, forming_frame, forming_mlps
from secondary_sinks.questions.layers import layer_effects, layer_verdicts
from secondary_sinks.questions.necessity import necessity

__all__ = [
    "Answer",
    "Forming",
    "forming_frame",
    "forming_mlps",
    "layer_effects",
    "layer_verdicts",
    "necessity",
]
