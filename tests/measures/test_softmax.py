import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks.measures import Denominator, attention_to_replaced_key


def replaced(scores, key, new):
    """Attention to `key` after its score became `new`, for one head and query."""
    scores = torch.tensor([[scores]])
    others = Denominator.of(scores).without(scores[..., [key]])
    return float(attention_to_replaced_key(torch.tensor([[[new]]]), others))


@given(
    st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=12),
    st.floats(-60, 60, width=32),
    st.integers(0, 11),
)
@settings(deadline=None, max_examples=300)
def test_replacing_a_key_equals_a_new_softmax(scores, new, key):
    key %= len(scores)
    changed = torch.tensor(scores, dtype=torch.float64)
    changed[key] = new
    expected = float(changed.softmax(0)[key])
    assert replaced(scores, key, new) == pytest.approx(expected, rel=2e-5, abs=1e-30)


def test_a_sink_that_takes_all_attention_leaves_the_others_exact():
    scores, new = [40.0, 1.0, 2.0, 0.5], 1.5
    expected = float(torch.tensor([new, 1.0, 2.0, 0.5], dtype=torch.float64).softmax(0)[0])
    assert replaced(scores, 0, new) == pytest.approx(expected, rel=1e-6)


def test_replacing_a_key_by_itself_changes_nothing():
    scores = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    keys = torch.tensor([0, 2, 4])
    others = Denominator.of(scores).without(scores[..., keys])
    got = attention_to_replaced_key(scores[..., keys], others)
    torch.testing.assert_close(got[:, 4:], scores.softmax(-1)[:, 4:, keys])


def test_a_learned_sink_takes_part():
    scores, sink = torch.tensor([[[1.0, 2.0, 0.0]]]), torch.tensor([[[5.0]]])
    whole = Denominator.of(torch.cat([scores, sink], dim=-1))
    others = whole.without(scores[..., [1]])
    got = attention_to_replaced_key(torch.tensor([[[3.0]]]), others)
    expected = torch.tensor([1.0, 3.0, 0.0, 5.0]).softmax(0)[1]
    assert float(got) == pytest.approx(float(expected), rel=1e-6)
