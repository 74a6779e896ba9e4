"""What experiments cost, printed before they start: passes, cells, and seconds from a trial."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from experiments.shared import Loaded, Observed
from experiments.table import EXPERIMENTS, Experiment
from secondary_sinks import Edit, observe, replay
from secondary_sinks.display import count
from secondary_sinks.questions import BY_NAME, Cost, costs, forming_cost, roles_cost


class Seconds(NamedTuple):
    """Seconds of a trial."""

    replayed: float
    """Per replayed token."""
    token: float
    """Per token of a pass."""


def price_of_pass(loaded: Loaded) -> str:
    """The cost of the observation pass in words, from a trial with the shortest text."""
    n_tokens = sum(len(text.tokens) for text in loaded.texts)
    shortest = min(loaded.texts, key=lambda text: len(text.tokens))
    start = time.perf_counter()
    observe(loaded.model, shortest.tokens)
    each = (time.perf_counter() - start) / len(shortest.tokens)
    return (
        f"to come: observing {n_tokens:,} tokens of {len(loaded.texts)} texts, about "
        f"{n_tokens * each:.0f} s; then the experiments, whose price depends on the sinks found"
    )


def prices(asked: Mapping[str, Mapping[str, Any]], observed: Observed) -> list[str]:
    """Cost in words of each of these experiments with their options, and of all together."""
    if not asked or not observed.sinks.of_kind("secondary").sinks:
        return []
    each = trial(observed)
    lines = list(_lines(asked, observed))
    took = [cost.seconds(*each) for _, _, cost in lines]
    told = [
        f"to come: {name}, {words}" + (f", about {seconds:.0f} s" if seconds else "")
        for (name, words, _), seconds in zip(lines, took, strict=True)
    ]
    return [*told, f"to come: in all about {sum(took):.0f} s"]


Line = tuple[str, str, Cost]
"""Name of an experiment, its work in words, and its cost."""


def _lines(asked: Mapping[str, Mapping[str, Any]], observed: Observed) -> Iterator[Line]:
    chosen = [one for one in EXPERIMENTS if one.name in asked]
    questions = {
        one.name: () if one.quick and asked[one.name] == one.quick else one.asks for one in chosen
    }
    if any(_needs_forming(name) for names in questions.values() for name in names):
        cost = forming_cost(observed.traces, observed.sinks)
        yield "forming MLPs, once for all that edit them", cost.in_words(), cost
    for one in chosen:
        cost = _cost(one, questions[one.name], observed)
        edits = bool(cost.replayed or cost.recomputed)
        work = (
            cost.in_words()
            if edits
            else count(one.passes, "further pass", "further passes")
            if one.passes
            else "no further pass"
        )
        yield one.name, ", ".join(filter(None, [work, one.unpriced])), cost


def _needs_forming(name: str) -> bool:
    return name in BY_NAME and BY_NAME[name].needs_forming


def _cost(one: Experiment, questions: Sequence[str], observed: Observed) -> Cost:
    """Cost of passes and questions together, or what the module of the experiment says."""
    if not one.asks and not one.observes:
        return cast(Cost, one.module.cost(observed))
    given = (observed.traces, observed.sinks)
    causal = [name for name in questions if name != "roles"]
    found = costs(causal, *given, observed.model.cfg.d_mlp)
    found += [roles_cost(*given)] if "roles" in questions else []
    again = sum(len(text.trace.tokens) for text in observed.cases if text.cases)
    return Cost(
        question=one.name,
        replayed=sum(cost.replayed for cost in found),
        recomputed=sum(cost.recomputed for cost in found),
        tokens=sum(cost.tokens for cost in found) + one.passes * again,
    )


def trial(observed: Observed) -> Seconds:
    """Measure on the text of the first sink: one more pass, and replays of its sinks.

    Each sink is replayed with its MLP output zeroed at each layer.
    """
    first, *_ = found = observed.sinks.of_kind("secondary").sinks
    trace = next(trace for trace in observed.traces if trace.text_id == first.text_id)
    positions = [sink.pos for sink in found if sink.text_id == first.text_id]
    layers = range(len(trace.norm))
    cells = [Edit(pos=pos, layer=layer) for pos in positions for layer in layers]
    start = time.perf_counter()
    observe(observed.model, trace.tokens)
    between = time.perf_counter()
    replay(observed.model, trace, cells)
    done = time.perf_counter()
    return Seconds((done - between) / len(cells), (between - start) / len(trace.tokens))
