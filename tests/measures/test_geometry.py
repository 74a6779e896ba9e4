import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks import observe
from secondary_sinks.measures import (
    alignment,
    centred_alignment,
    deviation_ratio,
    is_ordinary,
    norm_ratio,
    norms,
    typical_token,
)
from secondary_sinks.testing import Plant, plant


def test_alignment_by_hand_keeps_the_sign():
    vectors = torch.tensor([[3.0, 4.0], [-3.0, -4.0], [4.0, -3.0], [1.0, 0.0]])
    expected = torch.tensor([1.0, -1.0, 0.0, 0.6])
    torch.testing.assert_close(alignment(vectors, torch.tensor([6.0, 8.0])), expected)


def test_alignment_with_a_zero_vector_is_missing_and_not_zero():
    assert math.isnan(alignment(torch.zeros(3), torch.ones(3)))


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99))
@settings(deadline=None)
def test_alignment_does_not_depend_on_lengths(a, b, seed):
    x, y = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    assert float(alignment(a * x, b * y)) == pytest.approx(float(alignment(x, y)), abs=1e-5)


def test_centred_alignment_ignores_what_all_tokens_share():
    generator = torch.Generator().manual_seed(0)
    common = 100 * torch.randn(64, generator=generator)
    own, direction = torch.randn(2, 64, generator=generator)
    assert float(alignment(common + own, common + direction)) > 0.98
    got = centred_alignment(common + own, common + direction, common)
    torch.testing.assert_close(got, alignment(own, direction), atol=1e-3, rtol=0)


def test_typical_token_leaves_massive_tokens_out():
    residual = torch.ones(50, 4)
    residual[7] = torch.tensor([1e4, 0, 0, 0])
    assert is_ordinary(residual).tolist() == [pos != 7 for pos in range(50)]
    torch.testing.assert_close(typical_token(residual), torch.ones(4))


def test_norms_are_in_float32_whatever_comes():
    assert norms(torch.full((1, 4), 200.0, dtype=torch.float16)).tolist() == [400.0]


def test_ratios_by_hand():
    """The typical token is (4, 1): the mean of all but the last, whose norm is above twice 4."""
    residual = torch.tensor([[4.0, 0.0], [4.0, 3.0], [4.0, 0.0], [4.0, 1.0], [40.0, 1.0]])
    lengths = [4.0, 5.0, 4.0, 17**0.5, 1601**0.5]
    torch.testing.assert_close(norm_ratio(residual), torch.tensor(lengths) / 17**0.5)
    assert typical_token(residual).tolist() == [4.0, 1.0]
    assert deviation_ratio(residual).tolist() == [1.0, 2.0, 1.0, 0.0, 36.0]


def test_ratios_are_those_of_a_loop_and_do_not_depend_on_the_unit():
    residual = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))
    typical = typical_token(residual)
    for ratio, centre in ((norm_ratio, 0 * typical), (deviation_ratio, typical)):
        lengths = [math.dist(one, centre.tolist()) for one in residual.tolist()]
        middle = sorted(lengths)[14]
        assert ratio(residual).tolist() == pytest.approx([one / middle for one in lengths])
        torch.testing.assert_close(ratio(8 * residual), ratio(residual))


def test_ratios_are_those_of_a_trace():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    for layer in (0, 1, 3):
        residual = cache["resid_post", layer][0]
        torch.testing.assert_close(norm_ratio(residual), trace.norm_ratio[layer])
        torch.testing.assert_close(deviation_ratio(residual), trace.deviation_ratio[layer])
