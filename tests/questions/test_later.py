"""What MLPs above the creation layer do: asked as a question of its own, with its own statistic."""

import pandas as pd
import pytest

from secondary_sinks import ablate, detect, observe
from secondary_sinks.questions import later_effects, later_verdict, layer_effects, run_claims
from secondary_sinks.testing import Plant, plant
from tests.questions.gardens import PRIMARY, texts
from tests.questions.test_layer_verdicts import table


def told(lost, n_texts=8, last=0):
    """Sinks created at layer `last` that stand until layer 2, by mass lost without each MLP."""
    frame = table([(lost, 0.0)] * n_texts, n_layers=len(lost), last=last)
    late = ["none" if la <= last else "end" if la <= 2 else "loss" for la in frame["layer"]]
    return frame.assign(impossible=late)


def test_only_layers_while_the_sink_stands_are_counted():
    rows = later_effects(told([0.9, 0.1, 0.3, 0.0]))
    assert [row.n_sinks for row in rows] == [0, 16, 16, 0]
    assert [row.sinks_lost for row in rows[1:3]] == pytest.approx([0.1, 0.3])
    assert [row.n_sinks for row in layer_effects(told([0.9, 0.1, 0.3, 0.0]))] == [16, 0, 0, 0]


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [
        ([0.9, 0.0, 0.3, 0.0], "supported"),
        ([0.9, 0.05, 0.02, 0.0], "contradicted"),
        ([0.9, 0.0, 0.0, 0.9], "contradicted"),  # after the sink's last layer nothing can be lost
    ],
)
def test_a_later_mlp_that_keeps_sinks_up_is_found(lost, outcome):
    verdict = later_verdict(told(lost, n_texts=13))
    assert verdict.outcome == outcome
    if outcome == "supported":
        assert "layer 2 in 12 of 13 texts" in verdict.why
        assert verdict.value == pytest.approx(0.3)


def test_sinks_that_lose_as_much_as_their_controls_refute_nothing():
    frame = table([([0.9, 0.4, 0.0], 0.35)] * 13, n_layers=3, last=0)
    verdict = later_verdict(frame.assign(impossible="end"))
    assert verdict.value == pytest.approx(0.4 - 0.35, abs=1e-6)
    assert verdict.outcome == "inconclusive"
    assert "removes 40% of the attention that sinks draw (controls: 35%" in verdict.why


def test_the_layer_is_chosen_on_earlier_texts_alone():
    """Each text has another layer that takes much: the best of its own would be found in all."""
    parts = []
    for number in range(12):
        lost = [0.9, 0.0, 0.0, 0.0]
        lost[1 + number % 2] = 0.5
        parts.append(told(lost, n_texts=1).assign(text_id=f"t{number}"))
    verdict = later_verdict(pd.concat(parts))
    assert verdict.outcome != "supported"


@pytest.mark.parametrize("n_texts", [0, 3])
def test_too_little_is_inconclusive(n_texts):
    frame = told([0.9, 0.3, 0.0]).head(0) if not n_texts else told([0.9, 0.3, 0.0], n_texts)
    assert later_verdict(frame).outcome == "inconclusive"


def test_an_mlp_that_comes_too_late_to_take_a_tenth_refutes_nothing():
    """Above MLP 29, two of 28 blocks read the sink: without it, a loss of at most 7 %."""
    again = Plant(pos=20, forming=(29,), strength=60.0)
    first = Plant(pos=20, forming=(3,), strength=60.0, dies=30)
    planted = plant([PRIMARY, first, again], n_layers=32)
    traces = [observe(planted.model, t, text_id=f"t{n}") for n, t in enumerate(texts(planted, 8))]
    effects = ablate(planted.model, traces, detect(traces), ["mean:twins", "zero"], layers=[4, 29])
    frame = effects.to_frame().query("role == 'sink'")
    at = frame[(frame["layer"] == 29) & (frame["kind"] == "secondary")]
    assert set(at["impossible"]) == {"weaken"}
    assert (1 - at["mass_edited"] / at["mass_clean"] > 0.03).all()
    assert "layer 4 in 8 of 8 texts" in later_verdict(effects).why


def test_tables_that_do_not_say_what_was_impossible_say_nothing_of_later_layers():
    frame = told([0.9, 0.3, 0.0]).drop(columns="impossible")
    assert {row.n_sinks for row in later_effects(frame)} == {0}
    assert later_verdict(frame).outcome == "inconclusive"


def test_all_verdicts_of_a_run_are_corrected_for_the_same_claims():
    """Layers that could end a sink, one claim for later layers, and two for each named writer."""
    found = run_claims(told([0.9, 0.0, 0.3, 0.0]), None)
    assert {one["n_claims"] for name in ("verdicts", "later") for one in found[name]} == {1 + 1}
    together = run_claims(told([0.9, 0.0, 0.3, 0.0]), None, n_claims=9)
    assert {one["n_claims"] for name in ("verdicts", "later") for one in together[name]} == {9}
    assert run_claims(None, None) == {"layer_effects": [], "verdicts": []}
