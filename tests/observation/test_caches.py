"""`trace_from_cache`: what `observe` gives, from the cache of a plain run."""

from dataclasses import fields

import pytest
import torch

from secondary_sinks import Trace, load_model, observe, trace_from_cache
from secondary_sinks.errors import CacheError, ModelError, TextError
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import tiny
from tests.marks import OLD, exhaustive, needs_old

TOKENS = torch.randint(3, 97, (30,), generator=torch.Generator().manual_seed(1))
NOT_NUMBERS = ("text_id", "token_strings", "dtype")
MEASURED = [one.name for one in fields(Trace) if one.name not in NOT_NUMBERS]
WINDOWS = {"gemma2": [8, None, 8], "gpt-oss": [8, None, 8], "mistral-window": [8, 8, 8]}
SCALES = {"gemma2": 24**-0.5, "gpt2": 8**-0.5, "llama": 8**-0.5, "mistral-window": 8**-0.5}
FAMILIES = ["gemma2", "gpt-oss", "gpt2", "llama", "mistral-window", "qwen3"]


def equal(one, other, missing=()):
    """Every field of two traces, to 1e-5 of its size; `missing` ones are NaN in the first."""
    assert one.dtype == other.dtype
    for name in MEASURED:
        got, expected = (torch.as_tensor(getattr(trace, name)) for trace in (one, other))
        if name in missing:
            assert got.isnan().all(), name
            assert got.shape == expected.shape
        else:
            size = float(expected.double().nan_to_num(0.0).abs().max())
            size = 1.0 if name == "virtual_mass" else size  # a share, next to none of it
            torch.testing.assert_close(
                got, expected, rtol=1e-5, atol=1e-5 * size, equal_nan=True, msg=name
            )


@pytest.mark.parametrize("kind", [pytest.param("hooked", marks=needs_old), "bridge"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_cache_gives_what_a_pass_gives(name, kind):
    model = load_model(tiny(name), device="cpu", bridge=kind == "bridge")
    _, cache = model.run_with_cache(TOKENS[None])
    trace = trace_from_cache(
        cache,
        TOKENS,
        windows=WINDOWS.get(name),
        scale=SCALES.get(name, 0.25),
        rotary=name != "gpt2",
    )
    equal(trace, observe(model, TOKENS, chunk=7))


@pytest.fixture(scope="module")
def planted():
    if not OLD:
        pytest.skip("planted models are HookedTransformers")
    return plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])


@pytest.fixture(scope="module")
def cache(planted):
    """A plain dict: it holds what is cached, without a batch axis."""
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    return {name: cache[name][0] for name in cache.keys()}  # noqa: SIM118


def only(cache, *ends):
    return {name: value for name, value in cache.items() if name.endswith(ends)}


NEEDED = ("hook_resid_post", "hook_pattern", "hook_mlp_out")


def test_what_the_cache_lacks_is_missing_and_the_rest_is_as_it_was(planted, cache):
    trace = observe(planted.model, planted.tokens)
    fed = planted.tokens
    least = trace_from_cache(only(cache, *NEEDED), fed, rotary=False)
    equal(least, trace, missing=("score", "key_norm", "key_norm_raw", "value_norm"))
    without_scale = trace_from_cache(cache, fed, rotary=False)
    equal(without_scale, trace, missing=("score",))
    keys_only = trace_from_cache(only(cache, *NEEDED, "hook_k"), fed, rotary=False, scale=1.0)
    equal(keys_only, trace, missing=("score", "value_norm"))
    not_rotated = trace_from_cache(cache, fed, scale=8**-0.5)
    equal(not_rotated, trace, missing=("score", "key_norm"))
    scale = [8**-0.5] * 8
    equal(trace_from_cache(cache, fed[None], rotary=False, scale=scale), trace)


def test_every_missing_hook_name_is_said(planted, cache):
    lacking = ["blocks.2.hook_mlp_out", "blocks.5.attn.hook_pattern", "blocks.7.hook_resid_post"]
    some = {name: value for name, value in cache.items() if name not in lacking}
    with pytest.raises(CacheError) as caught:
        trace_from_cache(some, planted.tokens)
    said = str(caught.value).split(";")[0]
    assert said == "the cache lacks " + ", ".join(sorted(lacking))


def test_texts_of_tokens_are_kept_and_counted(planted, cache):
    n_pos = len(planted.tokens)
    given = trace_from_cache(cache, planted.tokens, strings=["x"] * n_pos, text_id="t")
    assert (given.text_id, given.token_strings) == ("t", ("x",) * n_pos)
    assert trace_from_cache(cache, planted.tokens).token_strings[0] == f"[{planted.tokens[0]}]"


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"strings": ["x"]}, CacheError, "got 1 strings; expected one per token"),
        ({"scale": [1.0]}, CacheError, "got 1 scales; expected one per layer"),
        ({"windows": [None]}, CacheError, "windows of 1 layers"),
        ({"windows": [None] * 7 + [9]}, CacheError, "layer 7 .* see 64 .* window of 9"),
        (
            {"tokens": torch.arange(5)},
            CacheError,
            r"resid_post has shape \[64, .* \[5, ",
        ),
        ({"tokens": torch.zeros(64)}, TextError, "float32"),
        ({"tokens": "a text"}, TextError, "to_tokens"),
    ],
)
def test_what_does_not_fit_is_refused(planted, cache, change, error, match):
    with pytest.raises(error, match=match):
        trace_from_cache(cache, **{"tokens": planted.tokens, **change})


def test_a_window_is_never_guessed():
    model = load_model(tiny("gemma2"), device="cpu")
    _, cache = model.run_with_cache(TOKENS[None])
    with pytest.raises(
        CacheError, match=r"layer 0 whose queries see 8 of 30 .* windows=\[\.\.\.\]"
    ):
        trace_from_cache(cache, TOKENS)
    with pytest.raises(CacheError, match=r"layer 0 .* see 8 .* window of 7"):
        trace_from_cache(cache, TOKENS, windows=[7, None, 8])
    unsaid = trace_from_cache(cache, TOKENS, windows=[None, None, None])
    assert unsaid.queries[0, 0] == 30


def test_two_texts_and_broken_states_are_refused(planted, cache):
    two = {name: torch.stack([value, value]) for name, value in cache.items()}
    with pytest.raises(CacheError, match="a batch of 2 texts"):
        trace_from_cache(two, planted.tokens)
    name = "blocks.3.hook_resid_post"
    broken = cache | {name: cache[name].clone()}
    broken[name][4, 1] = torch.nan
    with pytest.raises(ModelError, match=r"layer 3 .* position 4"):
        trace_from_cache(broken, planted.tokens)


@exhaustive
@pytest.mark.real
def test_a_cache_of_real_weights_gives_what_a_pass_gives(smollm2, real_tokens):
    ends, fed = (
        (*NEEDED, "hook_rot_q", "hook_rot_k", "attn.hook_k", "attn.hook_v"),
        real_tokens[:128],
    )
    _, cache = smollm2.run_with_cache(fed[None], names_filter=lambda name: name.endswith(ends))
    equal(trace_from_cache(cache, fed, scale=64**-0.5), observe(smollm2, fed))
