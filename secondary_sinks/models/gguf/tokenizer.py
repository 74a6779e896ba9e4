"""The rules of a GGUF file's tokenizer, and a check that the tokenizer that was read follows them.

transformers reads a tokenizer into one of its classes, and ignores rules that the class does not
know: the kind of split, the space in front, special tokens in other scripts. The ids would be those
of another text. So some texts are encoded twice: by the tokenizer that was read, and by the rules
in the metadata, implemented here as llama.cpp follows them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.models.gguf.header import GgufHeader, read_arrays
from secondary_sinks.models.gguf.splits import split_expressions, split_text

KINDS = ("gpt2", "llama")
"""Bytes joined by merges, and characters joined by scores, as SentencePiece does (Gemma too)."""
CONTROL, USER_DEFINED = 3, 4
SPACE = "\u2581"
PROBES = (
    *("the fox", " the fox", "  the fox", "\tthe  fox \n", "\n\nthe\r\nfox\n", "   ", "\n"),
    *("12345 and 3.14159", "x = 10**2 + f(y)/7;\n    return", "I'm WE'LL don't", "HTTPServer2Go"),
    *("na\u00efve \u0416\u0437 \u6f22\u5b57 \u00bd", "\U0001f9ed\x07\u200b", "a" * 9 + "!?..."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerRules:
    """Rules of a tokenizer; `kind` is "gpt2" (merges of bytes) or "llama" (scored characters)."""

    kind: str
    split: tuple[str, ...]
    ids: dict[str, int]
    rank: dict[tuple[str, str], int]
    """Rank of each merge, for "gpt2"; empty for "llama"."""
    scores: dict[str, float]
    """Score of each piece, for "llama"."""
    whole: tuple[str, ...]
    """Tokens that are never split, the longest first."""
    space_in_front: bool
    """Whether a space is put before the text, for "llama"."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without BOS or EOS."""
        ids: list[int] = []
        for part in self._split_at_whole_tokens(text):
            ids += [self.ids[part]] if part in self.whole else self._encode_part(part)
        return ids

    def _split_at_whole_tokens(self, text: str) -> list[str]:
        if not self.whole:
            return [text]
        pattern = "|".join(re.escape(token) for token in self.whole)
        return [part for part in re.split(f"({pattern})", text) if part]

    def _encode_part(self, text: str) -> list[int]:
        if self.kind == "llama":
            spaced = (" " + text if self.space_in_front else text).replace(" ", SPACE)
            pieces = merge_pairs(list(spaced), lambda one, two: -self.scores[one + two])
            return [number for piece in pieces for number in self._ids_of(piece)]
        alphabet = bytes_to_unicode()
        words = (
            "".join(alphabet[byte] for byte in word.encode())
            for word in split_text(text, self.split)
        )
        pieces = [
            piece
            for word in words
            for piece in merge_pairs(list(word), lambda one, two: self.rank[one, two])
        ]
        return [self.ids[piece] for piece in pieces if piece in self.ids]

    def _ids_of(self, piece: str) -> list[int]:
        """The id of a piece, or the ids of its bytes if it is not a token."""
        if piece in self.ids:
            return [self.ids[piece]]
        named = [f"<0x{byte:02X}>" for byte in piece.encode()]
        return [self.ids[name] for name in named if name in self.ids]


def read_rules(header: GgufHeader, path: Path) -> TokenizerRules:
    """The rules of a file.

    Raises `UnsupportedModelError` for a kind of tokenizer or a split that is not known by its name:
    what transformers makes of it could not be compared with anything.
    """
    stated = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in header.metadata.items()
        if key.startswith("tokenizer.ggml.")
    }
    kind = stated.get("model")
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
    return TokenizerRules(
        kind=kind,
        split=split_expressions(stated.get("pre"), path) if kind == "gpt2" else (),
        ids={token: number for number, token in enumerate(tokens)},
        rank={pair: rank for rank, pair in enumerate(pairs)},
        scores=dict(zip(tokens, scores, strict=False)),
        whole=tuple(sorted(whole, key=len, reverse=True)),
        space_in_front=bool(stated.get("add_space_prefix", True)),
    )


def apply_rules(tokenizer: Any, rules: TokenizerRules) -> Any:
    """Give a tokenizer the splits and the space in front that the rules state.

    transformers knows a few splits, uses that of GPT-2 for all others, and ignores the space.
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
    return _as_plain_class(tokenizer, backend)


def _keep_whole(backend: Any, rules: TokenizerRules) -> None:
    """Let the backend cut none of the tokens that the rules never cut: runs of spaces, say."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in rules.whole:
        spelled = token.replace(" ", SPACE)
        if spelled not in known and backend.token_to_id(spelled) == rules.ids[token]:
            backend.add_tokens([AddedToken(spelled, special=False, normalized=spelled != token)])


def refuse_other_ids(tokenizer: Any, rules: TokenizerRules, path: Path) -> None:
    """Raise `UnsupportedModelError` for a text that gets other ids by the file's own rules."""
    for text in _probe_texts(rules):
        found = tokenizer.encode(text, add_special_tokens=False)
        expected = rules.encode(text)
        if found != expected:
            raise UnsupportedModelError(
                f"GGUF file {str(path)!r}: transformers does not read its tokenizer as the file "
                f"describes it: {text!r} becomes {found}, and {expected} by the rules in its "
                "metadata, so another text would be measured",
                "give the model's folder or hub name in Hugging Face format",
            )


def _probe_texts(rules: TokenizerRules) -> Iterator[str]:
    yield from PROBES
    for token in rules.whole[:200]:
        yield f"{token}the fox{token} \n{token}"


def merge_pairs(pieces: list[str], cost: Callable[[str, str], float]) -> list[str]:
    """Merge neighbours until no pair is left: the cheapest pair first, of equal ones the left one.

    `cost` raises `KeyError` for neighbours that cannot be merged.
    """
    while True:
        lowest, best = float("inf"), -1
        for left in range(len(pieces) - 1):
            try:
                price = cost(pieces[left], pieces[left + 1])
            except KeyError:
                continue
            if price < lowest:
                lowest, best = price, left
        if best < 0:
            return pieces
        pieces = [*pieces[:best], pieces[best] + pieces[best + 1], *pieces[best + 2 :]]


def _as_plain_class(tokenizer: Any, backend: Any) -> Any:
    """The same tokenizer in a class that saves all parts of its backend."""
    from transformers import PreTrainedTokenizerFast

    special = {
        name: getattr(tokenizer, name)
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if getattr(tokenizer, name) is not None
    }
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    plain.chat_template = tokenizer.chat_template
    return plain
