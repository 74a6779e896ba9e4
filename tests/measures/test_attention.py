import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import (
    attention_mass,
    head_mass,
    local_mass,
    mass_excess,
    paid_attention,
    received_attention,
    seeing_queries,
    sink_share,
    uniform_mass,
    virtual_mass,
)


def causal_pattern(n_pos, n_heads=3, window=None, seed=0):
    """A random causal pattern and the scores it came from."""
    scores = torch.randn(n_heads, n_pos, n_pos, generator=torch.Generator().manual_seed(seed)) * 2
    query, key = torch.arange(n_pos)[:, None], torch.arange(n_pos)
    visible = (key <= query) & (key > query - (window or n_pos))
    scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(-1), scores


def test_mass_of_a_hand_worked_pattern():
    pattern = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.6, 0.3, 0.1]]])
    expected = torch.tensor([(1 + 0.5 + 0.6) / 3, (0.5 + 0.3) / 2, 0.1])
    torch.testing.assert_close(attention_mass(pattern), expected)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_mass_equals_a_loop_over_keys_and_heads(window):
    pattern, _ = causal_pattern(12, window=window)
    mass = attention_mass(pattern, window)
    for key in range(12):
        sees = [q for q in range(12) if q >= key and (window is None or key > q - window)]
        by_hand = sum(pattern[h, q, key] for h in range(3) for q in sees) / (3 * len(sees))
        assert mass[key] == pytest.approx(float(by_hand), abs=1e-6)


@given(st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_received_attention_adds_up_to_the_number_of_queries(n_pos, seed):
    pattern, _ = causal_pattern(n_pos, seed=seed)
    assert float(received_attention(pattern).sum()) == pytest.approx(n_pos, rel=1e-5)


def test_received_attention_adds_up_over_chunks():
    pattern, _ = causal_pattern(20)
    parts = sum(received_attention(part) for part in pattern.split(7, dim=1))
    torch.testing.assert_close(parts, received_attention(pattern))


@pytest.mark.parametrize("window", [None, 1, 4])
def test_uniform_mass_is_the_mass_of_a_uniform_pattern(window):
    n_pos = 11
    query, key = torch.arange(n_pos)[:, None], torch.arange(n_pos)
    visible = ((key <= query) & (key > query - (window or n_pos))).float()
    uniform = (visible / visible.sum(-1, keepdim=True))[None]
    torch.testing.assert_close(uniform_mass(n_pos, window), attention_mass(uniform, window))


def test_seeing_queries_counts_the_visible_cells_of_each_column():
    for window in (None, 1, 3):
        pattern, _ = causal_pattern(9, window=window)
        assert seeing_queries(9, window).tolist() == (pattern[0] > 0).sum(0).tolist()


def test_head_mass_by_hand():
    pattern = torch.tensor([[[1.0, 0], [0.5, 0.5]], [[1.0, 0], [0.2, 0.8]]])
    torch.testing.assert_close(head_mass(pattern), torch.tensor([[0.75, 0.5], [0.6, 0.8]]))


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize(("offset", "n_queries"), [(0, 12), (0, 5), (4, 3), (11, 1), (7, 5)])
def test_masses_of_a_chunk_equal_a_loop_over_its_queries(window, offset, n_queries):
    pattern, _ = causal_pattern(12, window=window)
    chunk = pattern[:, offset : offset + n_queries]
    mass, null = head_mass(chunk, window, offset=offset), torch.zeros(12)
    for key in range(12):
        sees = [
            query
            for query in range(offset, offset + n_queries)
            if key <= query and (window is None or key > query - window)
        ]
        for head in range(3):
            by_hand = [float(pattern[head, query, key]) for query in sees]
            expected = sum(by_hand) / len(sees) if sees else math.nan
            assert float(mass[head, key]) == pytest.approx(expected, abs=1e-6, nan_ok=True)
        shares = [1 / min(query + 1, window or 99) for query in sees]
        null[key] = sum(shares) / len(sees) if sees else math.nan
    torch.testing.assert_close(
        uniform_mass(12, window, offset=offset, n_queries=n_queries), null, equal_nan=True
    )
    excess = mass_excess(mass, null)
    torch.testing.assert_close(excess, mass - null, equal_nan=True)
    torch.testing.assert_close(
        attention_mass(chunk, window, offset=offset), mass.mean(0), equal_nan=True
    )


@given(st.integers(1, 25), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_masses_times_their_queries_add_up_over_chunks(n_pos, size, seed):
    pattern, _ = causal_pattern(n_pos, seed=seed)
    total = torch.zeros(3, n_pos)
    for offset in range(0, n_pos, size):
        chunk = pattern[:, offset : offset + size]
        seen = seeing_queries(n_pos, offset=offset, n_queries=chunk.shape[1])
        total += (head_mass(chunk, offset=offset) * seen).nan_to_num(0.0)
    torch.testing.assert_close(total, pattern.sum(1))


@pytest.mark.parametrize(
    ("offset", "window", "match"),
    [
        (0, None, "query at position 0 attends to key 1, which it cannot see with window=None"),
        (3, 1, "query at position 3 attends to key 0, which it cannot see with window=1"),
        (3, 3, "query at position 3 attends to key 0, which it cannot see with window=3"),
        (-1, None, "positions from 0 on"),
        (3, 0, "a window of at least 1"),
    ],
)
def test_a_wrong_offset_or_window_is_refused(offset, window, match):
    pattern, _ = causal_pattern(6)
    with pytest.raises(MeasureError, match=match):
        attention_mass(pattern[:, 3:], window, offset=offset)


IMPOSSIBLE = {
    "doubled": (lambda pattern: pattern * 2, "pays 2 in all; expected at most 1"),
    "negative": (torch.neg, "has the weight -1"),
    "scores": (lambda pattern: pattern.log(), "has the weight -inf"),
    "NaN": (lambda pattern: pattern * torch.nan, "has the weight nan"),
    "whole numbers": (lambda pattern: pattern.int(), "has dtype torch.int32"),
    "no heads": (lambda pattern: pattern[:0], r"has shape \[0, 6, 6\]"),
}


@pytest.mark.parametrize(
    "measure",
    [
        attention_mass,
        head_mass,
        virtual_mass,
        received_attention,
        lambda pattern: inspect.unwrap(paid_attention)(pattern, [0]),
    ],
)
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_is_no_attention_pattern_is_refused(measure, name):
    change, match = IMPOSSIBLE[name]
    pattern, _ = causal_pattern(6)
    with pytest.raises(MeasureError, match=match):
        inspect.unwrap(measure)(change(pattern))


@pytest.mark.parametrize("measure", [attention_mass, head_mass])
def test_attention_to_later_keys_is_refused(measure):
    with pytest.raises(MeasureError, match=r"position 0 attends to key 1.*causal attention only"):
        measure(torch.full((2, 6, 6), 1 / 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_learned_sinks_and_queries_that_see_nothing_are_accepted(dtype):
    pattern, _ = causal_pattern(400)
    pattern[:, 3:9] = 0.0
    pattern[:, 200:] *= 0.5
    mass = attention_mass(pattern.to(dtype))
    torch.testing.assert_close(mass, attention_mass(pattern), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda p: paid_attention(p, [-1]), "a key is -1; expected a whole number of at least 0"),
        (lambda p: paid_attention(p, [True]), "a key is True"),
        (lambda p: inspect.unwrap(attention_mass)(p, 2.5), "window is 2.5"),
        (lambda p: inspect.unwrap(attention_mass)(p, offset=0.5), "offset is 0.5"),
        (lambda p: sink_share(p.sum(1), math.nan), "eps is nan; expected a finite number"),
        (lambda p: inspect.unwrap(local_mass)(p[0, 0], 1.5), "reach is 1.5"),
        (lambda p: inspect.unwrap(local_mass)(p[0, 0], -1), "reach is -1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong, match):
    pattern, _ = causal_pattern(6)
    with pytest.raises(MeasureError, match=match):
        wrong(pattern)


def test_virtual_mass_is_what_a_learned_sink_takes():
    scores = torch.tensor([[[0.0, -torch.inf], [1.0, 2.0]]])
    with_sink = torch.cat([scores, torch.full((1, 2, 1), 0.5)], dim=-1).softmax(-1)
    expected = with_sink[0, :, 2].mean()
    assert float(virtual_mass(with_sink[..., :2])) == pytest.approx(float(expected), rel=1e-5)
    pattern, _ = causal_pattern(9)
    assert float(virtual_mass(pattern).abs().max()) < 1e-6


def test_sink_share_counts_heads_of_all_layers():
    mass = torch.tensor([[[0.31, 0.3], [0.9, 0.0]], [[0.29, 0.1], [1.0, 0.31]]])
    assert sink_share(mass).tolist() == [0.75, 0.25]
    assert sink_share(mass, eps=0.05).tolist() == [1.0, 0.75]
    by_hand = [sum(float(m) > 0.2 for m in mass[..., key].reshape(-1)) / 4 for key in range(2)]
    assert sink_share(mass, eps=0.2).tolist() == by_hand


def test_sink_share_of_a_key_that_no_query_sees_is_missing():
    pattern, _ = causal_pattern(6)
    share = sink_share(head_mass(pattern[:, :3]))
    assert share.isnan().tolist() == [False] * 3 + [True] * 3


def test_what_queries_pay_to_chosen_keys_is_their_columns_in_chunks_and_whole():
    """A key that a chunk does not have yet gets nothing from it; columns of all keys are rows."""
    pattern = torch.rand(3, 9, 9).tril()
    pattern /= pattern.sum(-1, keepdim=True)
    whole = paid_attention(pattern, [7, 0])
    torch.testing.assert_close(whole, pattern.mean(0)[:, [7, 0]])
    early, late = pattern[:, :4, :4], pattern[:, 4:]
    torch.testing.assert_close(torch.cat([paid_attention(p, [7, 0]) for p in (early, late)]), whole)
    torch.testing.assert_close(paid_attention(pattern, range(9)).sum(1), torch.ones(9))
    assert paid_attention(pattern, []).shape == (9, 0)
