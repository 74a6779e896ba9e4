"""`load_model`: one door for every model."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_session
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from secondary_sinks.errors import ModelError
from secondary_sinks.models import gguf_cache
from secondary_sinks.models.convert import to_hooked
from secondary_sinks.models.proof import prove_equal
from secondary_sinks.models.sources import Source, resolve

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
HUB_SECONDS = 5.0


def load_model(
    name: str | os.PathLike[str],
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    verify: bool = True,
) -> Any:
    """Load a model as a `HookedTransformer` with unprocessed weights.

    `name` is "smollm2-135m", a local folder in Hugging Face format, a GGUF file, or a hub name.
    `device` defaults to CUDA where there is one, else the CPU; `dtype` ("float32", "bfloat16",
    "float16") to float32. With `verify`, logits and residuals are compared with the Hugging
    Face original on a probe text, and a model that disagrees is refused.

    Raises `UnknownModelError`, `UnsupportedModelError`, `ModelMismatchError`, or their base
    `ModelError`.
    """
    source = resolve(os.fspath(name))
    hf_model, tokenizer = _originals(source, parse_dtype(dtype))
    hooked = to_hooked(hf_model, tokenizer, source.name, parse_device(device))
    if verify:
        prove_equal(hooked, hf_model)
    return hooked


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A torch dtype from its name; float32 when none is given."""
    if dtype is None:
        return torch.float32
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ModelError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return found


def parse_device(device: str | None) -> str:
    """A device that is there; CUDA before CPU when none is given."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}") from error
    return device


def _originals(source: Source, dtype: torch.dtype) -> tuple[Any, Any]:
    """The Hugging Face model and tokenizer of a source."""
    if source.kind == "hub":
        return _read(source.path, dtype, local=False)
    gguf = {"embedded": gguf_cache.embedded_gguf, "gguf": lambda: Path(source.path)}.get(
        source.kind
    )
    folder = gguf_cache.converted_folder(gguf()) if gguf else Path(source.path)
    return _read(str(folder), dtype, local=True)


def _read(place: str, dtype: torch.dtype, *, local: bool) -> tuple[Any, Any]:
    offline = local or not _hub_answers()
    arguments = {"local_files_only": offline, "trust_remote_code": False}
    try:
        with _quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                place,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
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
    return model, tokenizer


def _hub_answers() -> bool:
    """Whether the hub can be reached; asked once, since each file is tried for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception:  # offline mode, no name service, refused, too slow
        return False
    return True


def _read_tokenizer(place: str, arguments: dict[str, bool], *, local: bool) -> Any:
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
