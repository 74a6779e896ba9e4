"""The rules of a GGUF file's own tokenizer, and whether what was read from it follows them.

transformers reads a tokenizer into the class that it has for it, and leaves out what the class
does not know: the kind of split, the space in front, special tokens in other scripts. Ids would be
those of another text. So a probe set is encoded twice: by what was read, and here, by the plain
rules of the metadata, as llama.cpp follows them.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondary_sinks.errors import SinkWarning, UnsupportedModelError
from secondary_sinks.models.gguf.header import GgufHeader, read_arrays

KINDS = ("gpt2", "llama")
"""Bytes joined by merges, and characters joined by scores, as SentencePiece does (Gemma too)."""
CONTROL, USER_DEFINED = 3, 4
SPACE = "\u2581"
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
"""Name of a split in the metadata -> the expressions that cut a text, one after the other."""
PROBES = (
    *("the fox", " the fox", "  the fox", "\tthe  fox \n", "\n\nthe\r\nfox\n", "   ", "\n"),
    *("12345 and 3.14159", "x = 10**2 + f(y)/7;\n    return", "I'm WE'LL don't", "HTTPServer2Go"),
    *("na\u00efve \u0416\u0437 \u6f22\u5b57 \u00bd", "\U0001f9ed\x07\u200b", "a" * 9 + "!?..."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a file says about its tokenizer; `kind` is "gpt2" (bytes) or "llama" (characters)."""

    kind: str
    split: tuple[str, ...]
    ids: dict[str, int]
    rank: dict[tuple[str, str], int]
    """Of bytes: the place of each merge. Empty for characters, whose pieces have scores."""
    scores: dict[str, float]
    whole: tuple[str, ...]
    """Tokens that are never cut, the longest first."""
    space_in_front: bool

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the tokens that are put around a whole text."""
        ids: list[int] = []
        for part in self._parts(text):
            ids += [self.ids[part]] if part in self.whole else self._plain(part)
        return ids

    def _parts(self, text: str) -> list[str]:
        if not self.whole:
            return [text]
        pattern = "|".join(re.escape(token) for token in self.whole)
        return [part for part in re.split(f"({pattern})", text) if part]

    def _plain(self, text: str) -> list[int]:
        if self.kind == "llama":
            spaced = (" " + text if self.space_in_front else text).replace(" ", SPACE)
            pieces = merged(list(spaced), lambda one, two: -self.scores[one + two])
            return [number for piece in pieces for number in self._or_bytes(piece)]
        alphabet = byte_alphabet()
        words = (
            "".join(alphabet[byte] for byte in word.encode()) for word in cut(text, self.split)
        )
        pieces = [
            piece
            for word in words
            for piece in merged(list(word), lambda one, two: self.rank[one, two])
        ]
        return [self.ids[piece] for piece in pieces if piece in self.ids]

    def _or_bytes(self, piece: str) -> list[int]:
        if piece in self.ids:
            return [self.ids[piece]]
        named = [f"<0x{byte:02X}>" for byte in piece.encode()]
        return [self.ids[name] for name in named if name in self.ids]


def rules_of(header: GgufHeader, path: Path) -> Rules:
    """The rules of a file.

    Raises `UnsupportedModelError` for a kind of tokenizer or a split that is not known by its name:
    what transformers makes of it could not be compared with anything.
    """
    said = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in header.metadata.items()
        if key.startswith("tokenizer.ggml.")
    }
    kind = said.get("model")
    if kind not in KINDS:
        raise UnsupportedModelError(
            f"GGUF file {str(path)!r} has a tokenizer of the kind {kind!r} (tokenizer.ggml.model), "
            f"whose rules are not known here; expected one of {', '.join(KINDS)}; give the "
            "model's folder or hub name in Hugging Face format"
        )
    names = ("tokens", "scores", "token_type", "merges")
    found = read_arrays(path, [f"tokenizer.ggml.{name}" for name in names])
    tokens, scores, types, merges = (found.get(f"tokenizer.ggml.{name}") or [] for name in names)
    kinds = dict(zip(tokens, types, strict=False))
    whole = [token for token in tokens if kinds.get(token) in (CONTROL, USER_DEFINED) and token]
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    return Rules(
        kind=kind,
        split=_split(said.get("pre"), path) if kind == "gpt2" else (),
        ids={token: number for number, token in enumerate(tokens)},
        rank={pair: place for place, pair in enumerate(pairs)},
        scores=dict(zip(tokens, scores, strict=False)),
        whole=tuple(sorted(whole, key=len, reverse=True)),
        space_in_front=bool(said.get("add_space_prefix", True)),
    )


def follow(tokenizer: Any, rules: Rules) -> Any:
    """The tokenizer with the splits and the space in front that the rules have.

    transformers knows a few splits, takes that of GPT-2 for the others, and ignores the space.
    """
    from tokenizers import Regex, normalizers, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if rules.kind == "gpt2":
        splits = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in rules.split]
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, as_bytes])
        return tokenizer
    front = [normalizers.Prepend(SPACE)] if rules.space_in_front else []
    backend.normalizer = normalizers.Sequence([*front, normalizers.Replace(" ", SPACE)])
    backend.pre_tokenizer = None
    _keep_whole(backend, rules)
    return _plain_class(tokenizer, backend)


def _keep_whole(backend: Any, rules: Rules) -> None:
    """Let the backend cut none of the tokens that the rules never cut: runs of spaces, say."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in rules.whole:
        spelled = token.replace(" ", SPACE)
        if spelled not in known and backend.token_to_id(spelled) == rules.ids[token]:
            backend.add_tokens([AddedToken(spelled, special=False, normalized=spelled != token)])


def refuse_other_ids(tokenizer: Any, rules: Rules, path: Path) -> None:
    """Raise `UnsupportedModelError` where a probe gets other ids than by the file's own rules."""
    for text in _probes(rules):
        found = tokenizer.encode(text, add_special_tokens=False)
        expected = rules.encode(text)
        if found != expected:
            raise UnsupportedModelError(
                f"GGUF file {str(path)!r}: transformers does not read its tokenizer as the file "
                f"describes it: {text!r} becomes {found}, and {expected} by the rules in its "
                "metadata, so another text would be measured; give the model's folder or hub name "
                "in Hugging Face format"
            )


def _probes(rules: Rules) -> Iterator[str]:
    yield from PROBES
    for token in rules.whole[:200]:
        yield f"{token}the fox{token} \n{token}"


def cut(text: str, expressions: Sequence[str]) -> list[str]:
    """Pieces of a text, cut by each expression in turn; what none matches stays whole."""
    import regex

    pieces = [text]
    for expression in expressions:
        parted = (regex.split(f"({expression})", piece) for piece in pieces)
        pieces = [part for parts in parted for part in parts if part]
    return pieces


def merged(pieces: list[str], cost: Callable[[str, str], float]) -> list[str]:
    """Neighbours joined, the cheapest pair first and the left one of two; `KeyError` is no pair."""
    while True:
        best, at = float("inf"), -1
        for place in range(len(pieces) - 1):
            try:
                price = cost(pieces[place], pieces[place + 1])
            except KeyError:
                continue
            if price < best:
                best, at = price, place
        if at < 0:
            return pieces
        pieces = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]


def byte_alphabet() -> dict[int, str]:
    """The character that stands for each byte: itself where it can be printed, else from 256 on.

    >>> byte_alphabet()[ord(" ")], byte_alphabet()[ord("a")]
    ('\u0120', 'a')
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }


def _split(name: Any, path: Path) -> tuple[str, ...]:
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
            f"which is not known here; expected one of {', '.join(sorted(SPLITS))}; give the "
            "model's folder or hub name in Hugging Face format"
        )
    return SPLITS[name]


def _plain_class(tokenizer: Any, backend: Any) -> Any:
    """The same tokenizer in the class that keeps all parts of its backend when it is saved."""
    from transformers import PreTrainedTokenizerFast

    special = {
        name: getattr(tokenizer, name)
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if getattr(tokenizer, name) is not None
    }
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    plain.chat_template = tokenizer.chat_template
    return plain
