"""One run folder: write it, record what made it, ask questions, open it, export it."""

from secondary_sinks.files import sha256_of_json
from secondary_sinks.runs.about import describe_change, fed_first, input_differences
from secondary_sinks.runs.about import in_words as differences_in_words
from secondary_sinks.runs.answers import parse_questions, read_answers, write_answers
from secondary_sinks.runs.as_csv import escape_text
from secondary_sinks.runs.ask import ask
from secondary_sinks.runs.export import export, read_export
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.generate import Sampling, feed_prompt
from secondary_sinks.runs.generate_under import ArmAnswer, generate_under
from secondary_sinks.runs.hashes import code_version
from secondary_sinks.runs.observed import check_lengths, observe_all
from secondary_sinks.runs.opened import Opened, open
from secondary_sinks.runs.record import describe
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
    "ArmAnswer",
    "Opened",
    "RunFolder",
    "Sampling",
    "ask",
    "check_lengths",
    "code_version",
    "describe",
    "describe_change",
    "differences_in_words",
    "escape_text",
    "export",
    "fed_first",
    "feed_prompt",
    "generate_under",
    "input_differences",
    "mismatch",
    "observe_all",
    "open",
    "parse_questions",
    "read_answers",
    "read_export",
    "sha256_of_json",
    "whole_record",
    "whole_records",
    "whole_table",
    "write_answers",
]
