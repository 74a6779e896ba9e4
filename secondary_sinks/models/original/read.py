"""Reading originals: a source -> the Hugging Face model and tokenizer it holds.

Whatever can be wrong is found as early as can be: the config first, then the tokenizer, then the
headers of the weight files and the memory, and only then are weights read. They are mapped from
their files, so that no second copy of them is made; weights stored in a larger dtype than was asked
for are read one by one, since mapped pages would stay beside what is made of them.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import modeling_utils
from transformers.utils import logging as hf_logging

from secondary_sinks.errors import DamagedModelError, ModelError, reason
from secondary_sinks.foreign import load_weights
from secondary_sinks.models import limits, memory
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.models.original import checkpoint, generation, hub
from secondary_sinks.models.original import config as declared
from secondary_sinks.models.original import tokenizer as vocabulary
from secondary_sinks.models.original.sources import Source


class Original(NamedTuple):
    """What was read: the Hugging Face model, its tokenizer or None, and the hub commit or None."""

    model: Any
    tokenizer: Any
    commit: str | None


class _Place(NamedTuple):
    """Where a model lies: what errors call it, its folder, its commit, and whether the hub is up.

    `commit` is None for what is not on the hub.
    """

    name: str
    folder: Path
    commit: str | None = None
    online: bool = False


def read_original(
    source: Source,
    dtype: torch.dtype,
    *,
    trust_remote_code: bool = False,
    device_map: Any = None,
    accept: Callable[[Any], None] | None = None,
) -> Original:
    """The Hugging Face model and tokenizer of a source, on the CPU unless `device_map` says else.

    Code that a model brings along is run only with `trust_remote_code`, and only where
    transformers has none for its type. `accept` is called with the config before weights are
    downloaded or read, and may raise. A folder without a tokenizer gives None for it.

    Raises `UnknownModelError`, `HubError`, `DamagedModelError`, `UnsupportedModelError`,
    `ModelMemoryError`, or their base `ModelError`.
    """
    with quiet():
        place = place_of(source, code=trust_remote_code)
        config = declared.read_config(place.folder, place.name, trust_remote_code=trust_remote_code)
        if accept is not None:
            accept(config)
        packed = declared.ask_for_dense(config, place.name)
        tokenizer = vocabulary.read_tokenizer(
            place.folder, place.name, trust_remote_code=trust_remote_code
        )
        vocabulary.check_tokenizer(tokenizer, config.vocab_size, place.name)
        _fetch_weights(place, config, dtype, memory.device_of(device_map))
        parameters = checkpoint.check_weights(place.folder)
        # Packed values are not yet weights: those are counted from the config.
        own_code = trust_remote_code and not declared.is_native(config)
        described = memory.parameters_of(config, trusted=own_code)
        if not packed:
            _refuse_other_size(place.name, config, described, parameters)
        size = memory.Size(place.name, described if packed else parameters, _word(dtype))
        model = _read(place, config, dtype, device_map, size, trusted=own_code)
        if packed:  # some come out in the dtype of their scales
            model.to(dtype)
    return Original(model, tokenizer, place.commit)


def place_of(source: Source, *, code: bool) -> _Place:
    """Where a source lies on the disk; of a hub model, with everything but its weights."""
    if source.kind == "folder":
        return _Place(source.path, Path(source.path))
    if source.kind in {"embedded", "gguf"}:
        gguf = Path(source.path) if source.kind == "gguf" else gguf_cache.embedded_gguf()
        return _Place(str(gguf), gguf_cache.converted_folder(gguf))
    online = hub.answers()
    files = (*hub.SMALL_FILES, "*.py") if code else hub.SMALL_FILES
    folder = hub.fetch(source.path, source.revision, files, online=online)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"repository {source.path!r} has no config.json; expected a model in Hugging Face "
            "format (of a repository of GGUF files, download one and give its path)"
        )
    return _Place(source.path, folder, folder.name, online)


def _refuse_other_size(name: str, config: Any, described: int, stored: int) -> None:
    """Refuse a config of a much larger model: its missing weights would be made up in memory."""
    if described > 2 * stored:
        raise DamagedModelError(
            f"the config.json of {name!r} describes a model of {described} weights, and its files "
            f"hold {stored}; expected the config and the files of one model (its config says "
            f"{limits.largest(config.to_dict())})"
        )


def _fetch_weights(place: _Place, config: Any, dtype: torch.dtype, device: str | None) -> None:
    """Download the weights of a hub model, unless they could not be held in memory anyway."""
    if place.commit is None:
        return
    if declared.is_native(config):
        size = memory.Size(place.name, memory.parameters_of(config), _word(dtype))
        memory.require(size, device)
    names = checkpoint.weight_names(place.folder)
    hub.fetch(place.name, place.commit, names, online=place.online)


def _read(
    place: _Place,
    config: Any,
    dtype: torch.dtype,
    device_map: Any,
    size: memory.Size,
    *,
    trusted: bool,
) -> Any:
    device = memory.device_of(device_map)
    memory.require(size, device)
    weights = memory.weight_bytes(size.parameters, size.dtype)
    shrinks = checkpoint.stored_bytes(place.folder) > 1.1 * weights
    try:
        with memory.watched(size, device), _unmapped() if shrinks else contextlib.nullcontext():
            model, found = load_weights(
                place.folder,
                trusted=trusted,
                config=config,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
                device_map=device_map,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **generation.instead_of_broken(place.folder),
            )
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds; each means "not loadable"
        raise ModelError(f"model {place.name!r} cannot be loaded: {reason(error)}") from error
    checkpoint.refuse_other_weights(place.name, type(model).__name__, found)
    return model


@contextlib.contextmanager
def _unmapped() -> Iterator[None]:
    """Weight files are read tensor by tensor, not mapped; transformers has no option for that."""
    mapped = modeling_utils.safe_open

    def safe_open(*args: Any, **options: Any) -> Any:
        return mapped(*args, **{**options, "backend": "pread"})

    modeling_utils.safe_open = safe_open
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or advice of transformers while we load."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
