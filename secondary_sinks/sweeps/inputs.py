"""Check that a sweep resumes with the models and texts that it began with."""

from dataclasses import asdict, replace
from typing import Any

from secondary_sinks.runs.about import fed_first, in_texts, in_weights
from secondary_sinks.runs.hashes import DECIDING
from secondary_sinks.sweeps.tasks import FedText, Prepared
from secondary_sinks.texts.retokenize import SAME_TEXT_FIELDS


def as_first(now: Prepared, before: Prepared) -> tuple[Prepared, list[str]]:
    """Model and texts with the token ids that were fed first, and messages about changed texts."""
    if any(now.model[name] != before.model[name] for name in DECIDING):
        return now, []
    stored = {text.text_id: text for text in before.texts}
    texts = tuple(_first(text, stored.get(text.text_id)) for text in now.texts)
    changes = [a.text_id for a, b in zip(now.texts, texts, strict=True) if a.tokens != b.tokens]
    return replace(now, texts=texts), [fed_first(name) for name in changes]


def of_models(before: Prepared, now: Prepared) -> list[str]:
    """Differences in models and texts between an unfinished sweep and its start."""
    old, new = texts_of(before), texts_of(now)
    there = {text["text_id"] for text in new}
    both = [text for text in old if text["text_id"] in there]
    known = {text["text_id"] for text in old}
    changes = in_texts(both, [text for text in new if text["text_id"] in known])
    found = [*in_weights(before.model, now.model), *changes]
    return [f"{what}; cells of the earlier inputs are not used" for what in found]


def _first(now: FedText, before: FedText | None) -> FedText:
    same = before is not None and all(
        getattr(before, n) == getattr(now, n) for n in SAME_TEXT_FIELDS
    )
    return before if before is not None and same and now.text_sha256 else now


def texts_of(prepared: Prepared) -> list[dict[str, Any]]:
    """The texts of a model in a sweep, in the form that `in_texts` compares."""
    return [asdict(text) | {"n_tokens": len(text.tokens)} for text in prepared.texts]
