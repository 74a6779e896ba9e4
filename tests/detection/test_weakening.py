"""Primary weakening, on primaries whose profile through the layers was made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from secondary_sinks.detection import primary_weakening
from secondary_sinks.detection.contrasts import INACTIVE
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


def test_every_measure_is_told():
    key_norm, score = 10 + 5 * (1 - steps(8, 18)), steps(8, 18) * 10
    found = primary_weakening(traces(steps(8, 18), key_norm=key_norm, score=score), table([8, 18]))
    assert [c.measure for c in found.changes] == ["mass", "key_norm", "score"]
    assert [round(c.change, 4) for c in found.changes] == [-0.2, 1.0, -2.0]


def test_changes_are_told_for_every_sink_and_text():
    found = primary_weakening(traces(steps(8, 18)), table([8, 18]))
    mass = found.changes[0]
    assert (mass.measure, mass.n_sinks, mass.n_texts) == ("mass", 12, 6)
    assert mass.change == pytest.approx(-0.2)
    assert mass.before - mass.after == pytest.approx(0.2)
    assert found.n_left_out == 0


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
    assert found.n_left_out == 6
    assert found.verdict.outcome == "inconclusive"
    assert f"left out: 6 texts: {INACTIVE} (6), and" in found.verdict.controls
    assert found.verdict.why.startswith("none of 6 texts with a secondary sink can be compared")
    assert math.isnan(found.changes[0].change)


def test_no_secondary_sink_at_all():
    found = primary_weakening(traces(steps(8)), table([]))
    assert found.verdict.outcome == "inconclusive"
    assert list(found.to_frame().columns)[:3] == ["measure", "group", "relative"]
    assert len(found.changes_frame()) == 3


def test_copies_are_left_out():
    whole = table([8, 18])
    copies = tuple(sink("z", s.pos, s.l_start, copy_of="0") for s in whole.sinks)
    found = primary_weakening(traces(steps(8, 18)), SinkTable(sinks=whole.sinks + copies))
    assert found.changes == primary_weakening(traces(steps(8, 18)), whole).changes


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
