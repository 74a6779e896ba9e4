"""Edits of the attention of a query to a key: what is refused, and how sweeps say it."""

import pytest
import torch

from secondary_sinks import Edit, detect, observe, recompute, replay
from secondary_sinks.causal import reference_means
from secondary_sinks.causal.controls import owners_of
from secondary_sinks.causal.metric import sweep_metric
from secondary_sinks.causal.recipes import check_recipe, edit_at
from secondary_sinks.errors import EditError
from secondary_sinks.testing import Plant, plant
from secondary_sinks.types.edit_sites import RESIDUAL, SITE_OF

WHERE = {"layer": 4, "site": "attn_scores", "kind": "knockout"}
READER = 4


@pytest.fixture(scope="module")
def planted():
    made = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    return made.model, observe(made.model, made.tokens)


def test_without_its_later_queries_a_sink_keeps_its_attention_to_itself_only(planted):
    model, trace = planted
    later = tuple(range(21, len(trace.tokens)))
    cut = Edit(pos=later, key=20, **WHERE)
    total = recompute(model, trace, [cut])
    assert total.watch == (0, 20)  # the key and the primary, not every query
    with torch.no_grad():
        _, cache = model.run_with_cache(trace.tokens[None])
    itself = float(cache[f"blocks.{READER}.attn.hook_pattern"][0, :, 20, 20].mean())
    mass = float(total.mass[READER, 0, total.column(20)])
    assert mass == pytest.approx(itself / float(trace.queries[READER, 20]), rel=1e-5)
    assert mass < 0.1 * float(trace.mass[READER, 20])


@pytest.mark.parametrize("run", [replay, recompute])
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"pos": 20, "key": 20}, "the query at position 20 does not come after the key at 20"),
        ({"pos": 3, "key": 20}, "query at position 3 does not come after the key at 20"),
        ({"pos": 20, "key": -1}, "key -1 is out of range; expected 0 to"),
        ({"pos": 20, "key": 4, "units": (64,)}, "head 64 is out of range"),
    ],
)
def test_an_impossible_edge_is_refused(planted, run, where, words):
    with pytest.raises(EditError, match=words):
        run(*planted, [Edit(**where, **WHERE)])


def test_units_of_keys_are_kv_heads():
    grouped = plant([Plant(pos=0, forming=(1,))], n_kv_heads=2)
    trace = observe(grouped.model, grouped.tokens)
    replay(grouped.model, trace, [Edit(pos=9, layer=1, site="q", units=(2,))])
    for site in ("k", "v"):
        with pytest.raises(EditError, match="KV head 2 is out of range; expected 0 to 1"):
            replay(grouped.model, trace, [Edit(pos=9, layer=1, site=site, units=(2,))])


@pytest.mark.parametrize("site", RESIDUAL)
def test_units_of_the_residual_are_its_coordinates(planted, site):
    model, trace = planted
    last, layer = model.cfg.d_model - 1, 0 if SITE_OF[site].first else 1
    replay(model, trace, [Edit(pos=9, layer=layer, site=site, units=(last, 0))])
    with pytest.raises(EditError, match=f"coordinate {last + 1} is out of range; expected 0 to"):
        replay(model, trace, [Edit(pos=9, layer=layer, site=site, units=(last + 1,))])
    with pytest.raises(EditError, match="names a coordinate twice"):
        recompute(model, trace, [Edit(pos=9, layer=layer, site=site, units=(3, 3))])


def test_there_is_no_mean_of_attention(planted):
    model, trace = planted
    with pytest.raises(EditError, match="no mean is taken at site 'pattern'; expected some of mlp"):
        reference_means(model, [trace], ["pattern"])


def test_a_sweep_cuts_one_edge_at_each_token_after_the_key(planted):
    _, trace = planted
    check_recipe("knockout:3", "attn_scores")
    with pytest.raises(EditError, match="there, or 'knockout' at attn_scores"):
        check_recipe("knockout:3")
    with pytest.raises(EditError, match="names no position"):
        check_recipe("knockout:-3", "attn_scores")
    sinks = detect(trace)
    where = {"layer": 4, "site": "attn_scores"}
    owners = owners_of(trace, sinks, 0)
    assert edit_at("knockout:3", trace, sinks, owners, pos=20, **where).key == 3
    found = edit_at("knockout:20", trace, sinks, owners, pos=20, **where)
    assert found == "the key does not come before the token"


def test_a_control_before_the_key_is_not_a_control(planted):
    model, trace = planted
    cells = [Edit(pos=20, key=key, **WHERE) for key in (1, 19)]
    found = sweep_metric(model, trace, cells, lambda logits: logits[0, -1, 0], sinks=detect(trace))
    assert found.control_pos == (19, None)
