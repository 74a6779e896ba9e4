"""Primary weakening, on primaries whose profile through the layers was made by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from secondary_sinks.detection import primary_weakening
from secondary_sinks.detection.arrangements import blocks_of, holm
from secondary_sinks.detection.weakening import mean_over_texts
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import SinkTable
from tests.detection.traces import sink, trace_of

N_LAYERS = 30
SPAN = (2, 27)
"""First and last layer of the primary."""
ONES = np.ones(N_LAYERS)


BASE = trace_of(torch.eye(3).expand(N_LAYERS, 3, 3))


def trace(name, mass, key_norm=ONES, score=ONES):
    """A text whose primary (position 0) has these values at each *state* layer."""
    made = {"mass": in_blocks(mass), "key_norm": in_blocks(key_norm), "score": in_blocks(score)}
    return replace(BASE, text_id=name, **made)


def in_blocks(values):
    """The state at layer l is read by block l + 1."""
    column = np.concatenate([[np.nan], values[:-1]])
    return torch.tensor(np.stack([column] * 3, 1), dtype=torch.float32)


def table(l_starts, n_texts=6, span=SPAN):
    """In each text a primary, and one secondary sink per creation layer."""
    sinks = []
    for text in range(n_texts):
        sinks.append(sink(text, 0, span[0], span[1] - span[0] + 1, kind="primary"))
        sinks += [sink(text, 9 + l_start, l_start) for l_start in l_starts]
    return SinkTable(sinks=tuple(sinks))


def steps(*falls, top=0.8, size=0.2):
    """A profile that falls by `size` at each layer of `falls`."""
    return top - size * (np.arange(N_LAYERS)[:, None] >= np.array(falls)).sum(1)


def traces(mass, n_texts=6, **others):
    """The same profile in every text, but for a little of their own."""
    return [trace(str(i), mass + 0.001 * i, **others) for i in range(n_texts)]


def test_a_primary_that_falls_where_sinks_arise_weakens():
    found = primary_weakening(traces(steps(8, 18)), table([8, 18]))
    mass = found.changes[0]
    assert (mass.measure, mass.n_sinks, mass.n_texts) == ("mass", 12, 6)
    assert mass.change == pytest.approx(-0.2)
    assert mass.before - mass.after == pytest.approx(0.2)
    assert found.verdict.outcome == "supported"
    assert (found.n_blocks, found.n_left_out) == (2, 0)
    assert found.verdict.value == mass.change


def test_p_is_the_share_of_arrangements_with_as_low_a_change():
    """By hand: of 23 x 23 placements of two blocks, 4 put both on a fall."""
    found = primary_weakening(traces(steps(8, 18)), table([8, 18]))
    assert found.n_arrangements == 23**2
    assert found.changes[0].p == pytest.approx(4 / 23**2)
    assert found.changes[0].p_adjusted == pytest.approx(3 * 4 / 23**2)


def test_p_equals_loops_over_all_arrangements():
    rng = np.random.default_rng(3)
    profiles = rng.normal(size=(4, N_LAYERS)).cumsum(1)
    texts = [trace(str(i), profile) for i, profile in enumerate(profiles)]
    found = primary_weakening(texts, table([5, 14, 16], 4), window=1)

    def change(profile, layer):
        return profile[layer] - profile[layer - 1]

    inside = range(SPAN[0] + 1, SPAN[1] + 1)
    totals = [
        sum(change(profile, layer) for profile in profiles for layer in placed)
        for placed in itertools.product(inside, inside, inside)
    ]
    real = sum(change(profile, layer) for profile in profiles for layer in (5, 14, 16))
    assert found.n_arrangements == len(totals) == 25**3
    assert found.changes[0].p == pytest.approx(np.mean(np.array(totals) <= real + 1e-9))
    assert found.changes[0].change == pytest.approx(real / 12, abs=1e-6)


def test_sinks_whose_windows_share_a_layer_move_as_one():
    every = blocks_of([3, 8, 10, 13], 4, 20, lambda layer, there: 2 <= there < 18)
    assert [block.layers for block in every] == [(3,), (8, 10, 13)]
    assert every[1].shifts == tuple(range(-6, 5))
    assert 0 in every[0].shifts


def test_a_primary_that_gains_contradicts_the_claim():
    found = primary_weakening(traces(1 - steps(8, 18)), table([8, 18]))
    assert found.verdict.outcome == "contradicted"
    assert found.changes[0].low > 0


def test_a_steady_decline_is_no_weakening_where_sinks_arise():
    found = primary_weakening(traces(0.9 - 0.02 * np.arange(N_LAYERS)), table([8, 18]))
    assert found.changes[0].high < 0
    assert found.changes[0].p == 1
    assert found.verdict.outcome == "inconclusive"
    assert "no more than at other layers" in found.verdict.why


def test_one_creation_layer_shows_nothing_however_many_texts():
    found = primary_weakening(traces(steps(8), 40), table([8], 40))
    assert found.changes[0].p == pytest.approx(1 / 23)
    assert found.verdict.outcome == "inconclusive"
    assert "can be arranged in 23 way(s) only; at least 60 are needed" in found.verdict.why


def test_neighbouring_creation_layers_are_one_block():
    found = primary_weakening(traces(steps(8, 9, 10, size=0.1)), table([8, 9, 10]))
    assert (found.n_blocks, found.n_arrangements) == (1, 21)
    assert found.verdict.outcome == "inconclusive"


@pytest.mark.parametrize(("n_texts", "l_starts"), [(2, [8, 18]), (4, [8])])
def test_too_few_sinks_or_texts(n_texts, l_starts):
    found = primary_weakening(traces(steps(8, 18), n_texts), table(l_starts, n_texts))
    assert found.verdict.outcome == "inconclusive"
    assert "at least 5 in 3 are needed" in found.verdict.why


def test_texts_that_disagree_are_inconclusive():
    mixed = [trace(str(i), steps(8, 18) if i % 2 else 1 - steps(8, 18)) for i in range(6)]
    found = primary_weakening(mixed, table([8, 18]))
    assert found.verdict.outcome == "inconclusive"
    assert "the interval includes no change" in found.verdict.why


def test_many_arrangements_are_drawn_and_the_generator_decides():
    falls = (5, 11, 17, 23)
    found = primary_weakening(traces(steps(*falls)), table(falls))
    assert found.n_arrangements == 23**4
    assert found.verdict.outcome == "supported"
    exact = (4 / 23) ** 4
    assert found.changes[0].p == pytest.approx(exact, abs=6 * math.sqrt(exact / 1e4) + 1e-4)
    rng = np.random.default_rng(0)
    noisy = [trace(str(i), rng.normal(size=N_LAYERS)) for i in range(6)]
    one, again, other = (
        primary_weakening(noisy, table(falls), generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one.changes[0].p == again.changes[0].p != other.changes[0].p


def test_every_measure_is_told():
    key_norm, score = 10 + 5 * (1 - steps(8, 18)), steps(8, 18) * 10
    found = primary_weakening(traces(steps(8, 18), key_norm=key_norm, score=score), table([8, 18]))
    assert [c.measure for c in found.changes] == ["mass", "key_norm", "score"]
    assert [round(c.change, 4) for c in found.changes] == [-0.2, 1.0, -2.0]
    assert found.changes[1].p == 1
    assert "its key norm goes from" in found.verdict.why


def test_the_profile_is_aligned_to_each_creation_layer():
    found = primary_weakening(traces(steps(8, 18)), table([8, 18])).to_frame()
    mass = found[found["measure"] == "mass"].set_index("relative")
    offsets = 0.001 * np.arange(6).mean()
    assert mass.loc[-1, "mean"] == pytest.approx((0.8 + 0.6) / 2 + offsets)
    assert mass.loc[0, "mean"] == pytest.approx((0.6 + 0.4) / 2 + offsets)
    assert mass.loc[-8, "mean"] == pytest.approx(0.6 + offsets), "of the later sink only"
    assert mass.loc[-8, "n_sinks"] == 6
    assert (mass["low"] < mass["mean"]).all()
    assert sorted(found["relative"].unique()) == list(range(-8, 9))


def test_outside_the_primarys_span_nothing_is_measured():
    """Its mass before it arises and after it ends says nothing of weakening."""
    mass = np.where((np.arange(N_LAYERS) < 2) | (np.arange(N_LAYERS) > 27), 9.0, 0.5)
    found = primary_weakening(traces(mass), table([3, 8, 18]))
    assert found.n_left_out == 6
    assert found.to_frame().query("measure == 'mass'")["mean"].max() < 0.51


def test_no_sink_with_a_whole_window():
    found = primary_weakening(traces(steps(8)), table([2]))
    assert (found.n_left_out, found.n_arrangements, found.n_blocks) == (6, 0, 0)
    assert found.verdict.outcome == "inconclusive"
    assert "6 sink(s) without a whole window left out" in found.verdict.controls
    assert math.isnan(found.changes[0].p)


def test_no_secondary_sink_at_all():
    found = primary_weakening(traces(steps(8)), table([]))
    assert found.verdict.outcome == "inconclusive"
    assert list(found.to_frame().columns)[:3] == ["measure", "relative", "mean"]
    assert len(found.changes_frame()) == 3


def test_copies_are_left_out():
    whole = table([8, 18])
    copies = tuple(sink("z", s.pos, s.l_start, copy_of="0") for s in whole.sinks)
    found = primary_weakening(traces(steps(8, 18)), SinkTable(sinks=whole.sinks + copies))
    assert found.changes == primary_weakening(traces(steps(8, 18)), whole).changes


def test_random_creation_layers_are_seldom_called_weakening():
    """Smooth random profiles, creation layers at random: p below 0.05 in about 5 %."""
    rng, low = np.random.default_rng(0), 0
    for _ in range(150):
        kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2)
        mass = np.convolve(rng.normal(size=N_LAYERS), kernel, mode="same")
        l_starts = rng.integers(4, 26, 2).tolist()
        found = primary_weakening(traces(mass, 3), table(l_starts, 3))
        low += found.changes[0].p <= 0.05
    assert low / 150 < 0.1


@pytest.mark.parametrize(("missing", "what"), [("trace", "trace"), ("primary", "primary sink")])
def test_a_missing_trace_or_primary_is_named(missing, what):
    sinks = table([8, 18])
    if missing == "primary":
        sinks = sinks.of_kind("secondary")
    texts = traces(steps(8), 6 if missing == "primary" else 2)
    with pytest.raises(DetectionError, match=f"no {what} was given"):
        primary_weakening(texts, sinks)


def test_a_window_without_layers_is_refused():
    with pytest.raises(DetectionError, match="at least 1 layer, got 0"):
        primary_weakening([], SinkTable(sinks=()), window=0)


def test_the_mean_over_texts_by_hand():
    """Texts with means 1 and 3, of 1 and 3 values: mean 2.5, pseudo-values 2 and 4."""
    values, texts = np.array([1.0, 3.0, 3.0, 3.0, np.nan]), np.array([0, 1, 1, 1, 1])
    mean, low, high = mean_over_texts(values, texts)
    assert mean == 2.5
    assert (high - low) / 2 == pytest.approx(
        12.706 * np.std([2, 4], ddof=1) / math.sqrt(2), rel=1e-3
    )
    assert math.isnan(mean_over_texts(values[:1], texts[:1])[1])
    assert math.isnan(mean_over_texts(values[4:], texts[4:])[0])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, math.nan])[0] == 0.02
