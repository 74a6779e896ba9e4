"""A GGUF file's header: checked whole before it is read, and held against what was read.

Every count and length is checked against the size of the file, so that a cut file or a damaged
header is noticed at once. Flipped bits inside a weight are not: the format carries no checksum.
Layout: magic, version, number of tensors, number of metadata; the metadata; name, dimensions,
type and offset of each tensor; the tensors.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Sequence
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
"""Of values, in one list; the largest is the merges of a tokenizer, some 500,000."""
# metadata -> where a config says the same, if it says it
SIZES = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps"),
    "expert_used_count": ("num_experts_per_tok",),
}
# metadata of what may be switched off: then it is 0 or left out, and None in a config
SWITCHES = {
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
IGNORED = (
    *("attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "rope.scale_linear"),
    *("logit_scale", "residual_scale", "embedding_scale"),
)
"""Metadata that changes every number, and that the reader does not take into account."""


class GgufTensor(NamedTuple):
    """Where a tensor lies: its number of values, ggml's number of its type, and its first byte."""

    values: int
    kind: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Metadata (None for an array) and the tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as "llama" or "qwen2"."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def sizes(self) -> dict[str, Any]:
        """The metadata of the architecture, without its name in front."""
        prefix = f"{self.architecture}."
        found = [key for key in self.metadata if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.metadata[key] for key in found}

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.values for tensor in self.tensors.values())


def read_header(path: Path) -> GgufHeader:
    """The header of a file that is whole; `DamagedModelError` says where it is not."""
    try:
        with (
            files.open_file(path) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _Walk(data).header()
    except (struct.error, _DamageError, ValueError) as error:
        size = path.stat().st_size
        raise DamagedModelError(
            f"GGUF file {str(path)!r} ({size} bytes) is cut or damaged ({error}); copy or download "
            "it again"
        ) from error
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The lists in the metadata of a file whose header was read before, those that it has."""
    with (
        files.open_file(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        found = _Walk(data, frozenset(names)).header().metadata
    return {name: found[name] for name in names if found.get(name) is not None}


def refuse_split(header: GgufHeader, path: Path) -> None:
    """Raise `UnsupportedModelError` for one of several files of a model."""
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count > 1:
        raise UnsupportedModelError(
            f"{str(path)!r} is one of {count} files of a model; merge them with llama.cpp's "
            "`llama-gguf-split --merge FIRST_FILE WHOLE_FILE`, and give that file"
        )


def refuse_endless(header: GgufHeader, path: Path) -> None:
    """Raise `DamagedModelError` for sizes that no model has: they would be built, one by one."""
    wrong = limits.impossible_size(header.sizes)
    if wrong:
        raise DamagedModelError(
            f"GGUF file {str(path)!r} cannot be used: {header.architecture}.{wrong}; copy or "
            "download it again"
        )


def refuse_other(header: GgufHeader, config: Any, parameters: int, path: Path) -> None:
    """Raise `UnsupportedModelError` when a model was read that is not the one in the file.

    The reader leaves out what it does not know: scaled ropes above all. So the config must say
    what the metadata say, and `parameters`, the tensors that came into it, be all that there are.
    """
    said = header.sizes
    wrong = [why for check in (_sizes, _switches, _ropes) for why in check(said, config)]
    if header.parameters != parameters:
        extra = [name for name in header.tensors if name.startswith("rope_")] or ["some tensors"]
        wrong.append(
            f"{extra[0]}: the file holds {header.parameters} numbers, and {parameters} were read"
        )
    if wrong:
        raise UnsupportedModelError(
            f"GGUF file {str(path)!r} says more than transformers reads from it ({wrong[0]}), so "
            "another model would be measured; give the model's folder or hub name in Hugging Face "
            "format"
        )


def _sizes(said: dict[str, Any], config: Any) -> Iterator[str]:
    for key, names in SIZES.items():
        found = next((name for name in names if getattr(config, name, None) is not None), None)
        if found and said.get(key) is not None and not _close(said[key], getattr(config, found)):
            yield f"{key} is {said[key]}, {found} became {getattr(config, found)}"


def _switches(said: dict[str, Any], config: Any) -> Iterator[str]:
    for key, name in SWITCHES.items():
        used = getattr(config, f"use_{name}", True)
        value, became = said.get(key) or 0, (used and getattr(config, name, None)) or 0
        if not _close(value, became):
            yield f"{key} is {value}, {name} became {became}"
    for key in IGNORED:
        if said.get(key) not in (None, 0, 1, False):
            yield f"{key} is {said[key]}"


def _ropes(said: dict[str, Any], config: Any) -> Iterator[str]:
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None)
    for key, became in (
        ("rope.freq_base", rope.get("rope_theta")),
        ("rope.dimension_count", width * (share or 1.0)),
    ):
        if said.get(key) is not None and not _close(said[key], became):
            yield f"{key} is {said[key]}, and became {became}"
    scaling = said.get("rope.scaling.type", "none")
    if scaling not in ("none", rope.get("rope_type")):
        yield f"rope.scaling.type is {scaling}, and became {rope.get('rope_type')}"


def _close(value: Any, said: Any) -> bool:
    numbers = isinstance(value, int | float) and isinstance(said, int | float)
    return numbers and math.isclose(value, said, rel_tol=1e-5)


class _DamageError(Exception):
    """What is wrong, in a few words."""


class _Walk:
    """A place in the file that only moves forward, and never past its end."""

    def __init__(self, data: mmap.mmap, kept: frozenset[str] = frozenset()) -> None:
        self._data, self._at, self._kept = data, 0, kept

    def header(self) -> GgufHeader:
        magic, version, n_tensors, n_metadata = self._take("4sIQQ")
        if magic != b"GGUF" or version not in VERSIONS:
            raise _DamageError(f"magic {magic!r}, version {version}")
        self._refuse_count("tensors", n_tensors, MOST_TENSORS)
        self._refuse_count("metadata", n_metadata, MOST_METADATA)
        metadata = dict(self._entry() for _ in range(n_metadata))
        places = [self._tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not places or not isinstance(alignment, int) or alignment <= 0:
            raise _DamageError("no tensors, or no alignment")
        end = data = -(-self._at // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, values, kind, n_bytes, offset in places:
            start = data + offset
            if name in tensors or start != -(-end // alignment) * alignment:
                raise _DamageError(f"tensor {name!r} does not follow the one before it")
            end = start + n_bytes
            if end > len(self._data):
                raise _DamageError(f"tensor {name!r} ends past the end of the file")
            tensors[name] = GgufTensor(values, kind, start)
        return GgufHeader(metadata=metadata, tensors=tensors)

    def _take(self, layout: str) -> Any:
        found = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return found

    def _refuse_count(self, what: str, count: int, most: int) -> None:
        """Each of what is counted takes a byte at least."""
        room = min(most, len(self._data) - self._at)
        if count > room:
            raise _DamageError(f"it says that it holds {count} {what}; expected at most {room}")

    def _skip(self, n_bytes: int) -> None:
        if n_bytes > len(self._data) - self._at:
            raise _DamageError("it ends inside its header")
        self._at += n_bytes

    def _string(self) -> str:
        (length,) = self._take("Q")
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode("utf-8")

    def _entry(self) -> tuple[str, Any]:
        key = self._string()
        (kind,) = self._take("I")
        return key, self._value(kind, kept=key in self._kept)

    def _value(self, kind: int, *, kept: bool) -> Any:
        if kind == STRING:
            return self._string()
        if kind in SCALARS:
            return self._take(SCALARS[kind])[0]
        if kind != ARRAY:
            raise _DamageError(f"metadata of an unknown type, {kind}")
        inner, count = self._take("IQ")
        self._refuse_count("values in a list", count, MOST_VALUES)
        if inner == STRING:
            strings = [self._string() for _ in range(count)]
            return strings if kept else None
        if inner not in SCALARS:
            raise _DamageError(f"a list of an unknown type, {inner}")
        if kept:
            return list(self._take(f"{count}{SCALARS[inner]}"))
        self._skip(count * struct.calcsize("<" + SCALARS[inner]))
        return None

    def _tensor(self) -> tuple[str, int, int, int, int]:
        """Name, number of values, type, bytes, and where it starts in the data."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self._string()
        (n_dims,) = self._take("I")
        if not 0 < n_dims <= 4:
            raise _DamageError(f"tensor {name!r} has {n_dims} dimensions")
        n_values = math.prod(self._take(f"{n_dims}Q"))
        kind, offset = self._take("IQ")
        values, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if n_values % values:
            raise _DamageError(f"tensor {name!r} is not made of whole blocks")
        return name, n_values, kind, n_values // values * n_bytes, offset
