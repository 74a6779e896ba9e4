"""JSON lines, plain text, conversations, the bundled corpus -> tokens with provenance."""

from secondary_sinks.texts.feeds import check_feed
from secondary_sinks.texts.read import bundled_corpus, parse_jsonl, read_texts
from secondary_sinks.texts.text import Text
from secondary_sinks.texts.tokenize import TokenizedText, tokenize
from secondary_sinks.types.controls import Control, match_controls

__all__ = [
    "Control",
    "Text",
    "TokenizedText",
    "bundled_corpus",
    "check_feed",
    "match_controls",
    "parse_jsonl",
    "read_texts",
    "tokenize",
]
