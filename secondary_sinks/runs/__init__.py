"""A run folder on disk, and what fills it."""

from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.pipeline import Results, analyse, check_lengths, save
from secondary_sinks.runs.record import describe

__all__ = ["Results", "RunFolder", "analyse", "check_lengths", "describe", "save"]
