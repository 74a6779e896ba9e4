"""A sink lasts and draws an amount that matters; what does not is transient, and not asked."""

import pytest
import torch

from secondary_sinks import Thresholds, ablate, detect, observe
from secondary_sinks.detection.criteria import lasts
from secondary_sinks.detection.sweep import PERSISTENCE, threshold_sweep
from secondary_sinks.questions import match_pairs
from secondary_sinks.testing import Plant, plant

PRIMARY = Plant(pos=0, forming=(0,), strength=400.0)
LAYERS = 6


def judged(sink, goes_on=(), drawn=0.2, **thresholds):
    """Whether a token lasts that is a sink at some of six layers."""
    there = torch.zeros(LAYERS, 1, dtype=torch.bool)
    hidden = there.clone()
    there[list(sink)], hidden[list(goes_on)] = True, True
    beyond = torch.full((LAYERS, 1), float(drawn))
    return bool(lasts(there, hidden, beyond, Thresholds(**thresholds)))


@pytest.mark.parametrize(
    ("sink", "goes_on", "outcome"),
    [
        ((1, 2, 3), (), True),
        ((0, 1, 2), (), True),
        ((1, 2), (), False),
        ((0,), (), False),  # below layer 0 there is only the embedding
        ((0, 1, 3, 4), (), False),  # no three in a row
        ((4, 5), (), True),  # the model ends
        ((3,), (), False),
        ((2,), (3,), False),  # still stands out for one layer: two in a row
        ((2,), (3, 4), True),  # the primary, not the sink, ends
        ((2,), (1, 3), True),
        ((), (1, 2, 3), False),  # never a sink
    ],
)
def test_a_run_of_three_layers_lasts_unless_its_end_is_hidden(sink, goes_on, outcome):
    assert judged(sink, goes_on) == outcome


def test_what_draws_less_than_a_hundredth_does_not_matter():
    assert judged((1, 2, 3), drawn=0.011)
    assert not judged((1, 2, 3), drawn=0.009)
    assert judged((1, 2, 3), drawn=0.009, draws=0.0)
    assert judged((1,), drawn=0.2, persists=1)
    assert judged((4, 5), drawn=0.011)  # no block reads the last state; the others count


def garden():
    """Two sinks that last, of which one is primary-like, and four that do not."""
    lasting = [Plant(pos=4, forming=(0,), strength=150.0), Plant(pos=20, forming=(3,))]
    brief = [
        Plant(pos=30 + 4 * n, forming=(born,), dies=born + n % 2 + 1)
        for n, born in enumerate((0, 0, 2, 3))
    ]
    return plant([PRIMARY, *lasting, *brief], anisotropy=20.0)


def test_brief_decoys_are_listed_apart_and_never_asked():
    planted = garden()
    trace = observe(planted.model, planted.tokens)
    found = detect(trace)
    kinds = {sink.pos: sink.kind for sink in found.sinks}
    assert kinds == {one.pos: one.kind for one in planted.expected_sinks()}
    assert list(kinds.values()).count("transient") == 4
    naive = detect(trace, Thresholds(persists=1, draws=0.0))
    assert len(naive.of_kind("secondary").sinks) == 5  # with four that live a layer or two
    (text,) = match_pairs(trace, found)
    assert [case.sink.pos for case in text.cases] == [4, 20]
    assert [case.sink.kind for case in text.cases] == ["primary_like", "secondary"]
    effects = ablate(planted.model, trace, found, layers=[0, 3]).to_frame()
    assert set(effects.loc[effects["role"] == "sink", "pos"]) == {4, 20}
    assert not set(effects["pos"]) & {30, 34, 38, 42}  # not a control either


def test_an_edit_that_leaves_a_brief_rest_ends_the_sink():
    """Of seven layers one is left: what would be no sink before is none after."""
    first = [Plant(pos=20, forming=(1,), dies=2), Plant(pos=20, forming=(3,), strength=80.0)]
    planted = plant([PRIMARY, *first])
    trace = observe(planted.model, planted.tokens)
    (sink,) = detect(trace).of_kind("secondary").sinks
    assert sink.segments == "1, 3-7"
    rows = ablate(planted.model, trace, detect(trace), layers=[3]).rows
    (row,) = [row for row in rows if row.role == "sink"]
    assert (row.lifetime_clean, row.lifetime_edited) == (6, 0)
    loose = detect(trace, Thresholds(persists=1))
    rows = ablate(planted.model, trace, loose, layers=[3]).rows
    assert [row.lifetime_edited for row in rows if row.role == "sink"] == [1]


def test_both_lifetimes_are_told_apart():
    """Heads attend to the token for its mark at all layers, and it is outlying at three."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(2,), dies=5)], by_marks=True)
    (sink,) = detect(observe(planted.model, planted.tokens)).of_kind("secondary").sinks
    assert (sink.lifetime, sink.lifetime_norm, sink.lifetime_attention) == (3, 3, 7)


def test_the_sweep_moves_sinks_between_lasting_and_transient_and_loses_none():
    planted = garden()
    trace = observe(planted.model, planted.tokens)
    table = threshold_sweep(trace, {**PERSISTENCE, "draws": (0.0, 0.01)})
    assert table["sinks"].nunique() == table["cells"].nunique() == 1
    total = table[["secondary", "primary_like", "transient"]].sum(axis=1)
    assert (total == table["sinks"]).all()
    mild = table[table["draws"] == 0.0].set_index("persists")["transient"]
    assert mild.is_monotonic_increasing
    assert (mild[1], mild[3]) == (0, 4)


def test_the_paper_criterion_stays_as_it_is():
    planted = garden()
    trace = observe(planted.model, planted.tokens)
    strict, mild = (
        [
            (sink.pos, sink.kind, sink.label, sink.layers)
            for sink in detect(trace, one, "paper").sinks
        ]
        for one in (Thresholds(persists=8, draws=0.5), Thresholds(persists=1, draws=0.0))
    )
    assert strict == mild
    assert "transient" not in {kind for _, kind, _, _ in strict}
