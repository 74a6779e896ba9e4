"""A run folder on disk, and what fills it: runs, and sweeps that go on where they stopped."""

from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.export import export, read_export
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.merge import merge
from secondary_sinks.runs.opened import Opened, open
from secondary_sinks.runs.pipeline import Results, analyse, check_lengths, save, save_more
from secondary_sinks.runs.record import asking, describe
from secondary_sinks.runs.schema import COUNTED, whole_record, whole_records, whole_table
from secondary_sinks.runs.standing import standing, verify
from secondary_sinks.runs.sweep import Summary, sweep
from secondary_sinks.runs.sweep_config import SweepConfig
from secondary_sinks.runs.tasks import ModelSpec

__all__ = [
    "COUNTED",
    "ModelSpec",
    "Opened",
    "Results",
    "RunFolder",
    "Summary",
    "SweepConfig",
    "analyse",
    "ask",
    "asking",
    "check_lengths",
    "describe",
    "export",
    "merge",
    "open",
    "parse_questions",
    "read_answers",
    "read_export",
    "save",
    "save_more",
    "standing",
    "sweep",
    "verify",
    "whole_record",
    "whole_records",
    "whole_table",
    "write_answers",
]
