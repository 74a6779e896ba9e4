"""Read the tokenizer of a folder, and check that the model has embeddings for its ids."""

from collections.abc import Iterator, Mapping, Sequence
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
"""Files with the tokens; without any of them, transformers makes up a few tokens."""


def read_tokenizer(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a folder; None if it has none, and texts are given as token ids.

    `name` is the name of the model in errors. Raises `DamagedModelError` for a tokenizer that
    cannot be read.
    """
    if not any((folder / file).exists() for file in FILES):
        return None
    if not trust_remote_code:  # a tokenizer with its own code may have other files
        _refuse_incomplete(folder, name)
    try:
        present = (file for file in JSON_FILES if (folder / file).exists())
        contents = {file: read_json(folder / file) for file in present}
        tokenizer = load_tokenizer(folder, trusted=trust_remote_code)
        _refuse_other_ids(contents, tokenizer)
        return tokenizer
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
    """Refuse a tokenizer without a vocabulary, or with vocab.json but no merges.txt."""
    missing = ""
    if not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        missing = "tokenizer.json (or tokenizer.model, or vocab.json and merges.txt)"
    elif not any((folder / file).exists() for file in ("tokenizer.json", "merges.txt")):
        halved = (folder / "vocab.json").exists() and not any(folder.glob("*.model"))
        missing = "merges.txt, or tokenizer.json" if halved else ""
    if missing:
        present = ", ".join(file for file in FILES if (folder / file).exists())
        raise DamagedModelError(
            f"the tokenizer of {name!r} is incomplete: there is {present}, but no {missing}; copy "
            "the missing file, or take the others away to feed token ids"
        )


def _refuse_other_ids(contents: Mapping[str, Any], tokenizer: Any) -> None:
    """Refuse two tokens with one id, and an added token with another id than its file states."""
    known, tokens = tokenizer.get_vocab(), dict[int, str]()
    for token, number in known.items():
        if tokens.setdefault(number, token) != token:
            raise DamagedModelError(
                f"{tokens[number]!r:.60} and {token!r:.60} have the same id, {number}",
                "copy the tokenizer files of the model again",
            )
    for file, token, number in _stated_ids(contents):
        if known.get(token) != number:
            found = f"the id {known[token]}" if token in known else "no id"
            raise DamagedModelError(
                f"{file} gives {token!r:.60} the id {number}, but as transformers reads all files "
                f"it has {found}",
                f"copy all tokenizer files of the model again, or take that token out of {file}",
            )


def _stated_ids(contents: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """File, token and id of each added token, from all files that state one."""
    file = "tokenizer.json"
    for token in contents.get(file, {}).get("added_tokens") or ():
        yield file, token["content"], token["id"]
    file = "tokenizer_config.json"
    for number, token in contents.get(file, {}).get("added_tokens_decoder", {}).items():
        yield file, token["content"], int(number)
    file = "added_tokens.json"
    for word, number in contents.get(file, {}).items():
        yield file, word, number


def check_tokenizer(tokenizer: Any, vocab_size: int, name: str) -> None:
    """Raise `DamagedModelError` if a token has an id for which there is no embedding.

    Tokens that were added to a vocabulary (padding, an image) may have such ids: `check_ids`
    refuses a text with one of them. A tokenizer with fewer tokens than `vocab_size` is normal, as
    embeddings are padded to a round number. So the tokenizer of another model is not recognised if
    it has no more tokens than this model.
    """
    if tokenizer is None:
        return
    added = tokenizer.get_added_vocab()
    own = ((token, number) for token, number in tokenizer.get_vocab().items() if token not in added)
    token, largest = max(own, key=lambda pair: pair[1], default=("", -1))
    if largest >= vocab_size:
        raise DamagedModelError(
            f"the tokenizer of {name!r} is not that of the model: it gives ids up to {largest} "
            f"({token!r}), but there are {vocab_size} embeddings",
            "put the model's own tokenizer "
            "files into its folder, or give a model with resized embeddings",
        )


def check_ids(
    ids: Sequence[int], d_vocab: int | None, tokenizer: Any = None, text: str = "the text"
) -> None:
    """Raise `TextError` for a token id without an embedding, with its position.

    `text` is the name of the text in the error; `d_vocab` is None if it is not known.
    """
    known = "" if d_vocab is None else f" of {d_vocab} embeddings (ids 0 to {d_vocab - 1})"
    for pos, token in enumerate(ids):
        if token < 0 or (d_vocab is not None and token >= d_vocab):
            shown = "" if tokenizer is None else f" ({_token_text(tokenizer, token)!r})"
            raise TextError(
                f"{text} has the token id {token}{shown} at position {pos}, outside the vocabulary"
                f"{known}",
                "take that token out of the text, use the model's own tokenizer, or give "
                "a model with resized embeddings",
            )


def attach_tokenizer(model: Any, tokenizer: Any) -> None:
    """Let `to_tokens` of a hooked model return exactly the tokenizer's ids.

    A BOS token is only added if the tokenizer adds one.
    """
    if tokenizer is not None:
        adds_bos = len(tokenizer.encode("")) > 0
        model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = adds_bos
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    model.tokenizer = tokenizer


def _token_text(tokenizer: Any, token: int) -> str:
    try:
        return str(tokenizer.convert_ids_to_tokens(token))
    except (IndexError, OverflowError, ValueError, TypeError):
        return "not a token"
