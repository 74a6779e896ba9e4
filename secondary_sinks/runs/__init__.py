"""A run folder on disk, and what fills it."""

from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.pipeline import Results, analyse, check_lengths, save
from secondary_sinks.runs.record import describe

__all__ = [
    "Results",
    "RunFolder",
    "analyse",
    "ask",
    "check_lengths",
    "describe",
    "parse_questions",
    "read_answers",
    "save",
    "write_answers",
]
