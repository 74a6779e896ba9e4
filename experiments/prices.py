"""The cost of causal experiments, printed before they start: cells, and seconds from a trial."""

import time
from collections.abc import Mapping
from typing import Any

from experiments.shared import Observed
from experiments.table import BY_NAME, EXPERIMENTS
from secondary_sinks import Edit, observe, replay
from secondary_sinks.questions import costs


def prices(asked: Mapping[str, Mapping[str, Any]], observed: Observed) -> list[str]:
    """Cost in words of the causal ones among these experiments, with their options."""
    causal = [one for one in EXPERIMENTS if one.name in asked and (one.asks or not one.observes)]
    names = [one.name for one in causal if not one.quick or asked[one.name] != one.quick]
    if not names or not observed.sinks.of_kind("secondary").sinks:
        return []
    questions = [BY_NAME[name].asks for name in names if BY_NAME[name].asks]
    of_questions = iter(costs(questions, observed.traces, observed.sinks, observed.model.cfg.d_mlp))
    found = [
        next(of_questions) if BY_NAME[name].asks else BY_NAME[name].module.cost(observed)
        for name in names
    ]
    seconds = trial(observed)
    return [
        f"to come: {name}, {cost.in_words()}, about {cost.seconds(*seconds):.0f} s"
        for name, cost in zip(names, found, strict=True)
    ]


def trial(observed: Observed) -> tuple[float, float]:
    """Seconds per replayed token, and per token of a pass.

    Measured on the text of the first sink: its sinks are replayed with their MLP outputs zeroed at
    each layer, and one more pass is made.
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
    return (done - between) / len(cells), (between - start) / len(trace.tokens)
