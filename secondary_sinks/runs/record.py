"""Build `run.json`: everything that determined the numbers, and what the run cost."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from secondary_sinks import files
from secondary_sinks.models import HookedModel, architecture, class_name, weight_hash
from secondary_sinks.models.identity import wrapped_frequencies, wrapped_settings
from secondary_sinks.runs.hashes import hash_tokens, versions_of_code
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Thresholds

UNRELATED = {"model_name", "tokenizer_name", "device", "n_devices", "seed"}
"""Settings of a hooked model that do not change its numbers."""
SAID = ("text_sha256", "tokenizer_sha256", "template_sha256")
"""Fields of a text that describe where its token ids came from."""
PACKAGES = ("secondary-sinks", "torch", "transformer-lens", "transformers", "pandas", "pyarrow")


def describe(
    model: HookedModel,
    texts: Sequence[TokenizedText],
    thresholds: Thresholds,
    edit: str | None,
    seed: int,
) -> dict[str, Any]:
    """The inputs of a run, and `key`, a hash of everything that can change its tables."""
    inputs: dict[str, Any] = {
        "model": {
            "architecture": architecture(model),
            "class": class_name(model),
            "n_layers": model.cfg.n_layers,
            "d_model": model.cfg.d_model,
            "n_heads": model.cfg.n_heads,
            "weights_sha256": weight_hash(model),
            "config_sha256": config_hash(model),
        },
        "versions_of_code": versions_of_code(),
        "device": str(model.cfg.device),
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "seed": seed,
        "edit": edit,
        "thresholds": asdict(thresholds),
        "texts": [describe_text(text) for text in texts],
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }
    named = {"name": model.cfg.model_name, **inputs["model"]}
    unrelated = {*SAID, "fed"}  # of a text, its token ids change a table, but not their source
    fed = [{n: v for n, v in text.items() if n not in unrelated} for text in inputs["texts"]]
    key = files.sha256_of_json(inputs | {"texts": fed})
    return {"key": key, "commit": commit(), **inputs, "model": named}


def config_hash(model: HookedModel) -> str:
    """SHA-256 of settings and rotary tables, in which models with the same weights can differ."""
    settings = {key: str(value) for key, value in vars(model.cfg).items() if key not in UNRELATED}
    settings |= wrapped_settings(model)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    seen: dict[int, int] = {}
    names = ("rotary_cos", "rotary_sin")
    rotary = [getattr(block.attn, name, None) for block in model.blocks for name in names]
    for table in (one for one in [*rotary, *wrapped_frequencies(model)] if one is not None):
        if table.data_ptr() not in seen:
            digest.update(table.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        number = seen.setdefault(table.data_ptr(), len(seen))
        digest.update(f" {number}".encode())
    return digest.hexdigest()


def describe_text(text: TokenizedText) -> dict[str, Any]:
    """Record of a fed text, with a hash of its token ids."""
    ids = text.tokens.tolist()
    return {
        "text_id": text.text_id,
        "feed": text.feed,
        "n_tokens": len(ids),
        "tokens_sha256": hash_tokens(ids),
        **{name: getattr(text, name) for name in SAID},
        "fed": text.fed,
    }


@cache
def commit() -> str | None:
    """Git commit of the source that this package runs from, as of the first call in a process.

    None outside a repository.
    """
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            check=False,
        )
        if tracked.returncode:
            return None
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
