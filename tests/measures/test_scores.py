import pytest
import torch

from secondary_sinks.measures import mean_score


def random_heads(n_pos, n_heads, n_kv_heads, d_head=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(n_pos, n_heads, d_head, generator=generator)
    return queries, torch.randn(n_pos, n_kv_heads, d_head, generator=generator)


def test_mean_score_by_hand():
    queries = torch.tensor([[[1.0, 0], [0, 1]], [[2, 0], [0, 3]], [[-1, 1], [1, 1]]])
    keys = torch.tensor([[[1.0, 1]], [[2, 0]], [[1, -1]]])
    expected = torch.tensor([0.5 * (1 + 1 + 2 + 3 + 0 + 2) / 6, 0.5 * (4 + 0 - 2 + 2) / 4, -0.5])
    torch.testing.assert_close(mean_score(queries, keys, 0.5), expected)


@pytest.mark.parametrize("window", [None, 1, 3, 40])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_mean_score_equals_a_loop_over_pairs(window, n_kv_heads):
    n_pos, n_heads = 11, 6
    queries, keys = random_heads(n_pos, n_heads, n_kv_heads)
    got = mean_score(queries, keys, 0.3, window)
    for key in range(n_pos):
        sees = [q for q in range(key, n_pos) if window is None or key > q - window]
        scores = [
            0.3 * float(queries[q, head] @ keys[key, head // (n_heads // n_kv_heads)])
            for q in sees
            for head in range(n_heads)
        ]
        assert float(got[key]) == pytest.approx(sum(scores) / len(scores), rel=1e-5, abs=1e-6)


def test_mean_score_stays_exact_behind_a_massive_query():
    queries, keys = random_heads(300, 2, 2)
    queries[0] = 1e6
    expected = mean_score(queries[1:], keys[1:], 1.0)
    torch.testing.assert_close(mean_score(queries, keys, 1.0)[1:], expected, rtol=1e-5, atol=1e-5)
