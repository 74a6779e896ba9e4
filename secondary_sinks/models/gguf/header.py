"""Read the header of a GGUF file, and refuse files that cannot be used."""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import DamagedModelError, ModelError, UnsupportedModelError
from secondary_sinks.models import limits
from secondary_sinks.models.gguf.parser import DamageError, GgufHeader, HeaderParser


def read_header(path: Path) -> GgufHeader:
    """The header of a complete file; `DamagedModelError` says what is wrong with any other."""
    try:
        with (
            files.open_file(path) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return HeaderParser(data).parse()
    except (struct.error, DamageError, ValueError) as error:
        size = path.stat().st_size
        raise DamagedModelError(
            f"GGUF file {str(path)!r} ({size} bytes) is truncated or damaged ({error}); copy or "
            "download it again"
        ) from error
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Lists in the metadata of a file, by name; names that it lacks are left out.

    The header must have been read, and so checked, before.
    """
    with (
        files.open_file(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        found = HeaderParser(data, frozenset(names)).parse().metadata
    return {name: found[name] for name in names if found.get(name) is not None}


def refuse_split(header: GgufHeader, path: Path) -> None:
    """Raise `UnsupportedModelError` for one of several files of a split model."""
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count > 1:
        raise UnsupportedModelError(
            f"{str(path)!r} is one of {count} files of a model; merge them with llama.cpp's "
            "`llama-gguf-split --merge FIRST_FILE WHOLE_FILE`, and give that file"
        )


def refuse_impossible_sizes(header: GgufHeader, path: Path) -> None:
    """Raise `DamagedModelError` for sizes that no model has, before they are built."""
    wrong = limits.impossible_size(header.sizes)
    if wrong:
        raise DamagedModelError(
            f"GGUF file {str(path)!r} cannot be used: {header.architecture}.{wrong}; copy or "
            "download it again"
        )
