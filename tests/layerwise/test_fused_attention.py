"""The fast path of attention equals the slow one by hooks, and hooks are still obeyed."""

import functools

import pytest
import torch
import transformer_lens

from secondary_sinks import Edit, load_model, observe, recompute, replay
from secondary_sinks.causal.direct import log_others
from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise import hooked_attention
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.visibility import visible_to_queries
from secondary_sinks.measures import Denominator
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing.families import configs, save, tiny
from tests.marks import needs_old, thinned
from tests.mechanisms import MECHANISMS
from tests.tolerance import UNIT, rounding, within

pytestmark = needs_old
TOKENS = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=thinned(list(configs()), list(MECHANISMS)))
def model(request, tmp_path_factory):
    folder = save(request.param, tmp_path_factory.mktemp(request.param))
    return load_model(folder, device="cpu", bridge=False, skip=["causality", "chunks"])


def run(model, layer, resid, hooks=(), chunk=16):
    passage = layerwise_forward(model, TOKENS)
    one = passage.layer(layer)
    resid = passage.embedded if resid is None else resid
    return one, one.forward(resid, list(hooks), chunk=chunk, denominators=True)


def look(tensor, hook):
    """A hook that changes nothing, but needs the tensor."""


def seen(one, after):
    """All that a layer gives, by name."""
    found = {name: getattr(one, name) for name in ("received", "queries", "keys", "values")}
    return found | {"after": after, "log_sums": one.log_sums, "others": others(one)}


def others(one):
    """The log denominators without each key in turn; all of them for keys that are not seen."""
    return log_others(one, range(len(one.keys)))


def farthest(one, other):
    """Largest difference between two tensors, or two lists of them; infinities must agree."""
    pairs = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
    return max(float((a - b)[a != b].abs().max()) if (a != b).any() else 0.0 for a, b in pairs)


@functools.cache
def rounded_walks(variant):
    """Rounding of all that the layers of a variant give, by name."""

    def walked(original):
        model, resid, found = load_model(original, device="cpu", skip=CHECKS), None, {}
        for layer in range(model.cfg.n_layers):
            one, resid = run(model, layer, resid)
            for name, value in seen(one, resid).items():
                found.setdefault(name, []).append(value)
        return found

    return rounding(lambda: tiny(variant), walked, farthest)


@pytest.fixture
def rounded(request):
    return rounded_walks(request.node.callspec.params["model"])


def test_fast_and_slow_path_agree(model, rounded):
    resid = None
    for layer in range(model.cfg.n_layers):
        fast = run(model, layer, resid)
        slow = run(model, layer, resid, [(hook_name(layer, "pattern"), look)])
        expected = seen(*slow)
        for name, value in seen(*fast).items():
            within(farthest(value, expected[name]), rounded[name], name)
        resid = fast[1]


def test_denominators_without_a_key_are_those_of_the_definition(model, rounded):
    """Also where a key takes nearly all attention, as it does for queries that are 30 times."""
    for factor in (1, 30):
        one, _ = run(model, 1, None)
        one.queries = one.queries * factor
        scores = one.scores(one.queries, one.keys).float()
        seen = visible_to_queries(torch.arange(len(one.keys)), len(one.keys), one.window)
        scores = scores.masked_fill(~seen, -torch.inf)
        if one.learned_sinks is not None:
            extra = one.learned_sinks.float()[:, None, None].expand(*scores.shape[:2], 1)
            scores = torch.cat([scores, extra], dim=-1)
        whole = Denominator.of(scores)
        one.log_sums = whole.log_sum
        expected = whole.without(scores[..., : len(one.keys)])
        assert (expected < whole.log_sum[..., None] - 1).any() or factor == 1
        torch.testing.assert_close(others(one), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("received", [True, False])
def test_denominators_are_the_same_whatever_else_is_asked_for(model, rounded, received):
    expected, values = run(model, 1, None, [(hook_name(1, "pattern"), look)])
    for chunk in (16, 99):
        passage = layerwise_forward(model, TOKENS)
        one, asked = passage.layer(1), {"denominators": True, "received": received}
        after = one.forward(passage.embedded, [], chunk=chunk, **asked)
        within(farthest(after, values), rounded["after"], "after")
        within(farthest(one.log_sums, expected.log_sums), rounded["log_sums"], "log_sums")
        within(farthest(others(one), others(expected)), rounded["others"], "others")


def test_numbers_may_lie_in_memory_in_any_order(model, rounded):
    """As a hook may leave them; a kernel reads rows."""

    def turn(tensor, hook):
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)

    hooks = [(hook_name(1, point), turn) for point in ("q", "k", "v")]
    expected, values = run(model, 1, None)
    passage = layerwise_forward(model, TOKENS)
    one = passage.layer(1)
    after = one.forward(passage.embedded, hooks, denominators=True, received=False)
    within(farthest(after, values), rounded["after"], "after")
    within(farthest(one.log_sums, expected.log_sums), rounded["log_sums"], "log_sums")


def test_without_received_attention_all_else_is_as_with_it(model, rounded):
    resid = None
    for layer in range(model.cfg.n_layers):
        one, after = run(model, layer, resid)
        for chunk in (16, 99):
            passage = layerwise_forward(model, TOKENS)
            bare, given = passage.layer(layer), passage.embedded if resid is None else resid
            got = bare.forward(given, [], chunk=chunk, received=False)
            within(farthest(got, after), rounded["after"], "after")
            for name in ("queries", "keys", "values"):
                within(farthest(getattr(bare, name), getattr(one, name)), rounded[name], name)
            assert bare.received.isnan().all()
            assert bare.log_sums is None
        resid = after


def test_received_adds_up_to_the_patterns_of_a_plain_pass(model, rounded):
    received_is_that_of_a_plain_pass(model, rounded["received"])


def received_is_that_of_a_plain_pass(model, rounded):
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS[None])
    resid = None
    for layer in range(model.cfg.n_layers):
        one, resid = run(model, layer, resid)
        plain = cache[hook_name(layer, "pattern")][0].sum(1).mean(0)
        within(farthest(one.received, plain), rounded)


PLACES = {
    "few positions": torch.tensor([0, 17, 39]).repeat_interleave(12),
    "one token each": torch.tensor([30, 0, 1, 39, 12]),
}


@pytest.mark.parametrize("positions", PLACES.values(), ids=PLACES)
def test_replayed_tokens_are_those_of_the_slow_path(model, rounded, positions):
    """Tokens of few positions are computed by position, others at once, all with hooks by masks."""
    chance, resid = torch.Generator().manual_seed(5), None
    for layer in range(model.cfg.n_layers):
        one, after = run(model, layer, resid)
        clean = (layerwise_forward(model, TOKENS).embedded if resid is None else resid)[0]
        noise = torch.randn(len(positions), clean.shape[1], generator=chance)
        given = clean[positions] + 0.1 * clean.std() * noise
        fast = one.run_replayed(given, positions, [])
        slow = one.run_replayed(given, positions, [(hook_name(layer, "pattern"), look)])
        for name in ("resid_post", "keys", "self_attention"):
            limit = rounded["after" if name == "resid_post" else "received"]
            got, expected = getattr(fast, name), getattr(slow, name)
            assert got.shape == expected.shape
            within(farthest(got, expected), limit, name)
        resid = after


@pytest.mark.parametrize("at_once", [1, 7, 39])
def test_scores_of_a_chunk_may_be_made_in_parts(model, rounded, at_once, monkeypatch):
    whole = run(model, 1, None, chunk=99)
    monkeypatch.setattr(hooked_attention, "fitting_chunk", lambda n_heads, n_pos: at_once)
    agree(run(model, 1, None, chunk=99), whole, rounded)


def agree(part, whole, rounded):
    """The same is given and received, and denominators are the same in all."""
    (one, after), (other, expected) = part, whole
    within(farthest(after, expected), rounded["after"], "after")
    within(farthest(one.received, other.received), rounded["received"], "received")
    sums = one.log_sums, other.log_sums
    within(farthest(*sums), rounded["log_sums"], "log_sums")


def test_chunks_of_any_size_give_the_same(model, rounded):
    whole = run(model, 1, None, chunk=99)
    for chunk in (1, 7, 39):
        agree(run(model, 1, None, chunk=chunk), whole, rounded)


def test_edits_of_heads_and_patterns_are_obeyed_on_either_path(model, rounded):
    def halve(tensor, hook):
        return tensor * 0.5

    _, clean = run(model, 0, None)
    changed = {}
    for point in ("z", "pattern"):
        _, changed[point] = run(model, 0, None, [(hook_name(0, point), halve)])
        assert not torch.allclose(changed[point], clean)
    # Half of the pattern is half of what the heads give.
    within(farthest(changed["z"], changed["pattern"]), rounded["after"])


def test_the_model_is_left_as_it_was(model):
    before = model(TOKENS[None])
    run(model, 1, None)
    assert torch.equal(model(TOKENS[None]), before)
    assert not {"calculate_z_scores", "apply_causal_mask"} & set(vars(model.blocks[1].attn))


def alibi():
    """A model of random weights whose scores fall with distance."""
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=2,
        d_model=32,
        n_ctx=64,
        d_head=8,
        n_heads=4,
        d_mlp=16,
        d_vocab=97,
        act_fn="gelu",
        positional_embedding_type="alibi",
        seed=0,
        device="cpu",
    )
    return transformer_lens.HookedTransformer(cfg)


def falling(q, k):
    """Scores that fall with distance, whatever the content; queries are the last keys."""
    last, n_keys = q.shape[1], k.shape[1]
    query = torch.arange(n_keys - last, n_keys)[:, None]
    return (query - torch.arange(n_keys)).mul(-0.5).expand(1, q.shape[2], last, n_keys).clone()


def replaced():
    from secondary_sinks.models.convert import to_hooked

    model = to_hooked(tiny("llama"), None, "llama", "cpu")
    for block in model.blocks:
        block.attn.calculate_attention_scores = falling
    return model


@pytest.mark.parametrize("made", [alibi, replaced])
def test_scores_that_are_more_than_products_of_queries_and_keys(made):
    model = made()
    received_is_that_of_a_plain_pass(model, len(TOKENS) * UNIT)
    test_the_model_is_left_as_it_was(model)
    if made is replaced:
        assert model.blocks[1].attn.calculate_attention_scores is falling


@pytest.mark.parametrize("intervene", [replay, recompute])
def test_edits_refuse_a_replaced_method_that_they_would_not_run(intervene):
    model = replaced()
    trace = observe(model, TOKENS)
    with pytest.raises(UnsupportedModelError, match="a method of its attention was replaced"):
        intervene(model, trace, Edit(pos=3, layer=1))
