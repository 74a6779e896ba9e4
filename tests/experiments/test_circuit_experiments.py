"""Readers, function and eviction as experiments: verdicts, tables and figures of planted models."""

import pytest

from experiments import eviction, function, readers
from secondary_sinks.questions import costs
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import thinned
from tests.questions.circuit.test_eviction import SINKS, tells_the_next_token
from tests.questions.circuit.test_function import READ_BY_ONE
from tests.questions.circuit.test_reader_heads import READ_BY_TWO
from tests.questions.gardens import three

MODULES = (readers, function, eviction)


def named(module):
    return module.NAME


def complete(finding):
    """Columns and captions are those of the data and figures."""
    assert set(finding.frame.columns) == set(finding.columns)
    assert finding.captions.keys() == {"figure", *finding.figures}
    assert len(finding.figure.data)
    return [verdict.outcome for verdict in finding.verdicts]


def test_heads_of_the_primary_read_the_sinks():
    plants = three(forming=(3,), read_by=(0, 1))
    finding = readers.run(planted(*plants, primary=READ_BY_TWO, n_layers=6))
    assert complete(finding) == ["supported", "supported"]
    values = finding.frame.set_index("series")["value"]
    assert values["heads that read the primary"] == pytest.approx(1.0, abs=1e-5)
    assert values["as many random heads"] == 0.5
    assert len(finding.figures["scores"].data) == 2
    assert {"cells", "effects", "heads", "queries", "sinks"} == finding.tables.keys()


VALUES = [(0.0, "supported"), (10.0, "contradicted")]


@pytest.mark.parametrize(("value", "outcome"), thinned(VALUES, VALUES[:1], unpack=True))
def test_no_ops_and_broadcasts_are_told_apart(value, outcome):
    plants = three(forming=(3,), read_by=(1,), value=value)
    finding = function.run(planted(*plants, primary=READ_BY_ONE, n_texts=6))
    assert complete(finding) == [outcome]
    frame = finding.frame.set_index(["panel", "group"])
    assert set(frame["x"]) == {"1 to 8", "9 to 64"} or set(frame["x"]) == {"1 to 8", "9 to 62"}
    without = frame.loc["value"].groupby("group")["value"].mean()
    ordinary = without["ordinary keys of equal attention"]
    assert (without["secondary sinks"] > ordinary) == (value > 0)


def test_dropped_sinks_that_tell_the_next_token_are_missed():
    plants = [Plant(pos=pos, forming=(3,), read_by=(1,), value=20.0) for pos in SINKS]
    finding = eviction.run(
        planted(*plants, primary=READ_BY_ONE, change=tells_the_next_token), window=8
    )
    assert complete(finding) == ["supported"] * 3
    assert set(finding.frame["series"]) == {"dropped", "kept"}


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_without_sinks_nothing_is_claimed_and_the_figure_says_so(module):
    finding = module.run(planted(n_texts=2))
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink" in finding.verdict.why
    assert "no secondary sink" in str(finding.figure.layout.annotations)


def test_texts_that_are_too_short_for_the_window_give_no_figure():
    finding = eviction.run(planted(Plant(pos=20, forming=(3,)), n_texts=2))
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink could be" in str(finding.figure.layout.annotations)
    assert "2 in texts too short for the window" in finding.verdict.why


@pytest.mark.parametrize("module", [function, eviction], ids=named)
def test_what_edits_has_a_price(module):
    observed = planted(*three(forming=(3,)), n_layers=6, n_texts=2)
    (price,) = costs([module.NAME], observed.traces, observed.sinks, d_mlp=20)
    assert price.recomputed == (2 * (3 * 6 + 3 + 2) if module is function else 0)
