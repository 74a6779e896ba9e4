"""Check: fetched files -> a `Description` with the config and tokenizer, before weights are read.

Problems are found as early as possible: first in the config, then in the tokenizer, then in the
headers of the weight files, and at last in the memory that the weights need.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secondary_sinks.errors import DamagedModelError
from secondary_sinks.models.limits import largest_sizes
from secondary_sinks.models.model_size import ModelSize, count_parameters, require_memory
from secondary_sinks.models.original import checkpoint
from secondary_sinks.models.original.config import is_native, read_config, request_dense_weights
from secondary_sinks.models.original.fetch import Fetched, fetch_weights
from secondary_sinks.models.original.tokenizer import check_tokenizer, read_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """The config and the tokenizer of a fetched model, both checked."""

    fetched: Fetched
    config: Any
    tokenizer: Any
    """None if the folder has no tokenizer."""
    quantised: bool
    """Whether the weights are quantised in their files; they are read as dense weights."""
    runs_own_code: bool
    """Whether the model is built by code of its own, which the user trusts."""

    def size(self, dtype: str) -> ModelSize:
        """The size of the model that the config describes."""
        parameters = count_parameters(self.config, trusted=self.runs_own_code)
        return ModelSize(self.fetched.label, parameters, dtype)


def describe(
    fetched: Fetched,
    *,
    trust_remote_code: bool = False,
    accept: Callable[[Any], None] | None = None,
) -> Description:
    """Read and check the config and the tokenizer.

    `accept` is called with the config before anything else is read, and may raise. Raises
    `DamagedModelError` or `UnsupportedModelError`.
    """
    folder, label = fetched.folder, fetched.label
    config = read_config(folder, label, trust_remote_code=trust_remote_code)
    if accept is not None:
        accept(config)
    quantised = request_dense_weights(config, label)
    tokenizer = read_tokenizer(folder, label, trust_remote_code=trust_remote_code)
    check_tokenizer(tokenizer, config.vocab_size, label)
    return Description(
        fetched=fetched,
        config=config,
        tokenizer=tokenizer,
        quantised=quantised,
        runs_own_code=trust_remote_code and not is_native(config),
    )


def check_weights(description: Description, dtype: str, device: str | None) -> ModelSize:
    """Fetch the weight files and check that they are whole and fit in memory; the model's size.

    Weights of a hub model that do not fit in memory are not downloaded. Raises `HubError`,
    `DamagedModelError` or `ModelMemoryError`.
    """
    fetched = description.fetched
    if fetched.source.kind == "hub" and is_native(description.config):
        require_memory(description.size(dtype), device)
    fetch_weights(fetched)
    stored = checkpoint.check_weights(fetched.folder)
    size = description.size(dtype)
    if not description.quantised:  # else the files hold packed values, not weights
        checkpoint.refuse_integers(fetched.folder)
        if size.parameters > 2 * stored:  # its missing weights would be made up in memory
            raise DamagedModelError(
                f"the config.json of {size.name!r} describes a model of {size.parameters} weights, "
                f"and its files hold {stored}",
                "expected the config and the files of one model (its config says "
                f"{largest_sizes(description.config.to_dict())})",
            )
        size = size._replace(parameters=stored)
    require_memory(size, device)
    return size
