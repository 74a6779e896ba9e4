import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks.measures import (
    attention_mass,
    received_attention,
    seeing_queries,
    uniform_mass,
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
