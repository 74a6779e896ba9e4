"""A model name, folder or file -> where its weights lie."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secondary_sinks import files
from secondary_sinks.errors import DamagedModelError, ModelError, SinkWarning, UnknownModelError
from secondary_sinks.models.original import catalogue
from secondary_sinks.models.original.catalogue import EMBEDDED
from secondary_sinks.models.original.checkpoint import INDEX, SINGLE

PICKLES = (
    *("pytorch_model*.bin", "pytorch_model.bin.index.json", "*.pt", "*.pth", "*.ckpt"),
    *("tf_model.h5", "flax_model.msgpack"),
)
HUB_NAME = r"[\w.-]+/[\w.-]+"
REVISION = r"[\w-][\w.-]*(/[\w-][\w.-]*)*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from: `kind` is embedded, folder, gguf or hub.

    `path` is a path, or the repository of a hub model; `revision` its branch, tag or commit.
    """

    name: str
    kind: str
    path: str
    revision: str | None = None


def resolve(name: str, revision: str | None = None) -> Source:
    """Find what `name` means, without reading weights.

    A folder in Hugging Face format, a `.gguf` file or a folder with one, "smollm2-135m", an
    alias of the paper's models, or a hub name `owner/model`; the last two also as
    `name@revision`. What is there on disk is preferred to an alias.

    Raises `UnknownModelError` with near names for anything else, `ModelError` for a folder or
    file that is no model and for a revision of what has none.

    >>> resolve("qwen3-14b@main")
    Source(name='qwen3-14b', kind='hub', path='Qwen/Qwen3-14B', revision='main')
    """
    if not name.strip():
        raise UnknownModelError(_unknown(name))
    source = _on_disk(name)
    if source is None:
        name, revision = _split(name, revision)
        source = _on_disk(name) or _named(name, revision)
    if revision is not None and source.kind != "hub":
        raise ModelError(
            f"{name!r} has no revisions, but {revision!r} was asked for; only models on the hub "
            "have: leave it out, or give a hub name"
        )
    return source


def _on_disk(name: str) -> Source | None:
    path = Path(name).expanduser()
    if _is(path.is_file):
        return _file(path)
    if not _is(path.is_dir):
        return None
    named = name.lower() == EMBEDDED or catalogue.find(name) is not None
    if named and not (path / "config.json").is_file() and not any(path.glob("*.gguf")):
        return None  # a folder of results, say, that is called like an alias
    return _folder(path)


def _is(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (OSError, ValueError):  # a name that no file system can hold
        return False


def _split(name: str, revision: str | None) -> tuple[str, str | None]:
    """`name@revision` in its two parts."""
    plain, at, after = name.partition("@")
    if not at:
        return name, _checked(revision)
    if revision is not None and revision != after:
        raise ModelError(
            f"two revisions were asked for, {after!r} in the name and {revision!r} beside it; "
            "give one"
        )
    return plain, _checked(after)


def _checked(revision: str | None) -> str | None:
    if revision is not None and not re.fullmatch(REVISION, revision):
        raise ModelError(f"{revision!r} is no revision; expected a branch, a tag or a commit hash")
    return revision


def _named(name: str, revision: str | None) -> Source:
    if name.lower() == EMBEDDED:
        return Source(name=EMBEDDED, kind="embedded", path=EMBEDDED)
    entry = catalogue.find(name)
    if entry is not None:
        path = entry.repository
        return Source(name=entry.alias, kind="hub", path=path, revision=revision)
    if re.fullmatch(HUB_NAME, name) and not name.startswith("."):
        return Source(name=name, kind="hub", path=name, revision=revision)
    raise UnknownModelError(_unknown(name))


def _folder(path: Path) -> Source:
    for file in sorted(path.iterdir()):
        if file.exists() and not file.is_dir():
            files.refuse_special(file)  # libraries would wait for a pipe without end
    if not (path / "config.json").is_file():
        return _folder_without_config(path)
    if (path / "adapter_config.json").is_file():
        _refuse_adapter(path)
    if not any(path.glob("*.safetensors")) and not (path / "model.safetensors.index.json").exists():
        found = [file.name for name in PICKLES for file in sorted(path.glob(name))]
        why = f"only pickled weights ({found[0]}), which can run code" if found else "no weights"
        todo = "; load it once with transformers and save_pretrained it" if found else ""
        raise ModelError(f"folder {str(path)!r} has {why}; expected *.safetensors{todo}")
    return Source(name=path.resolve().name, kind="folder", path=str(path.resolve()))


def _folder_without_config(path: Path) -> Source:
    """The one GGUF file that the folder holds."""
    ggufs = sorted(path.glob("*.gguf"))
    if (path / "adapter_config.json").is_file():
        raise ModelError(_adapter(path))
    if len(ggufs) > 1:
        names = ", ".join(file.name for file in ggufs[:3]) + (", ..." if len(ggufs) > 3 else "")
        raise ModelError(
            f"folder {str(path)!r} has {len(ggufs)} GGUF files ({names}); give the path of one"
        )
    if not ggufs:
        raise ModelError(
            f"folder {str(path)!r} has no config.json; expected a model in Hugging Face format, "
            "or one GGUF file"
        )
    if any(path.glob("*.safetensors")):
        raise ModelError(
            f"folder {str(path)!r} has no config.json beside its *.safetensors; add the one of "
            f"the model, or give the path of {ggufs[0].name}"
        )
    return _file(ggufs[0])


def _refuse_adapter(path: Path) -> None:
    """Refuse an adapter, also next to a whole model; its config alone is a leftover."""
    whole = any((path / name).is_file() for name in (SINGLE, INDEX))
    if not whole:
        raise ModelError(_adapter(path))
    weights = next((file.name for file in sorted(path.glob("adapter_model*"))), None)
    if weights is not None:
        raise ModelError(
            f"folder {str(path)!r} holds both a whole model and an adapter ({weights}), so it "
            "cannot be said which is meant; move adapter_config.json and the adapter's weights "
            "away for the model without it, or merge them with peft's merge_and_unload()"
        )
    warnings.warn(
        f"folder {str(path)!r} holds a whole model and an adapter_config.json without the "
        "adapter's weights; the model is read as it is, without an adapter",
        SinkWarning,
        stacklevel=2,
    )


def _adapter(path: Path) -> str:
    return (
        f"folder {str(path)!r} is an adapter (adapter_config.json), not a model; merge it into "
        "its base with peft's merge_and_unload(), save_pretrained that, and give its folder"
    )


def _file(path: Path) -> Source:
    try:
        with files.open_file(path) as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if not magic:
        raise DamagedModelError(f"{str(path)!r} is empty; expected a GGUF file: copy it again")
    if magic != b"GGUF":
        raise ModelError(f"{str(path)!r} is no GGUF file; expected a GGUF file or a model folder")
    return Source(name=path.stem, kind="gguf", path=str(path.resolve()))


def _unknown(name: str) -> str:
    likely = catalogue.near(name)
    hint = f" (did you mean {', '.join(likely)}?)" if likely else ""
    shown = name if len(name) <= 123 else name[:120] + "..."
    return (
        f"unknown model {shown!r}{hint}; expected an alias that `secondary-sinks models` lists, "
        "a local folder in Hugging Face format, a GGUF file, or a hub name like 'Qwen/Qwen3-4B'"
    )
