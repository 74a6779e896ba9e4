"""Sizes and tokenizer of a model, for a plan; its weights are not loaded."""

from dataclasses import dataclass
from typing import Any

from secondary_sinks.models.model_size import count_parameters
from secondary_sinks.models.original.check import describe
from secondary_sinks.models.original.fetch import fetch
from secondary_sinks.models.original.read import quiet_transformers
from secondary_sinks.models.original.sources import Source


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
