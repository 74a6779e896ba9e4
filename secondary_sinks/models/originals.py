"""Reading originals: a source -> the Hugging Face model and tokenizer it holds."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import constants, get_session
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from secondary_sinks.errors import ModelError
from secondary_sinks.models import gguf_cache
from secondary_sinks.models.sources import Source

HUB_SECONDS = 5.0


class Original(NamedTuple):
    """What was read: the Hugging Face model, its tokenizer or None, and the hub commit or None."""

    model: Any
    tokenizer: Any
    commit: str | None


def read_original(
    source: Source,
    dtype: torch.dtype,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device_map: Any = None,
) -> Original:
    """The Hugging Face model and tokenizer of a source, on the CPU unless `device_map` says else.

    `revision` is a branch, tag or commit of a hub repository. Code that a repository brings
    along is run only with `trust_remote_code`. Raises `ModelError` for whatever cannot be read.
    """
    arguments = {"revision": revision, "trust_remote_code": trust_remote_code}
    if source.kind == "hub":
        return _read(source.path, dtype, arguments, device_map, local=False)
    gguf = {"embedded": gguf_cache.embedded_gguf, "gguf": lambda: Path(source.path)}.get(
        source.kind
    )
    folder = gguf_cache.converted_folder(gguf()) if gguf else Path(source.path)
    return _read(str(folder), dtype, arguments, device_map, local=True)


def _read(
    place: str, dtype: torch.dtype, arguments: dict[str, Any], device_map: Any, *, local: bool
) -> Original:
    arguments = arguments | {"local_files_only": local or not _hub_answers()}
    try:
        with _quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                place,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
                device_map=device_map,
                **arguments,
                output_loading_info=True,
            )
            if found["missing_keys"]:
                raise ModelError(f"weights are missing: {sorted(found['missing_keys'])[:3]}")
            tokenizer = _read_tokenizer(place, arguments, local=local)
    except Exception as error:  # transformers raises many kinds; each means "not loadable"
        hint = "" if local else "; without a network, give the path of a local folder"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"model {place!r} cannot be loaded: {reason}{hint}") from error
    return Original(model, tokenizer, getattr(model.config, "_commit_hash", None))


def _hub_answers() -> bool:
    """Whether the hub can be reached; asked once, since each file is tried for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception:  # offline mode, no name service, refused, too slow
        return False
    return True


def _read_tokenizer(place: str, arguments: dict[str, Any], *, local: bool) -> Any:
    """The tokenizer, or None where a local folder has none (the caller then feeds token ids)."""
    files = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if local and not any((Path(place) / file).exists() for file in files):
        return None
    return AutoTokenizer.from_pretrained(place, **arguments)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
