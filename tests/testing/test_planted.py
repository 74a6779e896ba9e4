"""Planted models do what was asked, and nothing else, whatever detection makes of it."""

import inspect
import math
import random

import pytest
import torch

from secondary_sinks import observe
from secondary_sinks.errors import PlantError
from secondary_sinks.testing.plant_checks import check_plants
from secondary_sinks.testing.plant_layout import MARK
from secondary_sinks.testing.plant_spec import Plant, Writer
from secondary_sinks.testing.planted import plant
from tests.marks import needs_old
from tools.plant_scores import CONDITIONS, random_plants

pytestmark = needs_old

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
COPIED = Plant(pos=20, forming=(3,), by="attention")


def residuals(planted, hooks=()):
    """`[layer, pos, d_model]` of a plain pass, minus what all tokens share along the direction."""
    with torch.no_grad(), planted.model.hooks(fwd_hooks=list(hooks)):
        _, cache = planted.model.run_with_cache(planted.tokens[None])
    layers = range(planted.model.cfg.n_layers)
    return torch.stack([cache[f"blocks.{layer}.hook_resid_post"][0] for layer in layers])


def along(planted, hooks=()):
    """Component along the sink direction by layer and position, above that of other tokens."""
    values = residuals(planted, hooks) @ planted.direction
    return values - values.median(1, keepdim=True).values


def zero(point, pos):
    def hook(tensor, hook):
        tensor = tensor.clone()
        tensor[:, pos] = 0
        return tensor

    return [(point, hook)]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_plant_has_its_strength_at_every_layer(condition):
    planted = random_plants(condition, random.Random(condition))
    got, plants = along(planted), planted.plants
    for pos in {one.pos for one in plants}:
        own = [one for one in plants if one.pos == pos and not one.sideways]
        layers = range(planted.model.cfg.n_layers)
        expected = torch.tensor([sum((one.along(la) for one in own), 0.0) for la in layers])
        # The common direction of anisotropic models carries content too.
        torch.testing.assert_close(got[:, pos], expected, rtol=1e-3, atol=9.0)
    others = [pos for pos in range(len(planted.tokens)) if pos not in {p.pos for p in plants}]
    assert float(got[:, others].abs().max()) < 9


def test_without_anisotropy_strengths_are_exact_and_others_have_none():
    plants = [PRIMARY, COPIED, Plant(pos=30, forming=(2, 4), dies=6, strength=80.0)]
    got = along(plant(plants, content_queries=True))
    for one in plants:
        expected = torch.tensor([one.along(layer) for layer in range(8)])
        torch.testing.assert_close(got[:, one.pos], expected, rtol=1e-5, atol=1e-4)
    got[:, [0, 20, 30]] = 0
    assert float(got.abs().max()) < 1e-6


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("layer", [2, 4])
def test_an_ablated_mlp_takes_its_own_part_and_leaves_the_others(layer, gated):
    one = Plant(pos=30, forming=(2, 4), strength=80.0)
    planted = plant([PRIMARY, one], gated=gated)
    got = along(planted, zero(f"blocks.{layer}.hook_mlp_out", 30))[:, 30]
    expected = torch.tensor([one.along(la) - 40 * (la >= layer) for la in range(8)])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n_kv_heads", [None, 2])
def test_what_attention_forms_needs_attention_and_no_mlp(n_kv_heads):
    planted = plant([PRIMARY, COPIED], n_kv_heads=n_kv_heads, content_queries=True)
    got = along(planted, zero("blocks.3.hook_attn_out", 20))[:, 20]
    torch.testing.assert_close(got, torch.zeros(8), rtol=0, atol=1e-4)
    for layer in range(8):
        left = along(planted, zero(f"blocks.{layer}.hook_mlp_out", 20))[:, 20]
        expected = torch.tensor([COPIED.along(la) for la in range(8)])
        torch.testing.assert_close(left, expected, rtol=1e-4, atol=1e-3)


def test_it_is_copied_by_the_last_head_from_its_giver():
    planted = plant([PRIMARY, COPIED])
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    pattern = cache["blocks.3.attn.hook_pattern"][0]
    assert float(pattern[3, 20, 19]) > 0.999
    others = [pos for pos in range(19, 64) if pos != 20]
    assert float(pattern[3, others, 19].max()) < 1e-6
    assert float(pattern[:3, 20, 19].max()) < 0.1


@pytest.mark.parametrize("n_kv_heads", [None, 2])
@pytest.mark.parametrize("gated", [False, True])
def test_a_trigger_is_read_by_the_last_head_and_makes_the_mlp_write(gated, n_kv_heads):
    one = Plant(pos=30, forming=(5,), trigger=(3,), source=12)
    planted = plant([PRIMARY, one], gated=gated, n_kv_heads=n_kv_heads, content_queries=True)
    expected = torch.tensor([one.along(layer) for layer in range(8)])
    # Other tokens read a little of it too: 3e-4 of what this one reads.
    torch.testing.assert_close(along(planted)[:, 30], expected, rtol=0, atol=0.1)
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    paid = cache["blocks.3.attn.hook_pattern"][0, 3, 30]
    assert paid.argsort(descending=True)[:2].tolist() == [0, 12]

    def cut(scores, hook):
        scores[0, 3, 30, 12] = -torch.inf

    without = along(planted, [("blocks.3.attn.hook_attn_scores", cut)])[:, 30]
    torch.testing.assert_close(without, torch.zeros(8), rtol=0, atol=0.1)
    (sink,) = planted.expected_sinks()[1:]
    assert [(read.layer, read.head, read.source) for read in sink.triggered_by] == [(3, 3, 12)]
    assert [writer.layer for writer in sink.needed] == [5]


@pytest.mark.parametrize("layer", [2, 4])
def test_both_links_of_a_chain_are_needed(layer):
    planted = plant([PRIMARY, Plant(pos=30, forming=(2, 4), chain=True)])
    assert along(planted)[:, 30].tolist() == pytest.approx([0, 0, 0, 0, 60, 60, 60, 60], abs=1e-3)
    got = along(planted, zero(f"blocks.{layer}.hook_mlp_out", 30))[:, 30]
    torch.testing.assert_close(got, torch.zeros(8), rtol=0, atol=1e-4)
    (sink,) = planted.expected_sinks()[1:]
    assert [writer.layer for writer in sink.needed] == [2, 4]


def test_each_decoy_has_the_signs_of_a_sink_but_one():
    decoys = {
        "unattended": Plant(pos=20, forming=(3,), attended=False),
        "sideways": Plant(pos=24, forming=(3,), sideways=True, attended=True),
        "opposite": Plant(pos=28, forming=(3,), strength=-60.0, attended=True),
        "small": Plant(pos=32, forming=(3,), strength=12.0, content=0.02),
        "plain": Plant(pos=36, attended=True),
    }
    planted = plant([PRIMARY, *decoys.values()])
    trace = observe(planted.model, planted.tokens)
    signs = {}
    for name, one in decoys.items():
        aligned = float(trace.alignment_centred[5, one.pos])
        outlying = bool(trace.deviation_ratio[5, one.pos] >= 3)
        attended = bool(trace.mass[6, one.pos] >= 2 * trace.mass_expected[6, one.pos])
        signs[name] = (round(aligned), outlying, attended)
    assert signs == {
        "unattended": (1, True, False),
        "sideways": (0, True, True),
        "opposite": (-1, True, True),
        "small": (1, False, True),
        "plain": (0, False, True),
    }


def test_at_thirty_nearly_all_tokens_point_to_the_primary_and_centring_undoes_it():
    trace = observe(*_model_and_tokens(plant([PRIMARY], anisotropy=30.0)))
    ordinary = trace.alignment[5, 1:]
    assert float((ordinary > 0.9).float().mean()) > 0.9
    assert float(trace.alignment_centred[5, 1:].abs().max()) < 0.5


def _model_and_tokens(planted):
    return planted.model, planted.tokens


def test_a_twin_has_the_id_of_a_plant_and_no_mark():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    same = (planted.tokens == planted.tokens[20]).nonzero()[:, 0].tolist()
    assert len(same) == 2
    embedded = planted.model(planted.tokens[None], stop_at_layer=0)[0]
    marks = embedded[same][:, [4]]
    assert sorted(marks[:, 0].tolist()) == [0.0, MARK]
    assert not plant([PRIMARY], twins=False).tokens[1:].eq(0).any()


def test_as_many_twins_as_asked_for():
    tokens = plant([PRIMARY, Plant(pos=20, forming=(3,))], twins=3).tokens
    assert int((tokens == tokens[20]).sum()) == 4


@pytest.mark.parametrize("pos", [20, "twin"])
def test_a_carried_identity_is_needed_and_is_the_same_at_a_twin(pos):
    planted = plant([PRIMARY, Plant(pos=20, forming=(4,), identity=2)])
    same = planted.tokens == planted.tokens[20]
    (twin,) = [one for one in same.nonzero()[:, 0].tolist() if one != 20]
    output = {}
    point = "blocks.2.hook_mlp_out"
    along(planted, [(point, lambda tensor, hook: output.update(whole=tensor[0].clone()))])
    content = planted.model.cfg.d_model - 1 - 48  # what else the MLP writes is content
    carried = output["whole"][:, :content]
    torch.testing.assert_close(carried[20], carried[twin])
    assert bool((carried[~same] == 0).all())
    got = along(planted, zero(point, 20 if pos == 20 else twin))
    assert float(got[-1, 20]) == pytest.approx(0 if pos == 20 else 60, abs=1e-3)


def test_a_carried_identity_needs_learned_positions_and_plain_mlps():
    carried = Plant(pos=20, forming=(4,), identity=2)
    for options in ({"gated": True}, {"positions": "rotary"}):
        with pytest.raises(PlantError, match="learned positions"):
            plant([PRIMARY, carried], **options)


def test_rotary_positions_have_no_twins_and_rotate_content():
    planted = plant([PRIMARY], positions="rotary", content_queries=True)
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    assert (planted.tokens == planted.tokens[0]).sum() == 1
    plain, turned = (cache[f"blocks.2.attn.hook_{name}"] for name in ("k", "rot_k"))
    assert not torch.allclose(plain[..., :4], turned[..., :4], atol=1e-2)
    assert torch.equal(plain[..., 4:], turned[..., 4:])


def test_content_queries_make_patterns_depend_on_the_query():
    for asked in (False, True):
        planted = plant([PRIMARY], content_queries=asked)
        _, cache = planted.model.run_with_cache(planted.tokens[None])
        queries = cache["blocks.2.attn.hook_q"][0]
        assert torch.allclose(queries[1], queries[2], atol=1e-6) is not asked


def test_the_truth_by_hand():
    plants = [
        replace_dies(PRIMARY, 6),
        Plant(pos=10, forming=(2, 3), strength=24.0),
        Plant(pos=20, forming=(0,), dies=5),
        Plant(pos=30, forming=(3, 4), strength=100.0),
        Plant(pos=40, forming=(2,), by="attention", dies=4),
        Plant(pos=60, forming=(2,)),
        Plant(pos=44, forming=(7,)),
        Plant(pos=48, forming=(2,), strength=10.0),
    ]
    got = {
        sink.pos: (sink.kind, sink.layers, sink.censored) for sink in plant(plants).expected_sinks()
    }
    assert got == {
        0: ("primary", (1, 2, 3, 4, 5), "none"),
        10: ("secondary", (3, 4, 5), "right"),
        20: ("primary_like", (1, 2, 3, 4), "left"),
        30: ("secondary", (3, 4, 5), "right"),
        40: ("transient", (2, 3), "none"),
    }
    copied = plant(plants).expected_sinks()[-1]
    assert copied.formed_by == copied.needed == (Writer(site="attn_out", layer=2, index=3),)
    assert copied.removed_by == (Writer(site="mlp_out", layer=4, index=4),)
    twice = plant(plants).expected_sinks()[3]
    assert (len(twice.formed_by), twice.needed) == (2, ())
    assert (twice.l_start, twice.lifetime) == (3, 3)


def replace_dies(one, dies):
    return Plant(pos=one.pos, forming=one.forming, strength=one.strength, dies=dies)


@pytest.mark.parametrize(
    ("one", "match"),
    [
        (Plant(pos=64, forming=(2,)), "position 64"),
        (Plant(pos=9, forming=(8,)), "layer 8"),
        (Plant(pos=9, forming=(2,), dies=-1), "layer -1"),
        (Plant(pos=9, forming=(3,), dies=3), "after all forming"),
        (Plant(pos=9, dies=3), "after all forming"),
        (Plant(pos=9, forming=(2,), strength=18.0), "strength 18"),
        (Plant(pos=9, forming=(2, 3), strength=40.0), "strength 20"),
        (Plant(pos=9, forming=(2,), strength=200.0), "strength 200"),
        (Plant(pos=9, forming=(2,), chain=True), "chain"),
        (Plant(pos=9, forming=(2, 3), by="attention"), "attention"),
        (Plant(pos=9, forming=(2,), by="attention", source=9), "earlier source"),
        (Plant(pos=9, forming=(2,), by="attention", source=0), "ordinary"),
        (Plant(pos=9, forming=(2,), by="magic"), "magic"),
        (Plant(pos=9, forming=(2,), identity=2), "identity"),
        (Plant(pos=9, identity=2), "identity"),
        (Plant(pos=9, forming=(2,), identity=1, by="attention"), "identity"),
        (Plant(pos=9, forming=(3,), trigger=(3,)), "trigger in layers before"),
        (Plant(pos=9, forming=(3,), trigger=(2,), source=9), "with an earlier source"),
        (Plant(pos=9, forming=(3,), trigger=(2,), attended=True), "without chain"),
        (Plant(pos=9, forming=(3,), trigger=(1, 2), strength=40.0), "strength 20"),
        (Plant(pos=0, forming=(2,), sideways=True), "all sideways, or none"),
    ],
)
def test_plants_that_cannot_be_or_have_no_clear_truth_are_refused(one, match):
    with pytest.raises(PlantError, match=match):
        plant([PRIMARY, one])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"strength": math.nan}, "strength is nan"),
        ({"strength": True}, "strength is True"),
        ({"content": math.inf}, "content is inf"),
        ({"pos": 9.0}, "pos is 9.0"),
        ({"pos": True}, "pos is True"),
        ({"forming": (1, 1)}, r"forming is \(1, 1\); expected each number once"),
        ({"forming": (True,)}, "a number in forming is True"),
        ({"forming": 3}, "forming is 3; expected a tuple"),
        ({"read_by": (0, 0)}, "read_by is"),
        ({"dies": 5.5}, "dies is 5.5"),
        ({"chain": "no"}, "chain is 'no'; expected True or False"),
        ({"attended": 1}, "attended is 1; expected True or False"),
    ],
)
def test_values_that_no_plant_has_are_refused(values, match):
    one = inspect.unwrap(Plant)(**({"pos": 9, "forming": (2,)} | values))
    with pytest.raises(PlantError, match=match):
        check_plants([PRIMARY, one], n_layers=8, n_pos=64, n_heads=4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"twins": -1}, "twins is -1"),
        ({"anisotropy": math.nan}, "anisotropy is nan"),
        ({"anisotropy": -1.0}, "anisotropy is -1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 32}, "below 2\\^32"),
        ({"n_kv_heads": 3}, "n_kv_heads is 3; expected a divisor of 4 heads"),
        ({"n_kv_heads": 0}, "n_kv_heads is 0"),
        ({"n_pos": True}, "n_pos is True"),
        ({"n_pos": 10**9}, "8 layers of 1000000000 positions need .* free memory"),
        ({"n_layers": 10**5}, "n_layers is 100000; expected at most 1000"),
        ({"gated": "no"}, "gated is 'no'; expected True or False"),
    ],
)
def test_options_that_no_planted_model_has_are_refused_before_work_starts(options, match):
    with pytest.raises(PlantError, match=match):
        inspect.unwrap(plant)([PRIMARY], **options)


def test_a_trigger_allows_one_source_only():
    """Heads find a source by a mark that all sources share."""
    plants = [Plant(pos=p, forming=(4,), trigger=(la,)) for p, la in ((20, 2), (30, 3))]
    with pytest.raises(PlantError, match="one source for all plants"):
        plant([PRIMARY, *plants])


def test_sinks_without_a_primary_have_no_truth():
    with pytest.raises(PlantError, match="as the primary"):
        plant([Plant(pos=9, forming=(2,))]).expected_sinks()
    with pytest.raises(PlantError, match="at no layer with a primary"):
        plant([replace_dies(PRIMARY, 3), Plant(pos=9, forming=(4,))]).expected_sinks()
    with pytest.raises(PlantError, match="'sideways'"):
        plant([], positions="sideways")
    assert plant([]).expected_sinks() == ()
