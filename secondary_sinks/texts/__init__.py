"""JSON lines, plain text, conversations, the bundled corpus -> tokens with provenance."""

from secondary_sinks.texts.read import Text, bundled_corpus, parse_jsonl, read_texts
from secondary_sinks.texts.tokenize import TokenizedText, check_feed, tokenize
from secondary_sinks.texts.twins import Control, match_controls

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
