"""Is this the paper's phenomenon? The answer in words, for the page and for the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from secondary_sinks.detection.phenomenon import CRITERIA, LABELS, PAPER_RATES, Phenomenon
from secondary_sinks.report.words import count, list_counts, plain
from secondary_sinks.types.lists import join_words

TITLE = "Is this the paper's phenomenon?"
WITH_LATER_SINKS = "secondary-sinks run qwen2.5-coder-0.5b --texts bundled:claims --out DIR"
"""Command for a small model whose secondary sinks arise after the primary."""
MORE_TEXT = "more text, such as --texts bundled:claims or long chats; or another model: "
"""What to try first with a model whose texts were too short to tell."""
WORDS = {
    "weaker_than_primary": ("draws", "draw", "less attention than the primary"),
    "after_primary": ("arises", "arise", "at a later layer than the primary"),
    "in_middle_layers": ("arises", "arise", "in the middle layers"),
    "found_by_paper": ("is", "are", "found by the paper's rule"),
}
"""The criteria, in words: the verb for one sink, for several, and what follows."""


def phenomenon_lines(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(topic, sentence) pairs about a record of a run, the answer first.

    A record of an older version gives one pair, which says that it has no answer.
    """
    if "phenomenon" not in record:
        return [(TITLE, "This run does not say: it was made by an older version. Run it again.")]
    given: Mapping[str, Any] = record["phenomenon"]
    facts = {
        item.name: given[item.name]
        for item in fields(Phenomenon)
        if item.name in given or item.default is MISSING
    }
    lists = {name: tuple(value) for name, value in facts.items() if isinstance(value, list)}
    return in_words(Phenomenon(**facts | lists))


def in_words(found: Phenomenon) -> list[tuple[str, str]]:
    """The same for the facts themselves."""
    lines = [(TITLE, _answer(found)), ("our criterion", _ours(found))]
    if found.n_distinct:
        lines.append(("layers", _layers(found)))
    if found.positions:
        lines.append(("in the text", _positions(found)))
    lines += [("the paper's rule", _by_paper(found)), ("per 10,000 tokens", _rates(found))]
    if found.answer in ("no", "no sinks"):
        more = found.answer == "no sinks" and not found.is_long_enough
        lines.append(("sinks nearer to it", f"{MORE_TEXT * more}{WITH_LATER_SINKS}"))
    return lines


def _answer(found: Phenomenon) -> str:
    """The answer, and how many sinks meet each criterion."""
    n = found.n_distinct
    if not n:
        primary = (
            ""
            if sum(found.primary_at)
            else (", and no primary: no token is outlying and attended as a primary sink is")
        )
        return f"No: these texts have no secondary sink{primary}.{_too_short(found)}"
    told = []
    for name, (one, several, what) in WORDS.items():
        met = getattr(found, f"n_{name}")
        told.append(f"{met:,} {one if met == 1 else several} {what}")
    rest = ""
    if found.answer != "yes" and all(getattr(found, name) for name in CRITERIA):
        rest = f" But only {found.n_all:,} of them meet all four criteria."
    sinks = count(n, "distinct secondary sink")
    return f"{found.answer.capitalize()}. Of {sinks}, {join_words(told)}.{rest}"


def _too_short(found: Phenomenon) -> str:
    low, high = found.expected
    if found.is_long_enough:
        return ""
    return (
        f" But {count(found.n_tokens_distinct, 'token')} are too few to say so of the model: at "
        f"the paper's rates they hold {plain(low)} to {plain(high)} secondary sinks."
    )


def _ours(found: Phenomenon) -> str:
    copies, told = found.n_secondary - found.n_distinct, "no copies"
    if copies:
        told = (
            f"{found.n_distinct:,} distinct and {count(copies, 'copy', 'copies')} (the same tokens "
            "up to the sink as in another text: one computation, seen again)"
        )
    return (
        f"{count(found.n_secondary, 'secondary sink')} in {count(found.n_texts, 'text')}, {told}; "
        f"{found.n_transient:,} transient (too brief or too weak)"
    )


def _layers(found: Phenomenon) -> str:
    first, last = found.middle
    later = f"{found.layers_after:g} {'layer' if found.layers_after == 1 else 'layers'}"
    return (
        f"sinks are created at {_by_layer(found.created_at)}, the primary at "
        f"{_by_layer(found.primary_at)}: {later} later in the median. The middle third is {first} "
        f"to {last} of layers 0 to {found.n_layers - 1}"
    )


def _positions(found: Phenomenon) -> str:
    first, middle, last = found.positions
    shortest, longest = found.lengths
    told = f"at position {first:,}" if first == last else f"at positions {first:,} to {last:,}"
    told += f" (median {middle:,})" if first != last else ""
    lengths = f"{shortest:,}" + (f" to {longest:,}" if shortest != longest else "")
    told += f", in {'a text' if found.n_texts == 1 else 'texts'} of {lengths} tokens"
    if not found.only_at_the_start:
        return told
    return f"{told}: only near the start, so a rate per token depends on the length of texts"


def _by_layer(counts: Sequence[int]) -> str:
    """Every layer with its number of sinks or texts, the most frequent first."""
    known = {f"layer {layer}": number for layer, number in enumerate(counts) if number}
    return list_counts(known, most=len(known))


def _by_paper(found: Phenomenon) -> str:
    shortest, longest = found.label_lifetimes
    told = f"finds {count(found.n_by_paper, 'token')} other than the primary"
    if not found.n_by_paper:
        return told
    lived = f"a lifetime of {shortest} to {longest} layers"
    if longest < shortest:
        lived = f"impossible in a model of {count(found.n_layers, 'layer')}"
    numbers = zip(LABELS, found.n_labelled, strict=True)
    labelled = join_words([f"{number:,} {label}" for label, number in numbers])
    return f"{told}: {labelled} by its own label (secondary: {lived})"


def _rates(found: Phenomenon) -> str:
    theirs = join_words([f"{_span(*rates)} ({model})" for model, rates in PAPER_RATES.items()])
    if found.is_long_enough:
        return (
            f"{plain(found.rate)} by our criterion, {plain(found.rate_by_paper)} by the paper's "
            f"rule and label; the authors' detections have {theirs}"
        )
    low, high = found.expected
    size = count(found.n_tokens_distinct, "token")
    return (
        f"a rate needs more text: {size} would hold {plain(low)} to {plain(high)} secondary sinks "
        f"at the rates of the authors' detections, {theirs}"
    )


def _span(low: float, high: float) -> str:
    return plain(low) if low == high else f"{plain(low)} to {plain(high)}"
