"""How tokenizers of GGUF files split a text before they merge pieces, by the name of the split."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondary_sinks.errors import SinkWarning, UnsupportedModelError

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + _REST
_SIGNS_AND_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _REST
LLAMA3 = rf"{_CASES}|{_WORD}\p{{L}}+|\p{{N}}{{1,3}}{_SIGNS}"
QWEN2 = rf"{_CASES}|{_WORD}\p{{L}}+|\p{{N}}{_SIGNS}"
GPT4O = (
    rf"{_WORD}{_UPPER}*{_LOWER}+{_CASES}?|{_WORD}{_UPPER}+{_LOWER}*{_CASES}?"
    rf"|\p{{N}}{{1,3}}{_SIGNS_AND_SLASH}"
)
TEKKEN = rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}{_SIGNS_AND_SLASH}"
DIGITS = r"\p{N}|[^\p{N}]+"
SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "gpt2", "olmo", "mpt", "phi-2", "jais", "trillion"), (GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), (DIGITS, GPT2)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "dbrx", "smaug-bpe"), (LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), (QWEN2,)),
    **dict.fromkeys(("gpt-4o", "llama4"), (GPT4O,)),
    "tekken": (TEKKEN,),
}
"""Name of a split in the metadata -> regular expressions that split a text, one after the other."""


def split_expressions(name: Any, path: Path) -> tuple[str, ...]:
    """Regular expressions of a split by its name; a file without a name is split as GPT-2 does.

    Raises `UnsupportedModelError` for an unknown name.
    """
    if name is None or name == "default":
        warnings.warn(
            f"GGUF file {str(path)!r} does not say how its tokenizer splits a text "
            "(tokenizer.ggml.pre); it is split as GPT-2 does",
            SinkWarning,
            stacklevel=2,
        )
        return (GPT2,)
    if name not in SPLITS:
        raise UnsupportedModelError(
            f"GGUF file {str(path)!r} splits texts by the rule {name!r} (tokenizer.ggml.pre), "
            f"which is not supported; expected one of {', '.join(sorted(SPLITS))}; give the "
            "model's folder or hub name in Hugging Face format"
        )
    return SPLITS[name]


def split_text(text: str, expressions: Sequence[str]) -> list[str]:
    """Pieces of a text, split by each expression in turn; unmatched text stays in one piece."""
    import regex

    pieces = [text]
    for expression in expressions:
        split = (regex.split(f"({expression})", piece) for piece in pieces)
        pieces = [part for parts in split for part in parts if part]
    return pieces
