"""A run in half precision marks every sink whose verdict float32 may turn over, and few others."""

import itertools
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import detect, load_model, observe
from secondary_sinks.detection.rounding import move_by_rounding, rounding
from secondary_sinks.testing.families import tiny
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import SinkTable, Thresholds
from tests.marks import OLD, exhaustive, needs_old, thinned

HALF = (torch.bfloat16, torch.float16)
TOKENS = torch.randint(3, 97, (100,), generator=torch.Generator().manual_seed(1))
GRIDS = {
    "360 thresholds": {
        "aligned": (0.8, 0.9, 0.95),
        "outlying": tuple(torch.linspace(1.5, 8.0, 40).tolist()),
        "attended": (1.2, 2.0, 3.0),
    },
    "40 thresholds": {
        "aligned": (0.9,),
        "outlying": tuple(torch.linspace(1.5, 8.0, 20).tolist()),
        "attended": (1.2, 3.0),
    },
}
CLASSES = (False, True) if OLD else (True,)
FAMILIES = ("llama", "gemma2", "gpt-oss", "qwen3", "pythia")
TINY = list(itertools.product(FAMILIES, HALF, CLASSES))
TYPICAL = [TINY[number] for number in range(0, len(TINY), 3)]
"""Every family, both precisions and both classes, by turns."""
REAL_CASES = list(itertools.product(GRIDS, HALF, (False, True)))


def verdicts(sinks):
    return {(sink.text_id, sink.pos, sink.kind) for sink in sinks}


def unmarked_differences(half, full, grid):
    """Over a grid of thresholds: verdicts that differ, those of them not marked, marked, all."""
    differ, unsaid, marked, n_all = 0, [], 0, 0
    for values in itertools.product(*grid.values()):
        limits = Thresholds(**dict(zip(grid, values, strict=True)))
        one, other = detect(half, limits), detect(full, limits)
        said = {sink.pos for sink in (*one.sinks, *one.near) if sink.within_rounding}
        different = verdicts(one.sinks) ^ verdicts(other.sinks)
        differ += len(different)
        unsaid += [(limits, cell) for cell in different if cell[1] not in said]
        marked += sum(sink.within_rounding for sink in one.sinks)
        n_all += len(one.sinks)
    return differ, unsaid, marked, n_all


@needs_old
def test_float32_marks_nothing():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    assert trace.dtype == torch.float32
    table = detect(trace, Thresholds(outlying=float(trace.deviation_ratio[4, 20])))
    assert not any(sink.within_rounding for sink in table.sinks)
    assert table.near == ()


def borderline(dtype, factor):
    """A planted sink of three layers, and thresholds by `factor` above its own distance."""
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = replace(observe(planted.model, planted.tokens), dtype=dtype)
    return trace, Thresholds(outlying=float(trace.deviation_ratio[3:, 20].max()) * factor)


@needs_old
@pytest.mark.parametrize("dtype", HALF)
def test_a_sink_is_marked_up_to_twice_the_rounding_from_its_threshold(dtype):
    trace, _ = borderline(dtype, 1.0)
    r = torch.finfo(dtype).eps / 2 * math.sqrt(2 * 8 + 8)
    assert rounding(trace) == pytest.approx(r)
    layer = int(trace.deviation_ratio[3:, 20].argmax()) + 3
    d = trace.deviation_ratio[layer, 20] * trace.median_deviation[layer]
    far = 2 * r * float(trace.norm[layer, 20] / d)
    for factor, found, near in (
        (math.exp(-1.5 * far), {20: False}, set()),
        (math.exp(-0.5 * far), {20: True}, set()),
        (math.exp(0.5 * far), {}, {20}),
        (math.exp(1.5 * far), {}, set()),
    ):
        table = detect(*borderline(dtype, factor))
        assert {s.pos: s.within_rounding for s in table.sinks if s.pos} == found
        assert {sink.pos for sink in table.near} == near


@needs_old
def test_moving_the_numbers_adds_sinks_one_way_and_takes_them_the_other():
    trace, limits = borderline(torch.bfloat16, 0.99)
    for criterion in ("joint", "paper"):
        mild, same, strict = (
            {(s.pos, layer) for s in detect(one, limits, criterion).sinks for layer in s.layers}
            for one in (move_by_rounding(trace, 1), trace, move_by_rounding(trace, -1))
        )
        assert strict <= same <= mild


@needs_old
def test_the_mark_is_kept_by_frames_and_parts_of_tables():
    table = detect(*borderline(torch.bfloat16, 0.99))
    again = SinkTable.from_frame(table.to_frame())
    pd.testing.assert_frame_equal(again.to_frame(), table.to_frame())
    assert table.to_frame()["within_rounding"].dtype == bool
    hidden = detect(*borderline(torch.bfloat16, 1.01))
    assert len(hidden.near) == 1
    found = SinkTable(sinks=SinkTable.from_frame(hidden.to_frame()).near)
    pd.testing.assert_frame_equal(found.to_frame(), SinkTable(sinks=hidden.near).to_frame())
    assert hidden.of_kind("secondary").near == hidden.near == hidden.of_text("text").near
    assert hidden.of_kind("primary").near == hidden.of_text("other").near == ()


@pytest.mark.parametrize(("name", "dtype", "bridge"), thinned(TINY, TYPICAL, unpack=True))
def test_results_are_float32_and_within_the_rounding_of_float32(name, dtype, bridge):
    """Of tokens that get their share of attention, 99 in 100.

    Fewer where scores of one key cancel over the queries (`score` is a mean), or experts flip.
    """
    least = 0.92 if name in ("gemma2", "gpt-oss") else 0.99
    half = observe(load_model(tiny(name).to(dtype), device="cpu", bridge=bridge), TOKENS)
    full = observe(load_model(tiny(name), device="cpu", bridge=bridge), TOKENS)
    assert (half.dtype, full.dtype) == (dtype, torch.float32)
    for field in ("norm", "alignment", "mass", "score", "typical", "value_norm", "mlp_norm"):
        assert getattr(half, field).dtype == torch.float32, field
    judged = (full.queries >= 8) & (full.mass >= full.mass_expected)
    low, high = move_by_rounding(half, -1), move_by_rounding(half, 1)
    for field in ("deviation_ratio", "mass"):
        value = getattr(full, field)
        within = (getattr(low, field) <= value) & (value <= getattr(high, field))
        assert float(within[judged].float().mean()) >= least, field
        assert not torch.equal(value, getattr(half, field))


@exhaustive
@pytest.mark.real
@pytest.mark.parametrize(("grid", "dtype", "bridge"), REAL_CASES)
def test_what_differs_on_real_weights_is_marked_and_most_is_not(
    grid, dtype, bridge, real_tokens, real_trace
):
    if not bridge and not OLD:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    model = load_model("smollm2-135m", device="cpu", dtype=dtype, bridge=bridge)
    half = observe(model, real_tokens, text_id=real_trace.text_id)
    differ, unsaid, marked, n_all = unmarked_differences(half, real_trace, GRIDS[grid])
    assert differ > 0 or dtype == torch.float16
    assert unsaid == []
    assert 0 < marked < n_all / 2
