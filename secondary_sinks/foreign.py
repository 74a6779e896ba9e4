"""The one door to readers that could run code which a model or a data set brings along.

transformers imports the modules that an `auto_map` names, asks at the keyboard where it was not
told whether it may, and reads whatever lies next to a file. datasets before 4 ran loading scripts.
So every call that reads a config, a tokenizer, a model or a data set is made here:

* whether its code may run is always passed on, never left open;
* without trust, importing a module of a model raises, wherever in transformers it is tried;
* nothing is ever asked at the keyboard;
* of a GGUF file, its neighbours are not seen; an adapter next to weights is not applied.

`tests/test_foreign.py` finds calls that go around this door.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secondary_sinks.errors import UnsupportedModelError

NO_ADAPTER = {"subfolder": "no-adapter-is-read"}
"""A folder that is not there: peft, where it is installed, then finds no adapter to apply."""


def load_config(folder: Path, *, trusted: bool) -> Any:
    """The Hugging Face config of a folder."""
    from transformers import AutoConfig

    with _guarded(folder, trusted):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)


def load_tokenizer(folder: Path, *, trusted: bool, **options: Any) -> Any:
    """The tokenizer of a folder."""
    from transformers import AutoTokenizer

    with _guarded(folder, trusted):
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trusted, local_files_only=True, **options
        )


def load_weights(folder: Path, *, trusted: bool, **options: Any) -> Any:
    """The causal language model of a folder; `options` are those of transformers."""
    from transformers import AutoModelForCausalLM

    with _guarded(folder, trusted):
        return AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=trusted,
            local_files_only=True,
            adapter_kwargs=NO_ADAPTER,
            **options,
        )


def build_model(config: Any, *, trusted: bool = False) -> Any:
    """The model that a config describes, its weights not read from anywhere.

    Attention is eager: a config could name a kernel on the hub instead, which is code.
    """
    from transformers import AutoModelForCausalLM

    with _guarded(getattr(config, "_name_or_path", "") or type(config).__name__, trusted):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=trusted, attn_implementation="eager"
        )


def load_data_set(name: str, split: str) -> Any:
    """One split of a data set on the hub, of which only tables are read."""
    import datasets

    with _guarded(name, trusted=False):
        return datasets.load_dataset(name, split=split, trust_remote_code=False)


def load_saved_data_set(folder: str) -> Any:
    """A data set, or its splits by name, from a folder that `save_to_disk` wrote."""
    import datasets

    with _guarded(folder, trusted=False):
        return datasets.load_from_disk(folder)


@contextmanager
def folder_with_only(file: Path) -> Iterator[Path]:
    """A folder that holds nothing but a link to `file`, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="secondary-sinks-") as folder:
        (Path(folder) / file.name).symlink_to(file.resolve())
        yield Path(folder)


@contextmanager
def _guarded(what: Any, trusted: bool) -> Iterator[None]:
    """Nothing is asked; without trust no module of a model is imported.

    Raises `UnsupportedModelError` where one would be.
    """
    from transformers import dynamic_module_utils as modules

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise UnsupportedModelError(_asks(what))

    names = () if trusted else ("get_class_in_module", "get_cached_module_file")
    never_ask = {"TIME_OUT_REMOTE_CODE": 0}  # it then raises where it would ask
    try:
        with _replaced(modules, never_ask | dict.fromkeys(names, refuse)):
            yield
    except ValueError as error:
        if trusted or "trust_remote_code" not in str(error):
            raise
        raise UnsupportedModelError(_asks(what)) from error


@contextmanager
def _replaced(module: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Other values for attributes of a module; `AttributeError` where it has none of the name."""
    before = {name: getattr(module, name) for name in attributes}
    vars(module).update(attributes)
    try:
        yield
    finally:
        vars(module).update(before)


def _asks(what: Any) -> str:
    return (
        f"{str(what)!r} asks to run code of its own, named by an 'auto_map' in its files; read "
        "that code, and if you trust it load with trust_remote_code=True or --trust-remote-code"
    )
