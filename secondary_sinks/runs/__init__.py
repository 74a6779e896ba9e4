"""One run folder: its tables, its record, its answers, opened and exported."""

from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.export import export, read_export
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.observed import check_lengths, observe_all
from secondary_sinks.runs.opened import Opened, open
from secondary_sinks.runs.record import describe
from secondary_sinks.runs.schema import COUNTED, whole_record, whole_records, whole_table

__all__ = [
    "COUNTED",
    "Opened",
    "RunFolder",
    "ask",
    "check_lengths",
    "describe",
    "export",
    "observe_all",
    "open",
    "parse_questions",
    "read_answers",
    "read_export",
    "whole_record",
    "whole_records",
    "whole_table",
    "write_answers",
]
