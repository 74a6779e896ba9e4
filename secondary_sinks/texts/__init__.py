"""JSON lines, plain text, conversations, bundled corpora -> token ids with their provenance."""

from secondary_sinks.texts.answered import (
    AnsweredQuestion,
    answer_in,
    is_right,
    normalised,
    read_questions,
)
from secondary_sinks.texts.feeds import check_feed
from secondary_sinks.texts.limits import split_json_lines
from secondary_sinks.texts.read_files import bundled_corpus, parse_jsonl, read_texts, read_utf8
from secondary_sinks.texts.text import Text
from secondary_sinks.texts.tokenize import TokenizedText, as_fed_first, tokenize
from secondary_sinks.types.controls import Control, match_controls

__all__ = [
    "AnsweredQuestion",
    "Control",
    "Text",
    "TokenizedText",
    "answer_in",
    "as_fed_first",
    "bundled_corpus",
    "check_feed",
    "is_right",
    "match_controls",
    "normalised",
    "parse_jsonl",
    "read_questions",
    "read_texts",
    "read_utf8",
    "split_json_lines",
    "tokenize",
]
