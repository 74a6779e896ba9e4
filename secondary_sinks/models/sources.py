"""A model name, folder or file -> where its weights lie."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secondary_sinks.errors import ModelError, UnknownModelError

EMBEDDED = "smollm2-135m"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from: `kind` is embedded, folder, gguf or hub."""

    name: str
    kind: str
    path: str


def resolve(name: str) -> Source:
    """Find what `name` means, without reading weights.

    An alias, a folder in Hugging Face format, a `.gguf` file, or a hub name `owner/model`.
    Raises `UnknownModelError` with near names for anything else.
    """
    path = Path(name).expanduser()
    if name.lower() == EMBEDDED:
        return Source(name=EMBEDDED, kind="embedded", path=EMBEDDED)
    if _is(path.is_dir):
        return _folder(path)
    if _is(path.is_file):
        return _file(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "/")):
        return Source(name=name, kind="hub", path=name)
    raise UnknownModelError(_unknown(name))


def _is(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (OSError, ValueError):  # a name that no file system can hold
        return False


def _folder(path: Path) -> Source:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"folder {str(path)!r} has no config.json; expected a model in Hugging Face format"
        )
    if not any(path.glob("*.safetensors")):
        found = [name for name in PICKLES if (path / name).exists()]
        why = f"only pickled weights ({found[0]}), which can run code" if found else "no weights"
        raise ModelError(f"folder {str(path)!r} has {why}; expected *.safetensors")
    return Source(name=path.resolve().name, kind="folder", path=str(path.resolve()))


def _file(path: Path) -> Source:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(
                f"{str(path)!r} is no GGUF file; expected a GGUF file or a model folder"
            )
    return Source(name=path.stem, kind="gguf", path=str(path.resolve()))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), [EMBEDDED], n=3, cutoff=0.3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    shown = name if len(name) <= 123 else name[:120] + "..."
    return (
        f"unknown model {shown!r}{hint}; expected {EMBEDDED!r}, a local folder in Hugging Face "
        "format, a GGUF file, or a hub name like 'Qwen/Qwen3-4B'"
    )
