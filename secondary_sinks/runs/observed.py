"""Run texts through a model: check their lengths, then observe each in one pass."""

from collections.abc import Sequence

from secondary_sinks.detection import detect
from secondary_sinks.errors import TextError
from secondary_sinks.models import HookedModel
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.observation import observe
from secondary_sinks.progress import Progress
from secondary_sinks.texts import TokenizedText
from secondary_sinks.texts.many_files import refuse_same_ids
from secondary_sinks.types import SinkTable, Thresholds, Trace
from secondary_sinks.types.thresholds import as_thresholds


def check_lengths(model: HookedModel, texts: Sequence[TokenizedText], limits: Thresholds) -> None:
    """Raise `TextError` for a text too short or too long, or with an id that has no embedding."""
    for text in texts:
        n_pos = len(text.tokens)
        named = f"text {text.text_id!r}"
        check_ids(text.tokens.tolist(), model.cfg.d_vocab, model.tokenizer, named)
        if n_pos <= limits.min_queries:
            raise TextError(
                f"{named} has {n_pos} tokens; at least {limits.min_queries + 1} are "
                f"needed, since only tokens seen by {limits.min_queries} queries are classified"
            )
        if n_pos > model.cfg.n_ctx:
            raise TextError(
                f"{named} has {n_pos} tokens, but the model sees at most {model.cfg.n_ctx}",
                "shorten or split it",
            )


def observe_all(
    model: HookedModel,
    texts: Sequence[TokenizedText],
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[Trace, ...], SinkTable]:
    """Observe each text, and detect the sinks of all of them together.

    Raises `TextError` in the same cases as `check_lengths`, and for two texts with the same id.
    """
    limits = as_thresholds(thresholds)
    refuse_same_ids(texts)
    check_lengths(model, texts, limits)
    traces = []
    for done, text in enumerate(texts):
        if progress:
            progress(done, len(texts))
        traces.append(observe(model, text.tokens, text_id=text.text_id))
    if progress:
        progress(len(texts), len(texts))
    return tuple(traces), detect(traces, limits)
