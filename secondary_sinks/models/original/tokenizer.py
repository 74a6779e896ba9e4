"""The tokenizer of a folder, and whether its ids are ids of the model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondary_sinks.errors import DamagedModelError, ModelError, TextError, reason
from secondary_sinks.foreign import load_tokenizer
from secondary_sinks.models.original.checkpoint import read_json

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
JSON_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "tekken.json", "*.tiktoken")
"""At least one of them holds the tokens; without any, some readers make up a few."""


def read_tokenizer(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer, or None where a folder has none (the caller then feeds token ids).

    `name` is what errors call the model. Raises `DamagedModelError` for one that cannot be read.
    """
    if not any((folder / file).exists() for file in FILES):
        return None
    if not trust_remote_code:  # code of its own reads files of its own
        _refuse_incomplete(folder, name)
    try:
        for file in JSON_FILES:
            if (folder / file).exists():
                read_json(folder / file)
        return load_tokenizer(folder, trusted=trust_remote_code)
    except DamagedModelError as error:
        raise DamagedModelError(
            f"the tokenizer of {name!r} cannot be read: {error.problem}", error.remedy
        ) from error
    except ModelError:
        raise
    except Exception as error:  # the readers raise many kinds for a damaged file
        raise DamagedModelError(
            f"the tokenizer of {name!r} cannot be read: {reason(error)}; copy its files again, or "
            "take them away to feed token ids"
        ) from error


def _refuse_incomplete(folder: Path, name: str) -> None:
    """Refuse a tokenizer without its vocabulary, or with one of two files that need each other."""
    missing = ""
    if not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        missing = "tokenizer.json (or tokenizer.model, or vocab.json and merges.txt)"
    elif not any((folder / file).exists() for file in ("tokenizer.json", "merges.txt")):
        halved = (folder / "vocab.json").exists() and not any(folder.glob("*.model"))
        missing = "merges.txt, or tokenizer.json" if halved else ""
    if missing:
        there = ", ".join(file for file in FILES if (folder / file).exists())
        raise DamagedModelError(
            f"the tokenizer of {name!r} is not whole: there is {there}, but no {missing}; copy the "
            "missing file, or take the others away to feed token ids"
        )


def check_tokenizer(tokenizer: Any, vocab_size: int, name: str) -> None:
    """Raise `DamagedModelError` when a token's id lies beyond the `vocab_size` embeddings.

    Tokens that were added to a vocabulary (padding, an image) may lie there: `check_ids` refuses a
    text that uses one. A smaller tokenizer is usual: embeddings are padded to a round number. A
    tokenizer of another model that has no more tokens cannot be told from the right one.
    """
    if tokenizer is None:
        return
    added = tokenizer.get_added_vocab()
    own = ((token, number) for token, number in tokenizer.get_vocab().items() if token not in added)
    token, largest = max(own, key=lambda pair: pair[1], default=("", -1))
    if largest >= vocab_size:
        raise DamagedModelError(
            f"the tokenizer of {name!r} is not that of the model: it gives ids up to {largest} "
            f"({token!r}), but there are {vocab_size} embeddings; put the model's own tokenizer "
            "files into its folder, or give a model with resized embeddings"
        )


def check_ids(
    ids: Sequence[int], d_vocab: int | None, tokenizer: Any = None, text: str = "the text"
) -> None:
    """Raise `TextError` for a token id that has no embedding: which, at which position.

    `text` is what the error calls the text; `d_vocab` is None where it is not known.
    """
    known = "" if d_vocab is None else f" of {d_vocab} embeddings (ids 0 to {d_vocab - 1})"
    for pos, token in enumerate(ids):
        if token < 0 or (d_vocab is not None and token >= d_vocab):
            shown = "" if tokenizer is None else f" ({_word(tokenizer, token)!r})"
            raise TextError(
                f"{text} has the token id {token}{shown} at position {pos}, outside the vocabulary"
                f"{known}; take that token out of the text, use the model's own tokenizer, or give "
                "a model with resized embeddings"
            )


def _word(tokenizer: Any, token: int) -> str:
    try:
        return str(tokenizer.convert_ids_to_tokens(token))
    except (IndexError, OverflowError, ValueError, TypeError):
        return "of no token"
