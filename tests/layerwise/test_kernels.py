"""Attention from fused kernels equals the definition, in every type of number."""

import time

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.layerwise import choose_kernel, flash_attention, hooked_attention
from secondary_sinks.layerwise.choose_kernel import Kind, agrees, faster_kernel
from secondary_sinks.layerwise.flash_attention import attend_flash
from secondary_sinks.layerwise.flex_attention import attend_flex
from secondary_sinks.layerwise.fused_attention import AttentionTotals
from secondary_sinks.testing.families import save
from tests.marks import needs_old, thinned

CPU = torch.device("cpu")
ALL = (0, 7, 11, 23)
LEARNED = torch.tensor([-1.0, 0.0, 2.0, 9.0])
SIZES = [(40, 40), (40, 1100), (1, 40), (24, 24)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
CHUNKS = [(dtype, *size) for dtype in TYPES for size in SIZES]
TYPICAL = [(torch.float32, 40, 1100), (torch.bfloat16, 40, 40)]
SHAPE = {"n_heads": 4, "n_groups": 2, "d_head": 16}
PLAIN = {"soft_cap": None, "window": None}
LIMITS = [
    PLAIN,
    {"soft_cap": None, "window": 9},
    {"soft_cap": 2.0, "window": None},
    {"soft_cap": 2.0, "window": 30},
]


def kind(limits=PLAIN, dtype=torch.float32, device=CPU):
    return Kind(device=device, dtype=dtype, **SHAPE, **limits)


def drawn(n_queries=40, n_keys=40, *, strength=1.0, dtype=torch.float64):
    """A random text whose first key is asked for with some strength."""
    queries, keys, values = kind(dtype=dtype).random(n_queries, n_keys)
    keys[0] = strength * queries.mean((0, 1))
    return queries, keys, values


def scores_of(queries, keys, soft_cap=None, window=None):
    """Scores from the definition, in float64, with -inf for keys that are not seen."""
    n_queries, n_keys = len(queries), len(keys)
    keys = keys.double().repeat_interleave(2, 1)
    scores = torch.einsum("qhd,khd->hqk", queries.double(), keys) / 4
    if soft_cap is not None:
        scores = soft_cap * (scores / soft_cap).tanh()
    seen = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    if window is not None:
        seen &= seen.new_ones(n_queries, n_keys).triu(n_keys - n_queries - window + 1)
    return scores.masked_fill(~seen, -torch.inf)


def plainly(queries, keys, values, learned=None, **limits):
    """Output, received and paid attention from the definition, in float64."""
    scores = scores_of(queries, keys, **limits)
    if learned is not None:
        extra = learned.double()[:, None, None].expand(-1, len(queries), 1)
        scores = torch.cat([scores, extra], -1)
    pattern = scores.softmax(-1)[..., : len(keys)]
    z = torch.einsum("hqk,khd->qhd", pattern, values.double().repeat_interleave(2, 1))
    return z, pattern.sum(1).mean(0), pattern.mean(0)[:, ALL]


def by_kernel(attends, queries, keys, values, learned=None, **limits):
    totals = AttentionTotals(len(keys), denominators=False, watch=ALL)
    more = {"learned_sinks": learned, "totals": totals, **limits}
    z = attends(queries, keys, values, scale=0.25, **more)
    assert z.dtype == queries.dtype
    return z, totals.received, totals.paid


@pytest.mark.parametrize("learned", [None, LEARNED])
@pytest.mark.parametrize(("dtype", "n_queries", "n_keys"), thinned(CHUNKS, TYPICAL, unpack=True))
@pytest.mark.parametrize("limits", LIMITS)
def test_they_are_the_definition_computed_otherwise(limits, dtype, n_queries, n_keys, learned):
    given = [x.to(dtype) for x in drawn(n_queries, n_keys, strength=40.0)]
    true_z, *true = plainly(*given, learned, **limits)
    for attends in (attend_flex, attend_flash) if limits == PLAIN else (attend_flex,):
        z, *sums = by_kernel(attends, *given, learned, **limits)
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
        return float(((by_kernel(attend_flash, *given)[1].double() - true) / true).abs().max())

    exact = error()
    monkeypatch.setitem(flash_attention.SUMMANDS, dtype, 1)
    assert error() > 10 * exact


def test_a_kernel_is_used_on_a_device_only_where_it_agrees_and_is_faster(monkeypatch):
    queries, keys, _ = (x.float() for x in drawn())
    totals = AttentionTotals(40, denominators=False)

    def found(*, soft_cap=None, window=None, device="meta"):
        of = [x.to(device) for x in (queries, keys)]
        return faster_kernel(*of, soft_cap=soft_cap, window=window, totals=totals)

    monkeypatch.setattr(choose_kernel, "agrees", lambda kind: True)
    monkeypatch.setattr(choose_kernel, "_is_faster", lambda kind, *sizes: True)
    assert found() is attend_flash
    assert found(window=40) is attend_flash
    assert found(window=39) is attend_flex
    assert found(soft_cap=30.0) is attend_flex
    assert found(device="cpu") is None
    monkeypatch.setattr(choose_kernel, "_is_faster", lambda kind, *sizes: False)
    assert found() is None
    monkeypatch.setattr(choose_kernel, "_is_faster", lambda kind, *sizes: True)
    monkeypatch.setattr(choose_kernel, "agrees", lambda kind: False)
    assert found() is None


@pytest.mark.parametrize(("dtype", "used"), [(torch.float32, True), (torch.bfloat16, False)])
def test_denominators_of_rounded_scores_are_not_those_of_a_kernel(dtype, used, monkeypatch):
    monkeypatch.setattr(choose_kernel, "agrees", lambda kind: True)
    monkeypatch.setattr(choose_kernel, "_is_faster", lambda kind, *sizes: True)
    queries, keys, _ = (x.to("meta", dtype) for x in drawn())
    totals = AttentionTotals(40, denominators=True)
    assert (faster_kernel(queries, keys, totals=totals, **PLAIN) is not None) is used


@pytest.mark.parametrize("limits", LIMITS)
def test_a_kernel_that_is_missing_or_wrong_is_not_used(limits, monkeypatch):
    assert agrees.__wrapped__(kind(limits))
    real = kind(limits).kernel

    def wrong(queries, *given, **options):
        return real(queries, *given, **options) * 1.01

    def missing(*given, **options):
        raise NotImplementedError("no such operator on this device")

    for broken in (wrong, missing):
        monkeypatch.setattr(choose_kernel, real.__name__, broken)
        assert not agrees.__wrapped__(kind(limits))


@pytest.mark.parametrize("limits", LIMITS[1:])
def test_a_kernel_that_forgets_a_limit_is_not_used(limits, monkeypatch):
    def forgetful(*given, soft_cap, window, **options):
        return attend_flex(*given, **options)

    monkeypatch.setattr(choose_kernel, "attend_flex", forgetful)
    assert not agrees.__wrapped__(kind(limits))


@pytest.mark.parametrize(("slow", "faster"), [("_slowly", True), ("attend_flash", False)])
def test_the_faster_one_is_found_by_measuring(slow, faster, monkeypatch):
    real = getattr(choose_kernel, slow)

    def slowed(*given, **options):
        time.sleep(0.5)
        return real(*given, **options)

    monkeypatch.setattr(choose_kernel, slow, slowed)
    assert choose_kernel._is_faster.__wrapped__(kind(), 8, 8) is faster


def test_a_kernel_that_runs_out_of_memory_at_a_size_is_not_used_there(monkeypatch):
    def too_much(*given, **options):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(choose_kernel, "attend_flash", too_much)
    assert not choose_kernel._is_faster.__wrapped__(kind(), 8, 8)


def test_few_sizes_are_measured():
    assert [choose_kernel._rounded_up(n) for n in (1, 2, 3, 1000, 1024)] == [1, 2, 4, 1024, 1024]


@pytest.mark.parametrize("attends", [attend_flash, attend_flex])
def test_watched_keys_may_come_in_any_order_and_later_than_the_chunk(attends):
    """Each has its own column, in a chunk that ends before it too."""
    queries, keys, values = (x.float() for x in drawn(24, 24))
    totals = AttentionTotals(40, denominators=False, watch=(11, 39, 0))
    attends(queries, keys, values, scale=0.25, totals=totals)
    expected = plainly(queries, keys, values)[2]  # of keys 0, 7, 11, 23
    assert not totals.paid[:, 1].any()
    torch.testing.assert_close(
        totals.paid[:, [2, 0]].double(), expected[:, [0, 2]], rtol=1e-4, atol=1e-5
    )


VARIANTS = ["llama", "gpt-oss", "qwen2-window", "gemma2"]


@needs_old
@pytest.mark.parametrize("variant", thinned(VARIANTS, ["gpt-oss", "gemma2"]))
def test_a_trace_is_the_same_by_kernels(variant, tmp_path, monkeypatch):
    """With learned sinks, windows and soft-caps too."""
    model = load_model(save(variant, tmp_path), device="cpu", bridge=False, skip=["causality"])
    tokens = torch.randint(3, 97, (60,), generator=torch.Generator().manual_seed(1))
    slow, used = observe(model, tokens), set()

    def on_any_device(queries, keys, *, soft_cap, window, totals):
        limited = soft_cap is not None or (window is not None and window < len(keys))
        used.add(attend_flex if limited else attend_flash)
        return attend_flex if limited else attend_flash

    monkeypatch.setattr(hooked_attention, "faster_kernel", on_any_device)
    fast = observe(model, tokens)
    assert (attend_flash in used) is (variant != "gemma2")
    assert (attend_flex in used) is (variant != "llama")
    for name in ("mass", "norm", "alignment"):
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learned", [None, LEARNED])
@pytest.mark.parametrize("limits", LIMITS)
def test_log_denominators_are_those_of_the_definition(limits, learned):
    """Of the keys; a learned sink is added at the end, as on the slow path."""
    queries, keys, values = (x.float() for x in drawn(24, 40, strength=40.0))
    totals = AttentionTotals(40, denominators=True)
    given = {"scale": 0.25, "learned_sinks": learned, "totals": totals, **limits}
    kind(limits).kernel(queries, keys, values, **given)
    sums = scores_of(queries, keys, **limits).logsumexp(-1)
    expected = sums if learned is None else sums.logaddexp(learned.double()[:, None])
    torch.testing.assert_close(totals.log_sums(learned).double(), expected, rtol=1e-5, atol=1e-5)
