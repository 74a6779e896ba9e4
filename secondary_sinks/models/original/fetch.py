"""Fetch: a `Source` -> its files in a local folder, in Hugging Face format.

Of a hub model everything but the weights is fetched first, so that a model that will be refused is
not downloaded.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from secondary_sinks.errors import ModelError
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.models.original import checkpoint, hub
from secondary_sinks.models.original.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A model whose files are on this machine; those of a hub model except its weights."""

    source: Source
    """With the commit, for a hub model."""
    folder: Path
    online: bool = False
    """Whether the hub answered."""

    @property
    def label(self) -> str:
        """Name of the model in error messages: its path or repository."""
        return self.source.path


def fetch(source: Source, *, with_code: bool = False) -> Fetched:
    """Convert a GGUF file, or download everything but the weights of a hub model.

    Python files are downloaded only `with_code`. Raises `HubError`, `UnknownModelError` or another
    `ModelError` that says what is missing.
    """
    if source.kind == "folder":
        return Fetched(source=source, folder=Path(source.path))
    if source.kind in {"embedded", "gguf"}:
        gguf = _gguf_of(source)
        folder = gguf_cache.converted_folder(gguf)
        return Fetched(source=replace(source, path=str(gguf)), folder=folder)
    online = hub.is_reachable()
    patterns = (*hub.SMALL_FILES, "*.py") if with_code else hub.SMALL_FILES
    folder = hub.download(source.path, source.revision, patterns, online=online)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"repository {source.path!r} has no config.json",
            "expected a model in Hugging Face "
            "format (of a repository of GGUF files, download one and give its path)",
        )
    return Fetched(source=replace(source, commit=folder.name), folder=folder, online=online)


def _gguf_of(source: Source) -> Path:
    return Path(source.path) if source.kind == "gguf" else gguf_cache.embedded_gguf()


def places_of(source: Source) -> list[Path]:
    """The file or folder of a model on this machine, and its converted copy; nothing is checked."""
    if source.kind == "folder":
        return [Path(source.path)]
    gguf = _gguf_of(source)
    return [gguf, gguf_cache.folder_of(gguf)]


def fetch_weights(fetched: Fetched) -> None:
    """Download the weights of a hub model, of the same commit as its other files."""
    if fetched.source.kind == "hub":
        names = checkpoint.weight_names(fetched.folder)
        hub.download(fetched.source.path, fetched.source.commit, names, online=fetched.online)
