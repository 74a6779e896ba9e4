"""The tokenizer of a folder, and whether its ids are ids of the model."""

from pathlib import Path
from typing import Any

from secondary_sinks import foreign
from secondary_sinks.errors import DamagedModelError, ModelError

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def read_tokenizer(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer, or None where a folder has none (the caller then feeds token ids).

    `name` is what errors call the model. Raises `DamagedModelError` for one that cannot be read.
    """
    if not any((folder / file).exists() for file in FILES):
        return None
    try:
        return foreign.read_tokenizer(folder, trusted=trust_remote_code)
    except ModelError:
        raise
    except Exception as error:  # the readers raise many kinds for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedModelError(
            f"the tokenizer of {name!r} cannot be read: {reason}; copy its files again, or take "
            f"them away to feed token ids"
        ) from error


def check_tokenizer(tokenizer: Any, vocab_size: int, name: str) -> None:
    """Raise `DamagedModelError` when a token's id lies beyond the `vocab_size` embeddings.

    A smaller tokenizer is usual: embeddings are padded to a round number. A tokenizer of another
    model that has no more tokens cannot be told from the right one.
    """
    if tokenizer is None:
        return
    token, largest = max(tokenizer.get_vocab().items(), key=lambda pair: pair[1], default=("", -1))
    if largest >= vocab_size:
        raise DamagedModelError(
            f"the tokenizer of {name!r} is not that of the model: it gives ids up to {largest} "
            f"({token!r}), but there are {vocab_size} embeddings; put the model's own tokenizer "
            "files into its folder, or give a model with resized embeddings"
        )
