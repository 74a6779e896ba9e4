"""Guarded calls into transformers and datasets, which could run code that a model brings along.

transformers imports the modules that an `auto_map` names, prompts on the terminal when it was not
told whether it may, and reads other files next to the one that was asked for. datasets before
version 4 ran loading scripts. So every call that reads a config, tokenizer, model or data set is
made here:

* `trust_remote_code` is always passed explicitly;
* without trust, importing a module of a model raises, wherever transformers tries it;
* nothing prompts on the terminal;
* a GGUF file is read from a folder of its own; an adapter next to weights is not applied.

`tests/test_foreign.py` finds calls that bypass this module.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secondary_sinks.errors import UnsupportedModelError

NO_ADAPTER = {"subfolder": "no-adapter-is-read"}
"""A folder that does not exist, so that peft (if installed) finds no adapter to apply."""


def load_config(folder: Path, *, trusted: bool) -> Any:
    """The Hugging Face config of a folder."""
    from transformers import AutoConfig

    with _guard(folder, trusted):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)


def load_tokenizer(folder: Path, *, trusted: bool, **options: Any) -> Any:
    """The tokenizer of a folder."""
    from transformers import AutoTokenizer

    with _guard(folder, trusted):
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trusted, local_files_only=True, **options
        )


def load_weights(folder: Path, *, trusted: bool, **options: Any) -> Any:
    """The causal language model of a folder; `options` go to `from_pretrained`."""
    from transformers import AutoModelForCausalLM

    with _guard(folder, trusted):
        return AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=trusted,
            local_files_only=True,
            adapter_kwargs=NO_ADAPTER,
            **options,
        )


def build_model(config: Any, *, trusted: bool = False) -> Any:
    """A model with random weights from a config.

    Attention is eager, because a config could name an attention kernel on the hub, which is code.
    """
    from transformers import AutoModelForCausalLM

    with _guard(getattr(config, "_name_or_path", "") or type(config).__name__, trusted):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=trusted, attn_implementation="eager"
        )


def load_data_set(name: str, split: str) -> Any:
    """One split of a data set on the hub; only tables are read."""
    import datasets

    with _guard(name, trusted=False):
        return datasets.load_dataset(name, split=split, trust_remote_code=False)


def load_saved_data_set(folder: str) -> Any:
    """A data set, or its splits by name, from a folder that `save_to_disk` wrote."""
    import datasets

    with _guard(folder, trusted=False):
        return datasets.load_from_disk(folder)


@contextmanager
def folder_with_only(file: Path) -> Iterator[Path]:
    """A temporary folder with a link to `file` and nothing else."""
    with tempfile.TemporaryDirectory(prefix="secondary-sinks-") as folder:
        (Path(folder) / file.name).symlink_to(file.resolve())
        yield Path(folder)


@contextmanager
def _guard(source: Any, trusted: bool) -> Iterator[None]:
    """No prompts; without trust, `UnsupportedModelError` instead of importing a model's module."""
    from transformers import dynamic_module_utils as modules

    refusal = UnsupportedModelError(
        f"{str(source)!r} asks to run code of its own, named by an 'auto_map' in its files",
        "read that code, and if you trust it load with trust_remote_code=True or "
        "--trust-remote-code",
    )

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise refusal

    names = () if trusted else ("get_class_in_module", "get_cached_module_file")
    never_ask = {"TIME_OUT_REMOTE_CODE": 0}  # transformers then raises instead of prompting
    try:
        with _replace_attributes(modules, never_ask | dict.fromkeys(names, refuse)):
            yield
    except ValueError as error:
        if trusted or "trust_remote_code" not in str(error):
            raise
        raise refusal from error


@contextmanager
def _replace_attributes(module: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Temporarily replace attributes of a module; `AttributeError` for one that it lacks."""
    before = {name: getattr(module, name) for name in attributes}
    vars(module).update(attributes)
    try:
        yield
    finally:
        vars(module).update(before)
