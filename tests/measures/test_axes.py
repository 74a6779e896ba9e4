"""Tensors that do not fit, and numbers out of range, are refused by name and never repeated."""

import inspect

import pytest
import torch

from secondary_sinks import measures
from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import cached
from secondary_sinks.measures.axes import expect_fit

UNCHECKED = {name: inspect.unwrap(getattr(measures, name)) for name in measures.__all__}
FOUR = torch.arange(20.0).reshape(5, 4)
HEADS, KEYS = torch.ones(4, 2, 3), torch.ones(4, 1, 3)
CAUSAL = torch.ones(2, 6, 6).tril() / torch.arange(1.0, 7)[:, None]


def measure(name, *given, **options):
    """A measure without the checks of annotations, which tests add and users do not have."""
    return UNCHECKED[name](*given, **options)


UNFIT = {
    "a direction of width 1": (("projection", FOUR, torch.ones(1)), "axis d is 1.*vectors is 4"),
    "several directions": (("projection", FOUR, torch.ones(2, 1, 4)), r"axis shape is \[2, 1\]"),
    "neurons": (
        ("neuron_contributions", torch.ones(5, 1), torch.ones(8, 4), torch.ones(4)),
        "got w_out of shape .*axis d_mlp is 8.*post is 1",
    ),
    "w_out and direction": (
        ("neuron_contributions", torch.ones(5, 8), torch.ones(8, 4), torch.ones(1)),
        "got direction .*axis d_model is 1.*w_out is 4",
    ),
    "layers": (
        ("layer_contributions", FOUR, torch.ones(1, 5, 4), torch.ones(3, 5, 4), torch.ones(4)),
        "axis layer is 3.*attn_out is 1",
    ),
    "positions of the embedding": (
        ("layer_contributions", FOUR[:1], torch.ones(3, 5, 4), torch.ones(3, 5, 4), torch.ones(4)),
        r"axis pos is \[1\].*attn_out is \[5\]",
    ),
    "typical": (("centred_alignment", FOUR, FOUR[0], torch.ones(1)), "got typical of shape"),
    "a null of one key": (("mass_excess", torch.rand(3), torch.rand(1)), "axis key is 1"),
    "keys as layers": (("mass_excess", torch.rand(4, 1), torch.rand(4)), "axis key is 4"),
    "one key for all": (("mean_score", HEADS, KEYS[:1], 1.0), "axis pos is 1.*queries is 4"),
    "keys of width 1": (("mean_score", HEADS, KEYS[..., :1], 1.0), "axis d_head is 1"),
    "no groups": (("mean_score", HEADS, torch.ones(4, 3, 3), 1.0), "2 heads on 3 keys"),
    "values of width 1": (
        ("value_drain", KEYS[..., :1], torch.ones(2, 3, 5)),
        "got w_o .*axis d_head is 3.*values is 1",
    ),
    "a matrix": (("received_attention", torch.eye(3)), r"axes \[\*batch head query key\]"),
    "one head": (("sink_share", torch.ones(6)), r"axes \[\*layer head key\]"),
    "a list": (("norms", [[1.0, 2.0]]), "vectors is a list; expected a tensor"),
    "complex norms": (("norms", FOUR * 1j), "complex64; expected real numbers"),
    "complex residuals": (("typical_token", FOUR * 1j), "complex64; expected real numbers"),
    "complex vectors": (("matrix_entropy", FOUR * 1j), "complex64; expected real numbers"),
    "a nested list": (("attention_mass", CAUSAL.tolist()), "is a list; expected a tensor"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_tensors_that_do_not_fit_are_refused(name):
    """Torch repeats an axis of size 1, and a number came back."""
    call, match = UNFIT[name]
    with pytest.raises(MeasureError, match=match):
        measure(*call)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"offset": -1}, "offset is -1"),
        ({"window": 0}, "window is 0; expected a whole number of at least 1"),
        ({"window": 1.5}, "window is 1.5"),
        ({"scale": True}, "scale is True"),
        ({"soft_cap": float("nan")}, "soft_cap is nan; expected a finite number above 0"),
        ({"soft_cap": True}, "soft_cap is True"),
        ({"keys": KEYS[..., :1]}, "axis d_head is 1.*queries is 3"),
        ({"learned_sinks": torch.ones(1)}, "axis head is 1.*queries is 2"),
    ],
)
def test_scores_of_other_numbers_are_refused(options, match):
    with pytest.raises(MeasureError, match=match):
        measure("received_from_qk", HEADS, **({"keys": KEYS, "scale": 1.0} | options))


@pytest.mark.parametrize(
    ("call", "options", "match"),
    [
        (("head_mass", CAUSAL), {"offset": 1}, "6 keys for 6 queries from position 1 on"),
        (("uniform_mass", 3), {"n_queries": 2.5}, "n_queries is 2.5"),
        (("uniform_mass", 3), {"n_queries": True}, "n_queries is True"),
        (("uniform_mass", True), {}, "n_pos is True"),
        (("uniform_mass", 10**12), {}, "at most 134217728 positions"),
        (("seeing_queries", 4), {"n_queries": 10**12}, "at most 134217728 positions"),
        (("massive_activations", FOUR), {"least": float("nan")}, "least is nan"),
        (("massive_activations", FOUR), {"ratio": -1.0}, "ratio is -1.0"),
        (("mean_score", HEADS, KEYS, float("nan")), {}, "scale is nan"),
        (("prefix_entropies", FOUR, [2.5]), {}, "a length is 2.5"),
    ],
)
def test_numbers_that_no_text_has_are_refused(call, options, match):
    with pytest.raises(MeasureError, match=match):
        measure(*call, **options)


@pytest.mark.parametrize("layer", ["0", True, -1, 0.0])
def test_a_layer_is_a_whole_number(layer):
    """A word was a sequence of layers."""
    cache = {"blocks.0.attn.hook_pattern": CAUSAL, "blocks.1.attn.hook_pattern": CAUSAL}
    with pytest.raises(MeasureError, match=r"a layer is .*; expected a whole number"):
        inspect.unwrap(cached.sink_share)(cache, [layer, 1])
    with pytest.raises(MeasureError, match="a layer is -1"):
        cached.head_mass(cache, -1)
    with pytest.raises(MeasureError, match="a layer is '0'"):
        inspect.unwrap(cached.sink_share)(cache, "01")


def test_sizes_that_fit_are_accepted():
    vectors = torch.ones(2, 5, 4)
    for direction in (torch.ones(4), torch.ones(5, 4), torch.ones(2, 1, 4)):
        expect_fit(vectors=(vectors, "*shape d"), direction=(direction, "*#shape d"))
    expect_fit(mass=(torch.ones(2, 5), "*layer key"), null=(torch.ones(5), "*#layer key"))


def test_a_local_mass_reaches_no_further_than_the_text():
    mass = torch.rand(60)
    for reach in (59, 60, 3 * 10**7):
        assert measure("local_mass", mass, reach).tolist() == [float(mass.sort().values[29])] * 60


def test_the_entropy_of_missing_coordinates_is_missing():
    """It was an error of linear algebra; lengths before the missing one are known."""
    vectors = torch.eye(6)
    vectors[4, 0] = torch.nan
    found = measure("prefix_entropies", vectors, [2, 4, 5, 6])
    assert found.exp()[:2].tolist() == pytest.approx([2.0, 4.0])
    assert found[2:].isnan().all()
