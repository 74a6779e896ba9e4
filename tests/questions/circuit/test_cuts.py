"""Cuts of attention by rule: the same as edits of each query, and as plain hooked passes."""

import pytest
import torch

from secondary_sinks import Edit, load_model, observe, recompute
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.submodules import heads_of
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.observation import iter_layers
from secondary_sinks.questions.circuit import Cut, run_cuts
from secondary_sinks.questions.circuit import cuts as module
from secondary_sinks.questions.circuit.cuts import hidden
from secondary_sinks.questions.circuit.delivered import given_by_keys
from secondary_sinks.questions.circuit.heads import LaterAttention, even_share, later_mass
from secondary_sinks.testing.families import save
from tests.marks import thinned
from tests.mechanisms import CASES

TOKENS = torch.randint(3, 90, (40,), generator=torch.Generator().manual_seed(2))
KEPT = [("qwen2", "HookedTransformer"), ("gpt-oss", "TransformerBridge")]
KEY, LAYERS = 7, (0, 2)


@pytest.fixture(scope="module", params=thinned(CASES, KEPT), ids="-".join)
def case(request, tmp_path_factory):
    variant, kind = request.param
    folder = save(variant, tmp_path_factory.mktemp(variant))
    model = load_model(folder, device="cpu", bridge=kind == "TransformerBridge", skip=CHECKS)
    return model, observe(model, TOKENS)


def near(got, expected, name):
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=2e-5, msg=lambda m: f"{name}: {m}")


def test_a_cut_of_one_key_is_an_edit_of_each_later_query(case):
    model, trace = case
    later = tuple(range(KEY + 1, len(TOKENS)))
    where = {"pos": later, "layer": LAYERS, "key": KEY}
    edits = [
        Edit(**where, kind="knockout", site="attn_scores"),
        Edit(**where, kind="reweight", site="pattern", value=0.0),
    ]
    expected = recompute(model, trace, edits)
    cuts = [
        Cut(keys=(KEY,), layers=LAYERS, taken=taken, first=KEY + 1)
        for taken in ("attention", "value")
    ]
    found = run_cuts(model, trace, cuts)
    near(found.clean[:-1], expected.loss_clean[:-1], "clean loss")
    near(found.loss[:, :-1], expected.loss[:, :-1], "loss")
    near(found.kl[:, :-1], expected.kl[:, :-1], "KL")
    assert (found.kl[0, KEY + 1 : -1] > 1e-5).any()
    assert torch.isnan(found.loss[:, -1]).all()


def test_attention_by_head_and_what_keys_deliver_are_those_of_a_plain_pass(case):
    """For windows, learned sinks and grouped heads too."""
    model, trace = case
    layer, n_pos, seen = 1, len(trace), LaterAttention(len(TOKENS), [KEY, 20])
    given = given_by_keys(model, trace, {KEY: (layer,)})[KEY]
    hooks = [[], [seen.hook(layer)], []]
    window = [view.window for view in iter_layers(model, trace.tokens, hooks=hooks.__getitem__)][1]
    names = [hook_name(layer, "pattern"), hook_name(layer, "v")]
    with torch.no_grad():
        _, cache = model.run_with_cache(trace.tokens[None], names_filter=lambda n: n in names)
    pattern, values = cache[names[0]][0], cache[names[1]].view(n_pos, -1, model.cfg.d_head)
    pattern = pattern - torch.diag_embed(pattern.diagonal(dim1=1, dim2=2))
    near(seen.received, pattern.sum(1), "attention received")
    near(seen.paid, pattern[:, :, [KEY, 20]], "attention paid")
    mass = later_mass(seen.received, window)[:, KEY]
    last = n_pos if window is None else min(n_pos, KEY + window)
    near(mass, pattern[:, KEY + 1 : last, KEY].mean(1), "mean attention")
    near(given.attention.float(), pattern[:, KEY + 1 :].mean(1).mean(0), "attention to keys")
    weights = heads_of(model, layer).weights
    values = values.repeat_interleave(len(weights) // values.shape[1], dim=1)
    lengths = torch.einsum("khd,hdm->hkm", values, weights).norm(dim=-1)
    written = (pattern[:, KEY + 1 :].mean(1) * lengths).mean(0)
    near(given.written.float(), written, "what keys deliver")


def test_even_shares_are_those_of_queries_that_attend_evenly():
    for window in (None, 5):
        seen = torch.ones(12, 12).tril().bool()
        seen &= torch.arange(12)[:, None] - torch.arange(12) < (window or 12)
        even = seen / seen.sum(1, keepdim=True)
        later = even - torch.diag(even.diagonal())
        mean = later.sum(0)[:-1] / (seen.sum(0) - 1)[:-1]
        near(even_share(12, window)[:-1], mean, f"even share with window {window}")


CUTS = [
    Cut(keys=(0, 3, 9), layers=(1,), since=6),
    Cut(keys=tuple(range(40)), layers=(0, 1, 2), since=1, until=3, first=4),
    Cut(keys=tuple(range(1, 40)), layers=(0, 1, 2), since=8),
    Cut(keys=(3, 5), layers=(1, 2), taken="value", first=12),
    Cut(keys=(3, 5), layers=(0, 2), taken="mean_value"),
    Cut(keys=tuple(range(1, 40)), layers=(0, 1, 2), since=8, later=((4, 20), (9, 35), (12, 13))),
]


def plain(model, trace, cut):
    """Losses of a plain pass with the mask written out."""
    n_pos = len(trace)
    lost = torch.zeros(n_pos, n_pos, dtype=torch.bool)
    for query in range(cut.first, n_pos):
        for key in cut.keys:
            late = dict(cut.later).get(key, 0)
            if cut.since <= query - key < (cut.until or n_pos) and query >= late:
                lost[query, key] = True
    usual = trace.norm <= 2 * trace.median_norm[:, None]

    def scores(tensor, hook):
        return tensor.masked_fill(lost, -torch.inf)

    def values(tensor, hook):
        new = tensor.masked_fill(lost, 0.0)
        able = (usual.all(0) & ~lost & (tensor[0] > 0).any(0)).float()
        share = able / able.sum(-1, keepdim=True).clamp(min=1)
        freed = (tensor - new).sum(-1, keepdim=True)
        return new + freed * share if cut.taken == "mean_value" else new

    site, hook = ("attn_scores", scores) if cut.taken == "attention" else ("pattern", values)
    hooks = [(hook_name(layer, site), hook) for layer in cut.layers]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        logs = model(trace.tokens[None])[0].float().log_softmax(-1)
    return -logs[:-1].gather(1, trace.tokens[1:, None])[:, 0]


def test_cuts_by_rule_are_those_of_a_plain_pass(case):
    model, trace = case
    found = run_cuts(model, trace, CUTS)
    for number, cut in enumerate(CUTS):
        near(found.loss[number, :-1], plain(model, trace, cut), f"loss of {cut}")


def test_cuts_in_several_passes_are_the_same(case, monkeypatch):
    model, trace = case
    whole = run_cuts(model, trace, CUTS)
    monkeypatch.setattr(module, "STATES_AT_ONCE", 1)
    near(run_cuts(model, trace, CUTS).loss[:, :-1], whole.loss[:, :-1], "loss")


def test_before_its_first_query_a_cut_changes_nothing(case):
    model, trace = case
    found = run_cuts(model, trace, CUTS)
    for number, cut in enumerate(CUTS):
        assert torch.equal(found.loss[number, : cut.first], found.clean[: cut.first])
        assert (found.kl[number, : cut.first] == 0).all()
    assert len(run_cuts(model, trace, []).loss) == 0


def test_a_window_of_the_cache_moves_with_the_query():
    cut = Cut(keys=(0, 1, 2, 3), layers=(0,), since=2)
    assert hidden(cut, torch.arange(4), 4).int().tolist() == [
        [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]  # fmt: skip


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (Cut(keys=(40,), layers=(0,)), "a cut has keys 40; expected numbers from 0 to 39"),
        (Cut(keys=(), layers=(0,)), "a cut has keys none"),
        (Cut(keys=(1,), layers=(0,), later=((40, 2),)), "a cut has keys to cut off later 0, 40"),
        (Cut(keys=(1,), layers=(3,)), "a cut has layers 3; expected numbers from 0 to 2"),
        (Cut(keys=(1,), layers=(0,), first=40), "a cut has first query 40"),
        (Cut(keys=(1,), layers=(0,), since=0), "a query always sees its own key"),
        (Cut(keys=(1,), layers=(0,), taken="all"), "unknown cut 'all'"),
    ],
)
def test_an_impossible_cut_is_refused(case, cut, words):
    with pytest.raises(EditError, match=words):
        run_cuts(*case, [cut])
