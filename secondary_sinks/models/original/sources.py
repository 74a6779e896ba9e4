"""Resolve: the name of a model, a folder or a file -> the `Source` that it means."""

import re
import warnings
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
    """Where a model comes from; `kind` is embedded, folder, gguf, hub or object.

    `path` is a path, the repository of a hub model, or the class of a model object.
    """

    name: str
    kind: str
    path: str
    revision: str | None = None
    """Branch, tag or commit that was asked for; None for the main branch."""
    commit: str | None = None
    """Commit of a hub model, known from when its files are fetched."""


def resolve(name: str, revision: str | None = None) -> Source:
    """Find the model that `name` means, without reading weights.

    `name` is a folder in Hugging Face format, a `.gguf` file or a folder with one, "smollm2-135m",
    an alias of the paper's models, or a hub name `owner/model`; aliases and hub names may be
    written `name@revision`. Files and folders take precedence over aliases.

    Raises `UnknownModelError` with similar names for anything else, and `ModelError` for a folder
    or file that is not a model and for a revision of a model that is not on the hub.

    >>> source = resolve("qwen3-14b@main")
    >>> source.kind, source.path, source.revision
    ('hub', 'Qwen/Qwen3-14B', 'main')
    """
    if not name.strip():
        raise UnknownModelError(_unknown(name))
    source = _from_disk(name)
    if source is None:
        name, revision = _split_revision(name, revision)
        source = (_from_disk(name) if name else None) or _from_name(name, revision)
    if revision is not None and source.kind != "hub":
        raise ModelError(
            f"{name!r} has no revisions, but {revision!r} was asked for; only models on the hub "
            "have revisions: leave it out, or give a hub name"
        )
    return source


def _from_disk(name: str) -> Source | None:
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError):  # a name that no path can have, an unknown ~user
        return None
    if is_file:
        return _gguf_source(path)
    if not is_folder or _only_named_like_an_alias(name, path):
        return None
    return _folder_source(path)


def _only_named_like_an_alias(name: str, folder: Path) -> bool:
    """Whether a folder has the name of an alias but holds no model: results, for example."""
    if name.lower() != EMBEDDED and catalogue.find(name) is None:
        return False
    return not (folder / "config.json").is_file() and not any(folder.glob("*.gguf"))


def _split_revision(name: str, revision: str | None) -> tuple[str, str | None]:
    """`name@revision` in its two parts; an explicit `revision` must not contradict it."""
    plain, at, in_name = name.partition("@")
    if at and revision is not None and revision != in_name:
        raise ModelError(
            f"two revisions were asked for, {in_name!r} in the name and {revision!r} as the "
            "revision",
            "give one",
        )
    revision = in_name if at else revision
    if revision is not None and not re.fullmatch(REVISION, revision):
        raise ModelError(
            f"{revision!r} is not a revision", "expected a branch, a tag or a commit hash"
        )
    return plain, revision


def _from_name(name: str, revision: str | None) -> Source:
    if name.lower() == EMBEDDED:
        return Source(name=EMBEDDED, kind="embedded", path=EMBEDDED)
    entry = catalogue.find(name)
    if entry is not None:
        return Source(name=entry.alias, kind="hub", path=entry.repository, revision=revision)
    if re.fullmatch(HUB_NAME, name) and not name.startswith("."):
        return Source(name=name, kind="hub", path=name, revision=revision)
    raise UnknownModelError(_unknown(name))


def _folder_source(folder: Path) -> Source:
    for file in sorted(folder.iterdir()):
        if file.exists() and not file.is_dir():
            files.refuse_special(file)  # libraries would wait forever for a pipe
    if not (folder / "config.json").is_file():
        return _source_without_config(folder)
    if (folder / "adapter_config.json").is_file():
        _refuse_adapter(folder)
    if not any(folder.glob("*.safetensors")) and not (folder / INDEX).exists():
        pickles = [file.name for name in PICKLES for file in sorted(folder.glob(name))]
        if not pickles:
            raise ModelError(f"folder {str(folder)!r} has no weights", "expected *.safetensors")
        raise ModelError(
            f"folder {str(folder)!r} has only pickled weights ({pickles[0]}), which can run code; "
            "expected *.safetensors",
            "load it once with transformers and save_pretrained it",
        )
    return Source(name=folder.resolve().name, kind="folder", path=str(folder.resolve()))


def _source_without_config(folder: Path) -> Source:
    """The one GGUF file that the folder holds."""
    ggufs = sorted(folder.glob("*.gguf"))
    if (folder / "adapter_config.json").is_file():
        raise ModelError(_is_adapter(folder))
    if len(ggufs) > 1:
        names = ", ".join(file.name for file in ggufs[:3]) + (", ..." if len(ggufs) > 3 else "")
        raise ModelError(
            f"folder {str(folder)!r} has {len(ggufs)} GGUF files ({names})", "give the path of one"
        )
    if not ggufs:
        raise ModelError(
            f"folder {str(folder)!r} has no config.json",
            "expected a model in Hugging Face format, or one GGUF file",
        )
    if any(folder.glob("*.safetensors")):
        raise ModelError(
            f"folder {str(folder)!r} has *.safetensors but no config.json",
            f"add the config.json of that model, or give the path of {ggufs[0].name}",
        )
    return _gguf_source(ggufs[0])


def _refuse_adapter(folder: Path) -> None:
    """Refuse an adapter, also together with a whole model; warn of an adapter's config alone."""
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        raise ModelError(_is_adapter(folder))
    weights = next((file.name for file in sorted(folder.glob("adapter_model*"))), None)
    if weights is not None:
        raise ModelError(
            f"folder {str(folder)!r} holds both a whole model and an adapter ({weights}), and "
            "either could be meant",
            "move adapter_config.json and the adapter's weights away to "
            "load the model without it, or merge them with peft's merge_and_unload()",
        )
    warnings.warn(
        f"folder {str(folder)!r} holds a whole model and an adapter_config.json without the "
        "adapter's weights; the model is read as it is, without an adapter",
        SinkWarning,
        stacklevel=2,
    )


def _is_adapter(folder: Path) -> str:
    return (
        f"folder {str(folder)!r} is an adapter (adapter_config.json), not a model; merge it into "
        "its base with peft's merge_and_unload(), save_pretrained that, and give its folder"
    )


def _gguf_source(path: Path) -> Source:
    try:
        with files.open_file(path) as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if not magic:
        raise DamagedModelError(f"{str(path)!r} is empty", "expected a GGUF file: copy it again")
    if magic != b"GGUF":
        raise ModelError(
            f"{str(path)!r} is not a GGUF file", "expected a GGUF file or a model folder"
        )
    return Source(name=path.stem, kind="gguf", path=str(path.resolve()))


def _unknown(name: str) -> str:
    similar = catalogue.similar_aliases(name)
    hint = f" (did you mean {', '.join(similar)}?)" if similar else ""
    shown = name if len(name) <= 123 else name[:120] + "..."
    return (
        f"unknown model {shown!r}{hint}; expected an alias that `secondary-sinks models` lists, "
        "a local folder in Hugging Face format, a GGUF file, or a hub name like 'Qwen/Qwen3-4B'"
    )
