"""One run folder: its tables, its record, its answers, opened and exported."""

from secondary_sinks.runs.about import fed_first, input_differences
from secondary_sinks.runs.about import in_words as differences_in_words
from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.as_csv import escape_text, unescape
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.durable import sha256_of_json
from secondary_sinks.runs.export import export, read_export
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.hashes import code_version
from secondary_sinks.runs.opened import Opened, open
from secondary_sinks.runs.pipeline import Results, analyse, check_lengths, save, save_more
from secondary_sinks.runs.record import asking, describe
from secondary_sinks.runs.schema import (
    COUNTED,
    NUMBER,
    OUTCOMES,
    mismatch,
    whole_record,
    whole_records,
    whole_table,
)

__all__ = [
    "COUNTED",
    "NUMBER",
    "OUTCOMES",
    "Opened",
    "Results",
    "RunFolder",
    "analyse",
    "ask",
    "asking",
    "check_lengths",
    "code_version",
    "describe",
    "differences_in_words",
    "escape_text",
    "export",
    "fed_first",
    "input_differences",
    "mismatch",
    "open",
    "parse_questions",
    "read_answers",
    "read_export",
    "save",
    "save_more",
    "sha256_of_json",
    "unescape",
    "whole_record",
    "whole_records",
    "whole_table",
    "write_answers",
]
