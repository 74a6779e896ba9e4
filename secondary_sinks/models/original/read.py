"""Read: a checked `Description` -> the `Original`, a Hugging Face model and its tokenizer.

Weights are mapped from their files, so that no second copy of them is made. Weights that are stored
in a larger dtype than was asked for are read one by one instead: their mapped pages would stay in
memory together with the converted weights.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, modeling_utils
from transformers.utils import logging as hf_logging

from secondary_sinks.errors import DamagedModelError, ModelError, SinkWarning, reason
from secondary_sinks.foreign import load_weights
from secondary_sinks.layerwise.cached_generation import UNREADABLE, fault_of_ends
from secondary_sinks.models.model_size import (
    ModelSize,
    count_parameters,
    explain_out_of_memory,
    single_device,
    weight_bytes,
)
from secondary_sinks.models.original import checkpoint
from secondary_sinks.models.original.check import Description, check_weights, describe
from secondary_sinks.models.original.checkpoint import read_json
from secondary_sinks.models.original.fetch import fetch
from secondary_sinks.models.original.sources import Source

FILE = "generation_config.json"


def stand_in_if_broken(folder: Path) -> dict[str, Any]:
    """Options of `from_pretrained`: a stand-in for a broken file that says what is wrong with it.

    None where the file is whole, or there is none. A `SinkWarning` says what is wrong.
    """
    wrong = _fault(folder / FILE)
    if not wrong:
        return {}
    warnings.warn(
        f"{wrong}; only `generate` needs it, and will refuse this model",
        SinkWarning,
        stacklevel=2,
    )
    return {"generation_config": GenerationConfig(**{UNREADABLE: wrong})}


def _fault(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        found = read_json(path)
        GenerationConfig.from_dict(found)
    except DamagedModelError as error:
        return str(error)
    except Exception as error:  # values of a wrong type: transformers raises many kinds
        return f"{str(path)!r} cannot be used ({error}); take the one that belongs to the model"
    wrong = fault_of_ends(found.get("eos_token_id"))
    return f"{str(path)!r} cannot be used: {wrong}" if wrong else ""


class Original(NamedTuple):
    """A Hugging Face model, its tokenizer (or None) and where it comes from."""

    model: Any
    tokenizer: Any
    source: Source
    """With the commit that was read, for a hub model."""


def read_original(
    source: Source,
    dtype: torch.dtype,
    *,
    trust_remote_code: bool = False,
    device_map: Any = None,
    accept: Callable[[Any], None] | None = None,
) -> Original:
    """Fetch, check and read a source: its Hugging Face model and tokenizer.

    The model is on the CPU unless there is a `device_map`. Code that comes with a model runs only
    with `trust_remote_code`, and only if transformers has no code for its type. `accept` is called
    with the config before weights are downloaded or read, and may raise.

    Raises `UnknownModelError`, `HubError`, `DamagedModelError`, `UnsupportedModelError`,
    `ModelMemoryError`, or their base `ModelError`.
    """
    dtype_name = str(dtype).removeprefix("torch.")
    with quiet_transformers():
        fetched = fetch(source, with_code=trust_remote_code)
        description = describe(fetched, trust_remote_code=trust_remote_code, accept=accept)
        size = check_weights(description, dtype_name, single_device(device_map))
        model = _read_weights(description, size, dtype, device_map)
    return Original(model, description.tokenizer, fetched.source)


def _read_weights(
    description: Description, size: ModelSize, dtype: torch.dtype, device_map: Any
) -> Any:
    folder = description.fetched.folder
    converts = checkpoint.stored_bytes(folder) > 1.1 * weight_bytes(size.parameters, size.dtype)
    reading = _without_mapping() if converts else contextlib.nullcontext()
    try:
        with explain_out_of_memory(size, single_device(device_map)), reading:
            model, loading_info = load_weights(
                folder,
                trusted=description.runs_own_code,
                config=description.config,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
                device_map=device_map,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **stand_in_if_broken(folder),
            )
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds; each means "not loadable"
        raise ModelError(f"model {size.name!r} cannot be loaded: {reason(error)}") from error
    checkpoint.refuse_other_weights(size.name, type(model).__name__, loading_info)
    # Some dequantised weights have the dtype of their scales.
    return model.to(dtype) if description.quantised else model


@contextlib.contextmanager
def _without_mapping() -> Iterator[None]:
    """Read weight files tensor by tensor, without mapping; transformers has no option for that."""
    mapped = modeling_utils.safe_open

    def safe_open(*args: Any, **options: Any) -> Any:
        return mapped(*args, **{**options, "backend": "pread"})

    modeling_utils.safe_open = safe_open
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Switch off the progress bars and advice of transformers."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """Sizes of a model and its tokenizer."""

    name: str
    n_layers: int
    n_ctx: int | None
    d_model: int
    d_vocab: int
    parameters: int
    tokenizer: Any
    """None if the model has no tokenizer."""


def outline(source: Source, *, trust_remote_code: bool = False) -> Outline:
    """Read and check the config and the tokenizer of a source.

    Of a hub model, everything but the weights is downloaded. The weights are counted on a model
    that is built without memory for them. Raises `ModelError` like `read_original`.
    """
    with quiet_transformers():
        fetched = fetch(source, with_code=trust_remote_code)
        description = describe(fetched, trust_remote_code=trust_remote_code)
        config = description.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return Outline(
            name=source.name,
            n_layers=int(text.num_hidden_layers),
            n_ctx=getattr(text, "max_position_embeddings", None),
            d_model=int(text.hidden_size),
            d_vocab=int(text.vocab_size),
            parameters=count_parameters(config, trusted=description.runs_own_code),
            tokenizer=description.tokenizer,
        )
