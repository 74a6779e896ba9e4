"""Attention from fused kernels equals the slow path, in every type of number."""

import functools
import time

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.layerwise import flash_attention, hooked_attention
from secondary_sinks.layerwise.flash_attention import agrees, attend_flash, is_better
from secondary_sinks.layerwise.fused_attention import AttentionTotals
from secondary_sinks.testing.families import save
from tests.marks import needs_old

CPU = torch.device("cpu")
ALL = (0, 7, 11, 23)


def drawn(n_queries=40, n_keys=40, *, strength=1.0, dtype=torch.float64):
    """A random text whose first key is asked for with some strength."""
    queries, keys, values = flash_attention._random(CPU, dtype, 4, 2, 16, n_queries, n_keys)
    keys[0] = strength * queries.mean((0, 1))
    return queries, keys, values


def plainly(queries, keys, values, learned=None):
    """Output, received and paid attention from the definition, in float64."""
    queries, keys, values = (x.double() for x in (queries, keys, values))
    n_queries, n_keys = len(queries), len(keys)
    keys, values = (x.repeat_interleave(2, 1) for x in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", queries, keys) / 4
    late = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    scores = scores.masked_fill(~late, -torch.inf)
    if learned is not None:
        scores = torch.cat([scores, learned.double()[:, None, None].expand(-1, n_queries, 1)], -1)
    pattern = scores.softmax(-1)[..., :n_keys]
    z = torch.einsum("hqk,khd->qhd", pattern, values)
    return z, pattern.sum(1).mean(0), pattern.mean(0)[:, ALL]


def by_kernel(queries, keys, values, learned=None):
    totals = AttentionTotals(len(keys), denominators=False, watch=ALL)
    z = attend_flash(queries, keys, values, scale=0.25, learned_sinks=learned, totals=totals)
    assert z.dtype == queries.dtype
    return z, totals.received, totals.paid


@pytest.mark.parametrize("learned", [None, torch.tensor([-1.0, 0.0, 2.0, 9.0])])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(40, 40), (1, 40), (40, 1100), (24, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_is_the_definition_computed_otherwise(dtype, n_queries, n_keys, learned):
    given = [x.to(dtype) for x in drawn(n_queries, n_keys, strength=40.0)]
    (z, *sums), (true_z, *true) = by_kernel(*given, learned), plainly(*given, learned)
    unit = 4 * torch.finfo(dtype).eps + 64 * torch.finfo(torch.float32).eps  # output, and sums
    assert (z.double() - true_z).abs().max() <= unit * true_z.abs().max()
    # The sums are in float32 whatever the type; a kernel may round each weight to it.
    for ours, theirs in zip(sums, true, strict=True):
        assert ((ours.double() - theirs).abs() <= 3e-4 * theirs + 3e-6 * len(ours)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_number_of_half_precision_would_not_hold_the_denominators(dtype, monkeypatch):
    given = [x.to(dtype) for x in drawn(n_keys=300, n_queries=300, strength=40.0)]
    true = plainly(*given)[1]

    def error():
        return float(((by_kernel(*given)[1].double() - true) / true).abs().max())

    exact = error()
    monkeypatch.setitem(flash_attention.SUMMANDS, dtype, 1)
    assert error() > 10 * exact


def test_it_is_used_on_a_device_only_where_it_agrees_and_is_faster(monkeypatch):
    queries, keys, _ = (x.float() for x in drawn())
    plain = AttentionTotals(40, denominators=False)

    def better(*, totals=plain, soft_cap=None, window=None, device="meta"):
        of = [x.to(device) for x in (queries, keys)]
        return is_better(*of, soft_cap=soft_cap, window=window, totals=totals)

    monkeypatch.setattr(flash_attention, "agrees", lambda *shape: True)
    monkeypatch.setattr(flash_attention, "_is_faster", lambda *shape: True)
    assert better()
    assert better(window=40)
    assert not better(window=39)
    assert not better(soft_cap=30.0)
    assert not better(device="cpu")
    monkeypatch.setattr(flash_attention, "_is_faster", lambda *shape: False)
    assert not better()


@pytest.mark.parametrize(("dtype", "used"), [(torch.float32, True), (torch.bfloat16, False)])
def test_denominators_of_rounded_scores_are_not_those_of_a_kernel(dtype, used, monkeypatch):
    monkeypatch.setattr(flash_attention, "agrees", lambda *shape: True)
    monkeypatch.setattr(flash_attention, "_is_faster", lambda *shape: True)
    queries, keys, _ = (x.to("meta", dtype) for x in drawn())
    totals = AttentionTotals(40, denominators=True)
    assert is_better(queries, keys, soft_cap=None, window=None, totals=totals) is used


def test_a_kernel_that_is_missing_or_wrong_is_not_used(monkeypatch):
    shape = (CPU, torch.float32, 4, 2, 16)
    assert agrees.__wrapped__(*shape)
    real = flash_attention.kernel

    def wrong(*given, causal):
        z, lse = real(*given, causal=causal)
        return z, lse + 0.01

    def missing(*given, causal):
        raise NotImplementedError("no such operator on this device")

    for broken in (wrong, missing):
        monkeypatch.setattr(flash_attention, "kernel", broken)
        assert not agrees.__wrapped__(*shape)


@pytest.mark.parametrize(("slow", "faster"), [("_slowly", True), ("attend_flash", False)])
def test_the_faster_one_is_found_by_measuring(slow, faster, monkeypatch):
    real, shape = getattr(flash_attention, slow), (CPU, torch.float32, 4, 2, 16, 8, 8)

    def slowed(*given, **options):
        time.sleep(0.5)
        return real(*given, **options)

    monkeypatch.setattr(flash_attention, slow, slowed)
    assert flash_attention._is_faster.__wrapped__(*shape) is faster


def test_a_kernel_that_runs_out_of_memory_at_a_shape_is_not_used_there(monkeypatch):
    def too_much(*given, **options):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(flash_attention, "kernel", too_much)
    assert not flash_attention._is_faster.__wrapped__(CPU, torch.float32, 4, 2, 16, 8, 8)


def test_few_shapes_are_measured():
    assert [flash_attention._rounded_up(n) for n in (1, 2, 3, 1000, 1024)] == [1, 2, 4, 1024, 1024]


def test_watched_keys_may_come_in_any_order_and_later_than_the_chunk():
    """Each has its own column, in a chunk that ends before it too."""
    queries, keys, values = (x.float() for x in drawn(24, 24))
    totals = AttentionTotals(40, denominators=False, watch=(11, 39, 0))
    attend_flash(queries, keys, values, scale=0.25, totals=totals)
    expected = plainly(queries, keys, values)[2]  # of keys 0, 7, 11, 23
    assert not totals.paid[:, 1].any()
    torch.testing.assert_close(
        totals.paid[:, [2, 0]].double(), expected[:, [0, 2]], rtol=1e-4, atol=1e-5
    )


@needs_old
@pytest.mark.parametrize("variant", ["llama", "gpt-oss", "qwen2-window"])
def test_a_trace_is_the_same_by_kernels(variant, tmp_path, monkeypatch):
    """With learned sinks too; layers with a window inside the text keep the slow path."""
    model = load_model(save(variant, tmp_path), device="cpu", bridge=False, skip=["causality"])
    tokens = torch.randint(3, 97, (60,), generator=torch.Generator().manual_seed(1))
    slow, calls = observe(model, tokens), []

    @functools.wraps(is_better)
    def on_any_device(queries, keys, *, soft_cap, window, totals):
        inside = window is not None and window < len(keys)
        return not inside and soft_cap is None

    def counted(*given, **options):
        calls.append(given)
        return attend_flash(*given, **options)

    monkeypatch.setattr(hooked_attention, "is_better", on_any_device)
    monkeypatch.setattr(hooked_attention, "attend_flash", counted)
    fast = observe(model, tokens)
    assert calls
    for name in ("mass", "norm", "alignment"):
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learned", [None, torch.tensor([-1.0, 0.0, 2.0, 9.0])])
def test_log_denominators_are_those_of_the_definition(learned):
    """Of the keys; a learned sink is added at the end, as on the slow path."""
    queries, keys, values = (x.float() for x in drawn(24, 40, strength=40.0))
    totals = AttentionTotals(40, denominators=True)
    given = {"scale": 0.25, "learned_sinks": learned, "totals": totals}
    attend_flash(queries, keys, values, **given)
    scores = torch.einsum("qhd,khd->hqk", queries.double(), keys.double().repeat_interleave(2, 1))
    hidden = ~torch.ones(24, 40, dtype=torch.bool).tril(16)
    sums = (scores / 4).masked_fill(hidden, -torch.inf).logsumexp(-1)
    expected = sums if learned is None else sums.logaddexp(learned.double()[:, None])
    torch.testing.assert_close(totals.log_sums(learned).double(), expected, rtol=1e-5, atol=1e-5)
