import pytest
import torch

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import value_drain


def test_value_drain_by_hand():
    values = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    w_o = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [6.0, 8.0]]])
    torch.testing.assert_close(value_drain(values, w_o), torch.tensor([[5.0, 0.0], [2.0, 20.0]]))


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_value_drain_equals_a_loop_over_heads_and_positions(n_kv_heads):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, n_kv_heads, 4, generator=generator)
    w_o = torch.randn(6, 4, 10, generator=generator)
    got = value_drain(values, w_o)
    for head in range(6):
        for pos in range(7):
            written = values[pos, head // (6 // n_kv_heads)].double() @ w_o[head].double()
            expected = float((written**2).sum() ** 0.5)
            assert float(got[pos, head]) == pytest.approx(expected, rel=1e-5)


def test_value_drain_is_linear_in_the_value_and_blind_to_where_it_points():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(5, 2, 4, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    w_o = turn.expand(2, 4, 4)
    torch.testing.assert_close(value_drain(-3 * values, w_o), 3 * values.norm(dim=-1))


def test_heads_that_cannot_share_are_refused():
    with pytest.raises(MeasureError, match="5 heads on 2"):
        value_drain(torch.zeros(3, 2, 4), torch.zeros(5, 4, 8))
