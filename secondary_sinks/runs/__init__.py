"""One run folder: its tables, its record, its answers, opened and exported."""

from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.export import export, read_export
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.opened import Opened, open
from secondary_sinks.runs.pipeline import Results, analyse, check_lengths, save, save_more
from secondary_sinks.runs.record import asking, describe
from secondary_sinks.runs.schema import COUNTED, whole_record, whole_records, whole_table

__all__ = [
    "COUNTED",
    "Opened",
    "Results",
    "RunFolder",
    "analyse",
    "ask",
    "asking",
    "check_lengths",
    "describe",
    "export",
    "open",
    "parse_questions",
    "read_answers",
    "read_export",
    "save",
    "save_more",
    "whole_record",
    "whole_records",
    "whole_table",
    "write_answers",
]
