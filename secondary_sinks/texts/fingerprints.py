"""Hashes of tokenizers and chat templates, to tell whether stored token ids fit them."""

import hashlib
import json
from typing import Any
from weakref import WeakKeyDictionary

_KNOWN: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 of the vocabulary with its ids, added tokens included."""
    size, known = _KNOWN.get(tokenizer, (-1, ""))
    if size != len(tokenizer):
        known = _hash(sorted(tokenizer.get_vocab().items()))
        _KNOWN[tokenizer] = (len(tokenizer), known)
    return known


def template_sha256(tokenizer: Any) -> str:
    """SHA-256 of the chat template, or of all templates if a tokenizer has several."""
    return _hash(tokenizer.chat_template)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
