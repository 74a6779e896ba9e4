"""Sinks of one text are not applied to another that has the same id."""

import inspect
from dataclasses import replace

import pytest

from secondary_sinks import ablate, detect, formation, mlp_anatomy, observe, sweep_metric
from secondary_sinks.causal import ordinary_positions
from secondary_sinks.causal.outcome import still_drawing
from secondary_sinks.causal.recompute import recompute
from secondary_sinks.errors import DetectionError, TraceError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit, SinkTable, as_traces
from secondary_sinks.types.own_sinks import sinks_of

PLANTS = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,), dies=6)]
EDIT = Edit(pos=21, layer=3)


@pytest.fixture(scope="module")
def case():
    planted = plant(PLANTS)
    tokens = planted.tokens.clone()
    tokens[20] = tokens[21]  # another text, also called "text"
    sinks = detect(observe(planted.model, planted.tokens))
    return planted.model, observe(planted.model, tokens), sinks


USES = {
    "ablate": lambda model, trace, sinks: ablate(model, trace, sinks, layers=2),
    "sweep_metric": lambda model, trace, sinks: sweep_metric(
        model, trace, [EDIT], lambda logits: 0.0, sinks=sinks
    ),
    "ordinary_positions": lambda model, trace, sinks: ordinary_positions(trace, sinks),
    "formation": formation,
    "mlp_anatomy": mlp_anatomy,
}
BY_USE = pytest.mark.parametrize("use", USES.values(), ids=USES)


@BY_USE
def test_sinks_of_another_text_with_the_same_id_are_refused(case, use):
    with pytest.raises(TraceError, match=r"another text with the same id 'text'.*text_id="):
        use(*case)


@BY_USE
@pytest.mark.parametrize("pos", [10**6, -44])
def test_a_sink_outside_the_text_is_refused(case, use, pos):
    model, trace, sinks = case
    beyond = tuple(replace(sink, pos=pos) for sink in sinks if sink.kind == "secondary")
    with pytest.raises(TraceError, match=f"position {pos} is token .* no token there"):
        use(model, trace, replace(sinks, sinks=beyond))


@pytest.mark.parametrize("given", [[], "sinks", 3, None])
def test_what_is_no_table_of_sinks_is_refused(case, given):
    model, trace, _ = case
    with pytest.raises(DetectionError, match="expected a table of sinks, got"):
        inspect.unwrap(ablate)(model, trace, given)
    with pytest.raises(DetectionError, match="expected a table of sinks, got"):
        sinks_of(trace, given)


def test_what_recomputed_sinks_draw_is_asked_of_their_own_text(case):
    model, trace, sinks = case
    found = recompute(model, trace, EDIT, watch=[20])
    with pytest.raises(TraceError, match="another text"):
        still_drawing(trace, found, [sink for sink in sinks if sink.pos == 20])


@pytest.mark.parametrize("number", [0, 2])
def test_sinks_in_the_place_of_traces_are_refused(case, number):
    _, _, sinks = case
    with pytest.raises(TraceError, match="expected a trace of one text, got SinkTable"):
        as_traces(SinkTable(sinks=sinks.sinks[:number]))


def test_sinks_of_the_other_text_are_left_out_by_its_id(case):
    model, trace, sinks = case
    assert len(ablate(model, replace(trace, text_id="other"), sinks, layers=2).rows) == 0
