"""A model from afar: its sizes and its tokenizer, without its weights being loaded."""

from dataclasses import dataclass
from typing import Any

from secondary_sinks.models import model_size
from secondary_sinks.models.original import config as declared
from secondary_sinks.models.original import tokenizer as vocabulary
from secondary_sinks.models.original.read import place_of, quiet
from secondary_sinks.models.original.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """What a plan needs to know of a model."""

    name: str
    n_layers: int
    n_ctx: int | None
    d_model: int
    d_vocab: int
    parameters: int
    tokenizer: Any
    """None where the model has none."""


def outline(source: Source, *, trust_remote_code: bool = False) -> Outline:
    """Read the config and the tokenizer of a source; raises the `ModelError` of what is wrong.

    Of a hub model, everything but the weights is downloaded. The weights are counted by building
    the model without memory for them.
    """
    with quiet():
        place = place_of(source, code=trust_remote_code)
        config = declared.read_config(place.folder, place.name, trust_remote_code=trust_remote_code)
        tokenizer = vocabulary.read_tokenizer(
            place.folder, place.name, trust_remote_code=trust_remote_code
        )
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return Outline(
            name=source.name,
            n_layers=int(text.num_hidden_layers),
            n_ctx=getattr(text, "max_position_embeddings", None),
            d_model=int(text.hidden_size),
            d_vocab=int(text.vocab_size),
            parameters=model_size.count_parameters(
                config, trusted=trust_remote_code and not declared.is_native(config)
            ),
            tokenizer=tokenizer,
        )
