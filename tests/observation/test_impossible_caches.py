"""A cache whose activations cannot be those of one run is refused, by hook name."""

import inspect

import pytest
import torch

from secondary_sinks import observation
from secondary_sinks.errors import CacheError, TextError
from secondary_sinks.testing import Plant, plant
from tests.marks import needs_old

pytestmark = needs_old
trace_from_cache = inspect.unwrap(observation.trace_from_cache)
"""Without the tests' own checks of types, as users call it."""
PATTERN, RESIDUAL, MLP = (
    f"blocks.2.{point}" for point in ("attn.hook_pattern", "hook_resid_post", "hook_mlp_out")
)


@pytest.fixture(scope="module")
def planted():
    return plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])


@pytest.fixture(scope="module")
def cache(planted):
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    return {name: cache[name][0] for name in cache.keys()}  # noqa: SIM118


def poke(value):
    def change(activation):
        changed = activation.clone()
        changed[..., 30, 1] = value
        return changed

    return change


IMPOSSIBLE = {
    "doubled pattern": (PATTERN, lambda x: x * 2, "pays 2 in all"),
    "negative pattern": (PATTERN, torch.neg, "the weight -1"),
    "NaN in the pattern": (PATTERN, poke(torch.nan), "the weight nan"),
    "infinity in the pattern": (PATTERN, poke(torch.inf), "pays inf in all"),
    "pattern of int": (PATTERN, torch.Tensor.int, "has dtype torch.int32"),
    "pattern of bool": (PATTERN, torch.Tensor.bool, "has dtype torch.bool"),
    "pattern of zeros": (PATTERN, torch.zeros_like, "without any attention"),
    "pattern of a bidirectional model": (
        PATTERN,
        lambda x: torch.full_like(x, 1 / 64),
        "attend to later keys",
    ),
    "no heads": (PATTERN, lambda x: x[:0], r"has shape \[0, 64, 64\]"),
    "pattern of some queries": (PATTERN, lambda x: x[:, :50], r"has shape \[\d+, 50, 64\]"),
    "one MLP output for all": (MLP, lambda x: x[:1], r"has shape \[1, \d+\]; expected \[64, "),
    "MLP output cut": (MLP, lambda x: x[:50], r"has shape \[50, "),
    "MLP output of another width": (MLP, lambda x: x[:, :5], r"has shape \[64, 5\]"),
    "NaN in an MLP output": (MLP, lambda x: x * torch.nan, "holds NaN"),
    "residual of another width": (RESIDUAL, lambda x: x[:, :5], r"has shape \[64, 5\]"),
    "residual in half precision": (RESIDUAL, torch.Tensor.half, "expected torch.float32, as at"),
    "one key for all": ("blocks.2.attn.hook_k", lambda x: x[:1], r"has shape \[1, "),
    "one value for all": ("blocks.2.attn.hook_v", lambda x: x[:1], r"has shape \[1, "),
    "one query for all": ("blocks.2.attn.hook_q", lambda x: x[:1], r"has shape \[1, "),
    "NaN in values": ("blocks.2.attn.hook_v", lambda x: x * torch.nan, "holds NaN"),
    "keys of another width": ("blocks.2.attn.hook_k", lambda x: x[..., :3], "expected .any, any,"),
    "queries of other heads": (
        "blocks.2.attn.hook_q",
        lambda x: torch.cat([x, x], 1),
        "heads; the pattern",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_activation_is_refused_by_its_hook_name(planted, cache, name):
    point, change, match = IMPOSSIBLE[name]
    with pytest.raises(CacheError, match=match) as caught:
        trace_from_cache(cache | {point: change(cache[point])}, planted.tokens, rotary=False)
    assert point in str(caught.value) or "layer 2" in str(caught.value)


@pytest.mark.parametrize("scale", [True, -1.0, 0, torch.nan, torch.inf, "1", torch.ones(3)])
@pytest.mark.parametrize("per_layer", [False, True])
def test_a_scale_is_a_finite_number_above_0(planted, cache, scale, per_layer):
    given = [1.0] * 7 + [scale] if per_layer else scale
    said = r"scale is .*; expected a finite number above 0|3 scales; expected one per layer"
    with pytest.raises(CacheError, match=said):
        trace_from_cache(cache, planted.tokens, rotary=False, scale=given)


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.full([8], 0.5), [0.5] * 7 + [None]])
def test_scales_of_tensors_and_of_some_layers_are_taken(planted, cache, scale):
    trace = trace_from_cache(cache, planted.tokens, rotary=False, scale=scale)
    plain = trace_from_cache(cache, planted.tokens, rotary=False, scale=0.5)
    torch.testing.assert_close(trace.norm, plain.norm)


def test_attention_of_bfloat16_that_was_cast_up_is_taken(planted, cache):
    rounded = {
        name: value.to(torch.bfloat16).float() if "pattern" in name else value
        for name, value in cache.items()
    }
    assert trace_from_cache(rounded, planted.tokens, rotary=False).mass.isfinite().any()


@pytest.mark.parametrize("windows", [64, [64.5] * 8, [True] * 8, [0] * 8, "12345678"])
def test_windows_are_a_list_of_whole_numbers(planted, cache, windows):
    with pytest.raises(CacheError, match="window"):
        trace_from_cache(cache, planted.tokens, windows=windows)


@pytest.mark.parametrize("strings", ["x" * 64, [1] * 64])
def test_strings_are_a_list_of_strings(planted, cache, strings):
    with pytest.raises(CacheError, match="a list of strings"):
        trace_from_cache(cache, planted.tokens, strings=strings)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"tokens": [2**62] * 64}, "token id 4611686018427387904; expected ids of at most"),
        ({"tokens": [True] * 64}, "True and False"),
        ({"text_id": ""}, "text_id is ''"),
    ],
)
def test_tokens_and_name_are_checked(planted, cache, given, match):
    with pytest.raises(TextError, match=match):
        trace_from_cache(cache, **{"tokens": planted.tokens, **given})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_patterns_learned_sinks_and_padding_are_accepted(planted, cache, dtype):
    """Rows sum to 1 up to rounding, to less with a learned sink, to 0 where nothing is seen."""
    changed = dict(cache)
    for name in cache:
        if name.endswith("hook_pattern"):
            pattern = cache[name].clone()
            pattern[:, 3:6] = 0.0
            pattern[:, 10:] *= 0.6
            changed[name] = pattern.to(dtype)
    trace = trace_from_cache(changed, planted.tokens, rotary=False)
    assert (trace.virtual_mass > 0.3).all()
