"""Masses without a pattern equal those of the pattern that plain softmaxes give."""

import math
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import (
    attention_mass,
    head_mass,
    mass_from_qk,
    received_from_qk,
    virtual_mass,
)

MODULE = sys.modules[mass_from_qk.__module__]


def heads(n_pos, n_heads=6, n_kv_heads=2, d_head=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries = 2 * torch.randn(n_pos, n_heads, d_head, generator=generator)
    return queries, torch.randn(n_pos, n_kv_heads, d_head, generator=generator)


def plain_pattern(queries, keys, scale, window=None, soft_cap=None, learned_sinks=None):
    """One softmax per query and head, in plain loops and double precision."""
    n_pos, n_heads = queries.shape[:2]
    pattern = torch.zeros(n_heads, n_pos, n_pos, dtype=torch.float64)
    for head in range(n_heads):
        own = keys[:, head // (n_heads // keys.shape[1])].double()
        for query in range(n_pos):
            first = 0 if window is None else max(0, query - window + 1)
            scores = scale * own[first : query + 1] @ queries[query, head].double()
            if soft_cap is not None:
                scores = torch.tensor([soft_cap * math.tanh(one / soft_cap) for one in scores])
            weights = scores.exp()
            rest = 0.0 if learned_sinks is None else math.exp(float(learned_sinks[head]))
            pattern[head, query, first : query + 1] = weights / (weights.sum() + rest)
    return pattern


@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("soft_cap", [None, 1.5])
@pytest.mark.parametrize("learned", [False, True])
def test_received_attention_equals_that_of_the_plain_pattern(
    monkeypatch, window, n_kv_heads, soft_cap, learned
):
    queries, keys = heads(13, n_kv_heads=n_kv_heads)
    learned_sinks = torch.linspace(-1, 2, 6) if learned else None
    monkeypatch.setattr(MODULE, "SCORES_AT_ONCE", 6 * 13 * 3)
    options = {"window": window, "soft_cap": soft_cap, "learned_sinks": learned_sinks}
    pattern = plain_pattern(queries, keys, 0.4, **options)
    received = received_from_qk(queries, keys, scale=0.4, **options)
    torch.testing.assert_close(received, pattern.sum(1).float(), rtol=1e-5, atol=1e-6)
    mass = mass_from_qk(queries, keys, scale=0.4, **options)
    torch.testing.assert_close(mass, head_mass(pattern.float(), window), rtol=1e-5, atol=1e-6)
    missing = 1 - received.sum(-1) / 13
    torch.testing.assert_close(
        missing, virtual_mass(pattern), rtol=1e-5, atol=1e-5, check_dtype=False
    )


def test_mass_by_hand():
    queries = torch.tensor([[[0.0]], [[math.log(3.0)]]])
    keys = torch.tensor([[[2.0]], [[0.0]]])
    expected = torch.tensor([[(1 + 0.75) / 2, 0.25]])
    torch.testing.assert_close(mass_from_qk(queries, keys, scale=0.5), expected)


@pytest.mark.parametrize("window", [None, 3])
def test_chunks_of_queries_add_up(window):
    queries, keys = heads(11)
    parts = [
        received_from_qk(queries[at : at + 4], keys, scale=0.3, window=window, offset=at)
        for at in range(0, 11, 4)
    ]
    whole = received_from_qk(queries, keys, scale=0.3, window=window)
    torch.testing.assert_close(sum(parts), whole)


def test_the_result_does_not_depend_on_blocks(monkeypatch):
    queries, keys = heads(20)
    whole = received_from_qk(queries, keys, scale=0.3)
    monkeypatch.setattr(MODULE, "SCORES_AT_ONCE", 1)
    torch.testing.assert_close(received_from_qk(queries, keys, scale=0.3), whole)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation gives."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(getattr(self, "numel", 0), out.numel())
        return out


def test_no_pattern_is_built(monkeypatch):
    queries, keys = heads(400, n_heads=2, n_kv_heads=1)
    monkeypatch.setattr(MODULE, "SCORES_AT_ONCE", 8000)
    with LargestTensor() as seen:
        mass_from_qk(queries, keys, scale=0.3)
    assert seen.numel <= 8000 < 2 * 400 * 400


def test_the_mean_over_heads_is_the_attention_mass():
    queries, keys = heads(9)
    pattern = plain_pattern(queries, keys, 1.0).float()
    got = mass_from_qk(queries, keys, scale=1.0).mean(0)
    torch.testing.assert_close(got, attention_mass(pattern))


@pytest.mark.parametrize(
    ("n_heads", "options", "match"),
    [
        (5, {}, "5 heads on 2"),
        (6, {"offset": 3}, "positions 0 to 11"),
        (6, {"soft_cap": 0.0}, "above 0"),
        (6, {"window": 0}, "window is 0"),
    ],
)
def test_what_does_not_fit_is_refused(n_heads, options, match):
    queries, keys = heads(9, n_heads=n_heads)
    with pytest.raises(MeasureError, match=match):
        mass_from_qk(queries, keys, scale=1.0, **options)
