"""Read the header of a GGUF file, and refuse files that cannot be used."""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from secondary_sinks import files
from secondary_sinks.errors import DamagedModelError, ModelError, UnsupportedModelError
from secondary_sinks.models import limits

VERSIONS = (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
SCALARS |= {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_TENSORS, MOST_METADATA, MOST_VALUES = 100_000, 10_000, 1 << 22
"""Values in one list; the longest is a tokenizer's list of merges, with some 500,000."""


class GgufTensor(NamedTuple):
    """A tensor in a file: its number of values, ggml's number of its type, and its first byte."""

    values: int
    kind: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Metadata by name (None for a list) and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as "llama" or "qwen2"."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def sizes(self) -> dict[str, Any]:
        """Metadata of the architecture, by name without the architecture's prefix."""
        prefix = f"{self.architecture}."
        found = [key for key in self.metadata if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.metadata[key] for key in found}

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.values for tensor in self.tensors.values())


class DamageError(Exception):
    """Damage in a header, in a few words."""


class HeaderParser:
    """Reads a header from start to end, and never past the end of the file."""

    def __init__(self, data: mmap.mmap, lists: frozenset[str] = frozenset()) -> None:
        """`lists` names the metadata whose lists are kept; other lists are skipped."""
        self._data, self._at, self._lists = data, 0, lists

    def parse(self) -> GgufHeader:
        """The header. Raises `DamageError`, or `struct.error` at the end of the file."""
        magic, version, n_tensors, n_metadata = self._take("4sIQQ")
        if magic != b"GGUF" or version not in VERSIONS:
            raise DamageError(f"magic {magic!r}, version {version}")
        self._refuse_count("tensors", n_tensors, MOST_TENSORS)
        self._refuse_count("metadata entries", n_metadata, MOST_METADATA)
        metadata: dict[str, Any] = {}
        for key, value in (self._entry() for _ in range(n_metadata)):
            if key in metadata:
                raise DamageError(f"it states {key!r:.60} twice")
            metadata[key] = value
        entries = [self._tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not entries or not isinstance(alignment, int) or alignment <= 0:
            raise DamageError("no tensors, or no alignment")
        return GgufHeader(metadata=metadata, tensors=self._place_tensors(entries, alignment))

    def _place_tensors(
        self, entries: list[tuple[str, int, int, int, int]], alignment: int
    ) -> dict[str, GgufTensor]:
        """Where each tensor starts; they must follow each other without gaps, up to alignment."""
        end = data_start = _round_up(self._at, alignment)
        tensors: dict[str, GgufTensor] = {}
        for name, n_values, kind, n_bytes, offset in entries:
            start = data_start + offset
            if name in tensors or start != _round_up(end, alignment):
                raise DamageError(f"tensor {name!r} does not follow the one before it")
            end = start + n_bytes
            if end > len(self._data):
                raise DamageError(f"tensor {name!r} ends past the end of the file")
            tensors[name] = GgufTensor(n_values, kind, start)
        rest = len(self._data) - end
        if rest > alignment:
            raise DamageError(f"{rest:,} bytes follow its last tensor")
        return tensors

    def _take(self, layout: str) -> Any:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def _refuse_count(self, what: str, count: int, most: int) -> None:
        """Refuse a count of items that the rest of the file, a byte per item, cannot hold."""
        possible = min(most, len(self._data) - self._at)
        if count > possible:
            raise DamageError(f"it states {count} {what}; expected at most {possible}")

    def _skip(self, n_bytes: int) -> None:
        if n_bytes > len(self._data) - self._at:
            raise DamageError("it ends inside its header")
        self._at += n_bytes

    def _string(self) -> str:
        (length,) = self._take("Q")
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode("utf-8")

    def _entry(self) -> tuple[str, Any]:
        key = self._string()
        (kind,) = self._take("I")
        return key, self._value(kind, keep_list=key in self._lists)

    def _value(self, kind: int, *, keep_list: bool) -> Any:
        if kind == STRING:
            return self._string()
        if kind in SCALARS:
            return self._take(SCALARS[kind])[0]
        if kind != ARRAY:
            raise DamageError(f"metadata of an unknown type, {kind}")
        inner, count = self._take("IQ")
        self._refuse_count("values in a list", count, MOST_VALUES)
        if inner == STRING:
            strings = [self._string() for _ in range(count)]
            return strings if keep_list else None
        if inner not in SCALARS:
            raise DamageError(f"a list of an unknown type, {inner}")
        if keep_list:
            return list(self._take(f"{count}{SCALARS[inner]}"))
        self._skip(count * struct.calcsize("<" + SCALARS[inner]))
        return None

    def _tensor(self) -> tuple[str, int, int, int, int]:
        """Name, number of values, type, number of bytes, and offset from the start of the data."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self._string()
        (n_dims,) = self._take("I")
        if not 0 < n_dims <= 4:
            raise DamageError(f"tensor {name!r} has {n_dims} dimensions")
        n_values = math.prod(self._take(f"{n_dims}Q"))
        kind, offset = self._take("IQ")
        values, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if n_values % values:
            raise DamageError(f"tensor {name!r} is not made of whole blocks")
        return name, n_values, kind, n_values // values * n_bytes, offset


def _round_up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _parse(path: Path, lists: Sequence[str] = ()) -> GgufHeader:
    with (
        files.open_file(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return HeaderParser(data, frozenset(lists)).parse()


def read_header(path: Path) -> GgufHeader:
    """The header of a complete file; `DamagedModelError` says what is wrong with any other."""
    try:
        return _parse(path)
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
    found = _parse(path, names).metadata
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
