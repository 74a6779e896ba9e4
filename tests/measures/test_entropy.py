import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import matrix_entropy, prefix_entropies

ORDERS = [0.5, 1.0, 2.0, 3.0, math.inf]


def random(n_pos, d, seed=0):
    vectors = torch.randn(n_pos, d, generator=torch.Generator().manual_seed(seed))
    vectors[0] *= 30
    return vectors


def by_singular_values(vectors, alpha):
    """The definition, from the singular values: their squares are the eigenvalues."""
    squares = [float(s) ** 2 for s in torch.linalg.svdvals(vectors.double())]
    shares = [one / sum(squares) for one in squares]
    if alpha == 1:
        return -sum(p * math.log(p) for p in shares if p > 0)
    if math.isinf(alpha):
        return -math.log(max(shares))
    return math.log(sum(p**alpha for p in shares)) / (1 - alpha)


def test_entropies_by_hand():
    vectors = torch.diag(torch.tensor([1.0, 1.0, 2.0**0.5, 0.0]))
    quarter, half = 0.25, 0.5
    shannon = -(2 * quarter * math.log(quarter) + half * math.log(half))
    assert float(matrix_entropy(vectors)) == pytest.approx(shannon, rel=1e-6)
    second = -math.log(2 * quarter**2 + half**2)
    assert float(matrix_entropy(vectors, 2.0)) == pytest.approx(second, rel=1e-6)
    assert float(matrix_entropy(vectors, math.inf)) == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("alpha", ORDERS)
def test_prefixes_equal_singular_values_on_both_sides_of_the_width(alpha):
    vectors, lengths = random(20, 7), [20, 1, 3, 7, 8, 12, 3]
    got = prefix_entropies(vectors, lengths, alpha)
    for entropy, length in zip(got.tolist(), lengths, strict=True):
        expected = by_singular_values(vectors[:length], alpha)
        assert entropy == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 999), st.sampled_from(ORDERS))
@settings(deadline=None, max_examples=40)
def test_entropy_lies_in_its_range_and_ignores_scale_and_rotation(n_pos, d, seed, alpha):
    vectors = random(n_pos, d, seed)
    entropy = float(matrix_entropy(vectors, alpha))
    assert -1e-6 <= entropy <= math.log(min(n_pos, d)) + 1e-6
    turn, _ = torch.linalg.qr(random(d, d, seed + 1))
    assert float(matrix_entropy(5 * vectors @ turn, alpha)) == pytest.approx(entropy, abs=1e-4)


def test_entropy_falls_with_its_order():
    entropies = [float(matrix_entropy(random(9, 6), alpha)) for alpha in ORDERS]
    assert entropies == sorted(entropies, reverse=True)


def test_a_text_without_length_has_no_entropy():
    assert math.isnan(matrix_entropy(torch.zeros(3, 4)))


@pytest.mark.parametrize(
    ("lengths", "alpha", "match"),
    [([], 1.0, "1 to 5"), ([0], 1.0, "1 to 5"), ([6], 1.0, r"\[6\]"), ([2], 0.0, "above 0")],
)
def test_what_has_no_entropy_is_refused(lengths, alpha, match):
    with pytest.raises(MeasureError, match=match):
        prefix_entropies(random(5, 4), lengths, alpha)
