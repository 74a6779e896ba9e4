"""Who writes each sink: every verdict is what was planted, in both directions."""

import numpy as np
import pytest

from experiments import mlp_anatomy, writers
from secondary_sinks.questions.answer import AT_CONTROLS
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import exhaustive, thinned
from tests.questions.gardens import three

ATTENTION = [
    Plant(pos=pos, forming=(at,), by="attention") for pos, at in ((12, 2), (24, 3), (36, 4))
]
YES, NO = "supported", "contradicted"
TRUTHS = {
    "one MLP": (three(forming=(3,)), {}, (YES, YES, YES), {3: YES}),
    "a chain": (three(forming=(2, 4), chain=True), {}, (YES, YES, YES), {4: YES}),
    "two together": (
        three(forming=(2, 3), strength=24.0),
        {"anisotropy": 10.0},  # so that half of it draws less than half of the attention
        (NO, NO, YES),
        {2: YES, 3: YES},
    ),
    "either of two": (
        three(forming=(2, 4), strength=90.0),
        {},
        ("inconclusive", NO, YES),  # each makes the sink without the other
        {None: "inconclusive"},
    ),
    "attention": (ATTENTION, {}, (NO, NO, NO), {None: NO}),
    "no twins": (
        three(forming=(3,)),
        {"twins": False},
        ("inconclusive", YES, YES),
        {None: "inconclusive"},
    ),
}
"""Plants, options, outcomes of role, mediation and direction, and outcome by layer of the level."""


@pytest.mark.parametrize("name", thinned(TRUTHS, ["one MLP", "two together"]))
def test_the_verdicts_are_what_was_planted(name):
    plants, options, own, levels = TRUTHS[name]
    finding = writers.run(planted(*plants, **options))
    assert tuple(one.outcome for one in finding.verdicts[:3]) == own
    assert {one.layer: one.outcome for one in finding.further[2:]} == levels
    assert {one.n_claims for one in finding.verdicts} == {5}
    assert set(finding.frame.columns) == set(finding.columns)
    assert {"figure"} == finding.captions.keys()
    assert len(finding.figure.data)


@exhaustive
def test_each_sink_has_its_writers_and_what_the_tests_rest_on():
    observed = planted(*three(forming=(2, 4), chain=True))
    finding = writers.run(observed)
    sinks = finding.tables["sinks"]
    assert set(sinks["writers"]) == {"4"}
    assert set(sinks["n_writers"]) == {1}
    trace, case = observed.pairs()[0]
    row = sinks.iloc[0]
    assert row["write_alignment"] == pytest.approx(float(trace.mlp_alignment[4, case.sink.pos]))
    assert row["control_alignment"] == pytest.approx(float(trace.mlp_alignment[4, case.control]))
    assert "24 of 24 sinks have one writer (MLP 4 writes 24)" in finding.verdict.why
    bars = {(bar.name, where): n for bar in finding.figure.data for where, n in zip(
        bar.y, bar.x, strict=True)}  # fmt: skip
    assert set(bars.values()) == {24}
    assert sorted(name for name, _ in bars) == ["enabler", "writer"]


@exhaustive
def test_a_random_direction_is_not_the_primary():
    """Below the bound that one in a hundred random directions exceeds, all sinks would fail."""
    sinks = writers.run(planted(*three(forming=(3,)))).tables["sinks"]
    chance = np.random.default_rng(0).uniform(-0.25, 0.25, len(sinks))
    verdict = writers._direction(sinks.assign(write_alignment=chance), {}, 1)
    assert (verdict.outcome, verdict.value) == ("contradicted", 0.0)
    both = writers._direction(sinks.assign(control_alignment=sinks["write_alignment"]), {}, 1)
    assert (both.outcome, both.value) == ("inconclusive", 0.0)
    assert both.why.endswith(AT_CONTROLS)


def test_sinks_of_the_first_layer_are_left_out_of_mediation_and_counted():
    sinks = writers.run(planted(*three(forming=(3,)))).tables["sinks"]
    verdict = writers._mediation(sinks.assign(l_start=0, mediates=np.nan), {}, 1)
    assert verdict.outcome == "inconclusive"
    assert "24 created at layer 0, before which there is no MLP" in verdict.why


def test_without_sinks_nothing_is_claimed():
    finding = writers.run(planted())
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink" in finding.verdict.why
    assert list(finding.frame.columns) == list(writers.COLUMNS)


@pytest.mark.parametrize(
    ("plants", "outcome"),
    [(three(forming=(3,)), YES), (ATTENTION, NO)],
    ids=["one MLP", "attention"],
)
def test_the_writer_by_direction_edits_nothing_and_is_what_was_planted(plants, outcome):
    finding = mlp_anatomy.run(planted(*plants))
    (most,) = finding.further
    assert most.outcome == outcome, most.why
    written = finding.tables["written"]
    assert len(written) == 24 * 2 * 8
    assert len(finding.figures["by_layer"].data)
