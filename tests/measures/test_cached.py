"""Measures of a cache: the right activations, one text, and nothing missing without a word."""

import inspect
import pydoc
import re

import pytest
import torch

from secondary_sinks import measures
from secondary_sinks.errors import CacheError, MeasureError
from secondary_sinks.measures import cached
from secondary_sinks.measures.hook_names import n_layers
from secondary_sinks.testing.families import tiny
from tests.marks import needs_old

N_POS, D_MODEL, D_HEAD, D_MLP = 9, 6, 4, 10
SHAPES = {
    "hook_resid_pre": (N_POS, D_MODEL),
    "hook_resid_post": (N_POS, D_MODEL),
    "hook_attn_out": (N_POS, D_MODEL),
    "hook_mlp_out": (N_POS, D_MODEL),
    "mlp.hook_post": (N_POS, D_MLP),
    "attn.hook_q": (N_POS, 4, D_HEAD),
    "attn.hook_k": (N_POS, 2, D_HEAD),
    "attn.hook_v": (N_POS, 2, D_HEAD),
    "attn.hook_rot_q": (N_POS, 4, D_HEAD),
    "attn.hook_rot_k": (N_POS, 2, D_HEAD),
}


@pytest.fixture(scope="module")
def plain():
    """A dict of hook names, without a batch axis, of two layers."""
    generator = torch.Generator().manual_seed(0)
    cache = {
        f"blocks.{layer}.{name}": torch.randn(shape, generator=generator)
        for layer in range(2)
        for name, shape in SHAPES.items()
    }
    for layer in range(2):
        scores = torch.randn(4, N_POS, N_POS, generator=generator)
        scores.masked_fill_(torch.ones(N_POS, N_POS).triu(1).bool(), -torch.inf)
        cache[f"blocks.{layer}.attn.hook_pattern"] = scores.softmax(-1)
    return cache


W_O = torch.randn(4, D_HEAD, D_MODEL, generator=torch.Generator().manual_seed(1))
W_OUT = torch.randn(D_MLP, D_MODEL, generator=torch.Generator().manual_seed(2))
DIRECTION = torch.arange(1.0, 1.0 + D_MODEL)
ON_CACHE = {
    "received_attention": lambda c: cached.received_attention(c, 1),
    "head_mass": lambda c: cached.head_mass(c, 1),
    "paid_attention": lambda c: cached.paid_attention(c, 1, [3, 0]),
    "attention_mass": lambda c: cached.attention_mass(c, 1),
    "mass_excess": lambda c: cached.mass_excess(c, 1),
    "local_mass": lambda c: cached.local_mass(c, 1, reach=2),
    "virtual_mass": lambda c: cached.virtual_mass(c, 1),
    "sink_share": lambda c: cached.sink_share(c, eps=0.2),
    "received_from_qk": lambda c: cached.received_from_qk(c, 1, scale=0.5, window=3),
    "received_from_qk, not rotated": lambda c: cached.received_from_qk(
        c, 1, scale=0.5, rotary=False
    ),
    "mass_from_qk": lambda c: cached.mass_from_qk(c, 1, scale=0.5, soft_cap=2.0),
    "mass_from_qk, not rotated": lambda c: cached.mass_from_qk(c, 1, scale=0.5, rotary=False),
    "mean_score": lambda c: cached.mean_score(c, 1, scale=0.5, window=3),
    "residual_norms": lambda c: cached.residual_norms(c, 1),
    "key_norms": lambda c: cached.key_norms(c, 1),
    "key_norms, not rotated": lambda c: cached.key_norms(c, 1, rotary=False),
    "raw_key_norms": lambda c: cached.raw_key_norms(c, 1),
    "value_norms": lambda c: cached.value_norms(c, 1),
    "value_drain": lambda c: cached.value_drain(c, 1, W_O),
    "is_ordinary": lambda c: cached.is_ordinary(c, 1),
    "norm_ratio": lambda c: cached.norm_ratio(c, 1),
    "deviation_ratio": lambda c: cached.deviation_ratio(c, 1),
    "typical_token": lambda c: cached.typical_token(c, 1),
    "massive_activations": lambda c: cached.massive_activations(c, 1, least=1.0, ratio=2.0),
    "alignment": lambda c: cached.alignment(c, 1, 3),
    "centred_alignment": lambda c: cached.centred_alignment(c, 1, 3),
    "projection": lambda c: cached.projection(c, 1, DIRECTION),
    "matrix_entropy": lambda c: cached.matrix_entropy(c, 1, alpha=2.0),
    "prefix_entropies": lambda c: cached.prefix_entropies(c, 1, [2, N_POS]),
    "layer_contributions": lambda c: cached.layer_contributions(c, DIRECTION).mlp,
    "neuron_contributions": lambda c: cached.neuron_contributions(c, 1, W_OUT, DIRECTION),
}


def expected(cache):
    """The same from the tensors, looked up by full name."""
    layer = {name.removeprefix("blocks.1."): value for name, value in cache.items()}
    pattern, residual = layer["attn.hook_pattern"], layer["hook_resid_post"]
    rotated = layer["attn.hook_rot_q"], layer["attn.hook_rot_k"]
    not_rotated = layer["attn.hook_q"], layer["attn.hook_k"]
    mass, typical = measures.attention_mass(pattern), measures.typical_token(residual)
    both = torch.stack([cache[f"blocks.{at}.attn.hook_pattern"] for at in range(2)])
    mlps = torch.stack([cache[f"blocks.{at}.hook_mlp_out"] for at in range(2)])
    return {
        "received_attention": measures.received_attention(pattern),
        "head_mass": measures.head_mass(pattern),
        "paid_attention": pattern.mean(0)[:, [3, 0]],
        "attention_mass": mass,
        "mass_excess": mass - measures.uniform_mass(N_POS),
        "local_mass": measures.local_mass(mass, reach=2),
        "virtual_mass": measures.virtual_mass(pattern),
        "sink_share": measures.sink_share(torch.stack([measures.head_mass(p) for p in both]), 0.2),
        "received_from_qk": measures.received_from_qk(*rotated, scale=0.5, window=3),
        "received_from_qk, not rotated": measures.received_from_qk(*not_rotated, scale=0.5),
        "mass_from_qk": measures.mass_from_qk(*rotated, scale=0.5, soft_cap=2.0),
        "mass_from_qk, not rotated": measures.mass_from_qk(*not_rotated, scale=0.5),
        "mean_score": measures.mean_score(*rotated, 0.5, 3),
        "residual_norms": residual.norm(dim=-1),
        "key_norms": rotated[1].norm(dim=-1),
        "key_norms, not rotated": not_rotated[1].norm(dim=-1),
        "raw_key_norms": not_rotated[1].norm(dim=-1),
        "value_norms": layer["attn.hook_v"].norm(dim=-1),
        "value_drain": measures.value_drain(layer["attn.hook_v"], W_O),
        "is_ordinary": measures.is_ordinary(residual),
        "norm_ratio": measures.norm_ratio(residual),
        "deviation_ratio": measures.deviation_ratio(residual),
        "typical_token": typical,
        "massive_activations": measures.massive_activations(residual, 1.0, 2.0),
        "alignment": measures.alignment(residual, residual[3]),
        "centred_alignment": measures.centred_alignment(residual, residual[3], typical),
        "projection": measures.projection(residual, DIRECTION),
        "matrix_entropy": measures.matrix_entropy(residual, 2.0),
        "prefix_entropies": measures.prefix_entropies(residual, [2, N_POS]),
        "layer_contributions": mlps @ DIRECTION / DIRECTION.norm(),
        "neuron_contributions": layer["mlp.hook_post"] * (W_OUT @ DIRECTION) / DIRECTION.norm(),
    }


def test_each_measure_reads_its_activations(plain):
    wanted = expected(plain)
    assert wanted.keys() == ON_CACHE.keys()
    for name, measure in ON_CACHE.items():
        torch.testing.assert_close(measure(plain), wanted[name], msg=name)


NO_ACTIVATION = {"Denominator", "LayerContributions", "attention_to_replaced_key", "from_outputs"}
NO_ACTIVATION |= {"seeing_queries", "uniform_mass"}
OF_SEVERAL = {"norms": {"residual_norms", "key_norms", "raw_key_norms", "value_norms"}}


def test_every_measure_of_activations_has_a_twin_for_caches():
    tried = {name.split(",")[0] for name in ON_CACHE}
    for name in set(measures.__all__) - NO_ACTIVATION:
        twins = OF_SEVERAL.get(name, {name})
        assert twins <= tried, name
        assert all(callable(getattr(cached, twin)) for twin in twins)


def test_help_shows_parameters_shapes_and_hook_points():
    """A twin takes the place of the tensors of its measure, and keeps all other parameters."""
    shown = str(inspect.signature(cached.head_mass))
    own, measure = (inspect.signature(one.head_mass) for one in (cached, measures))
    assert list(own.parameters) == ["cache", "layer", *list(measure.parameters)[1:]]
    assert own.return_annotation is measure.return_annotation
    assert "cache" in shown
    assert "offset: int = 0" in shown
    rotary = inspect.signature(cached.mass_from_qk).parameters
    assert list(rotary)[:2] == ["cache", "layer"]
    assert rotary["rotary"].default is True
    text = pydoc.plain(pydoc.render_doc(cached.residual_norms))
    assert "Float[Tensor, 'pos']" in text
    assert "`measures.norms` of `hook_resid_post`" in text
    for name in {one.split(",")[0] for one in ON_CACHE}:
        twin = getattr(cached, name)
        assert (twin.__name__, twin.__module__) == (name, cached.__name__)
        assert ">>>" not in twin.__doc__, "an example on tensors would not run on a cache"


def test_rotary_is_refused_by_measures_that_read_no_queries_or_keys(plain):
    with pytest.raises(TypeError, match="rotary"):
        cached.head_mass(plain, 1, rotary=False)


def test_a_chunk_of_queries_is_measured_as_the_same_rows_of_all(plain):
    """As a model run on from a key-value cache gives it: three queries, all keys."""
    name = "blocks.1.attn.hook_pattern"
    chunk = {name: plain[name][None, :, -3:]}
    masses = measures.head_mass(plain[name][:, -3:], offset=N_POS - 3)
    null = measures.uniform_mass(N_POS, offset=N_POS - 3, n_queries=3)
    given = {"offset": N_POS - 3}
    torch.testing.assert_close(cached.head_mass(chunk, 1, **given), masses)
    torch.testing.assert_close(cached.attention_mass(chunk, 1, **given), masses.mean(0))
    torch.testing.assert_close(cached.mass_excess(chunk, 1, **given), masses.mean(0) - null)
    local = measures.local_mass(masses.mean(0))
    torch.testing.assert_close(cached.local_mass(chunk, 1, **given), local)
    with pytest.raises(MeasureError, match="give offset="):
        cached.attention_mass(chunk, 1)


def test_a_batch_axis_of_one_changes_nothing(plain):
    batched = {name: value[None] for name, value in plain.items()}
    for name, measure in ON_CACHE.items():
        assert torch.equal(measure(batched), measure(plain)), name


@pytest.mark.parametrize("name", ON_CACHE)
def test_two_texts_are_refused(plain, name):
    batched = {key: torch.stack([value, value]) for key, value in plain.items()}
    with pytest.raises(CacheError, match="a batch of 2 texts"):
        ON_CACHE[name](batched)


def without(cache, names):
    return {name: value for name, value in cache.items() if name not in names}


def complaint(measure, cache):
    """What a measure says that it lacks; nothing where it lacks nothing."""
    try:
        measure(cache)
    except CacheError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ON_CACHE)
def test_exactly_the_missing_hook_names_are_said(plain, name):
    """A measure fails without what it reads, says that name alone, and reads nothing else."""
    said = {missing: complaint(ON_CACHE[name], without(plain, [missing])) for missing in plain}
    needs = [missing for missing, message in said.items() if message]
    assert needs
    assert all(f"the cache lacks {missing};" in said[missing] for missing in needs)
    alone = {key: plain[key] for key in needs}
    assert torch.equal(ON_CACHE[name](alone), ON_CACHE[name](plain))
    assert all(one in complaint(ON_CACHE[name], without(plain, needs)) for one in needs)
    if "not rotated" not in name:
        said = set(re.findall(r"`((?:attn\.|mlp\.)?hook_\w+)`", getattr(cached, name).__doc__))
        instead = set() if name == "raw_key_norms" else {"attn.hook_q", "attn.hook_k"}
        assert {one.split(".", 2)[2] for one in needs} == said - instead


def test_a_tensor_of_another_shape_is_refused():
    with pytest.raises(CacheError, match=r"hook_pattern has shape \(3, 3\); expected 3 axes"):
        cached.attention_mass({"blocks.0.attn.hook_pattern": torch.eye(3)}, 0)
    with pytest.raises(CacheError, match="has none"):
        n_layers({"hook_embed": torch.zeros(2, 3)})


TOKENS = torch.randint(3, 97, (30,), generator=torch.Generator().manual_seed(1))
FAMILIES = ["gemma2", "gpt-oss", "gpt2", "llama", "olmo2", "qwen3"]


@pytest.fixture(scope="module", params=["bridge", pytest.param("hooked", marks=needs_old)])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=FAMILIES)
def run(request, kind):
    """A model of TransformerLens, either kind, and the cache of one run."""
    from secondary_sinks import load_model

    model = load_model(tiny(request.param), device="cpu", bridge=kind == "bridge")
    _, cache = model.run_with_cache(TOKENS[None])
    return request.param, model, cache


def test_masses_from_q_and_k_are_those_of_the_models_own_pattern(run):
    name, model, cache = run
    rotary = "blocks.0.attn.hook_rot_k" in set(cache.keys())
    local = {"gemma2": [8, None, 8], "gpt-oss": [8, None, 8]}.get(name, [None] * 3)
    for layer in range(3):
        attention = model.blocks[layer].attn
        scale = 24**-0.5 if name == "gemma2" else attention.W_Q.shape[-1] ** -0.5
        got = cached.mass_from_qk(
            cache,
            layer,
            scale=scale,
            rotary=rotary,
            window=local[layer],
            soft_cap=50.0 if name == "gemma2" else None,
            learned_sinks=attention.sinks.detach() if name == "gpt-oss" else None,
        )
        mass = cached.head_mass(cache, layer, local[layer])
        torch.testing.assert_close(got, mass, rtol=1e-4, atol=1e-6)


def test_contributions_add_up_to_the_models_own_residual(run):
    name, _, cache = run
    direction = cache["blocks.2.hook_resid_post"][0, 0]
    parts = cached.layer_contributions(cache, direction)
    residual = torch.stack([cache[f"blocks.{layer}.hook_resid_post"][0] for layer in range(3)])
    expected = measures.projection(residual, direction)
    torch.testing.assert_close(parts.resid_post, expected, rtol=1e-5, atol=1e-4, msg=name)


def test_neurons_add_up_to_what_the_models_own_mlp_writes(run):
    name, model, cache = run
    if name in ("gemma2", "olmo2", "gpt-oss"):
        pytest.skip("a norm after the MLP, or experts")
    mlp, direction = model.blocks[1].mlp, cache["blocks.1.hook_resid_post"][0, 4]
    parts = cached.neuron_contributions(cache, 1, mlp.W_out.detach(), direction)
    bias = 0.0 if mlp.b_out is None else measures.projection(mlp.b_out.detach(), direction)
    expected = measures.projection(cache["blocks.1.hook_mlp_out"][0], direction)
    torch.testing.assert_close(parts.sum(-1) + bias, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pos", [-1, N_POS, True, 1.5])
@pytest.mark.parametrize("measure", [cached.alignment, cached.centred_alignment])
def test_a_position_outside_of_the_text_is_refused(plain, measure, pos):
    """-1 was the last token, and True the second."""
    with pytest.raises(MeasureError, match=f"pos is {pos}; expected a"):
        inspect.unwrap(measure)(plain, 0, pos)


@pytest.mark.parametrize(
    "given", [{"windows": []}, {"windows": [None] * 9}, {"layers": []}, {"layers": [0, 0]}]
)
def test_windows_are_as_many_as_layers_and_each_layer_counts_once(plain, given):
    with pytest.raises(
        MeasureError, match=r"expected one per layer|expected at least one, and each"
    ):
        cached.sink_share(plain, **given)


def test_a_direction_of_another_width_is_refused_and_not_repeated():
    with pytest.raises(MeasureError, match="axis d is 1, but that of vectors is 4"):
        inspect.unwrap(measures.alignment)(torch.ones(8, 4), torch.ones(1))
