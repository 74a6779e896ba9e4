"""Rules while a text grows: equal to whole passes with plain hooks, without a cache."""

import math
from dataclasses import replace

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.causal import ActiveRule, Met, score_under
from secondary_sinks.errors import EditError, TextError
from secondary_sinks.layerwise.cached_generation import Continuation
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import save
from secondary_sinks.types import Rule
from tests.causal.test_edits_exact import TYPICAL
from tests.marks import thinned
from tests.mechanisms import CASES

CHANCE = torch.Generator().manual_seed(3)
TOKENS = torch.randint(3, 24, (40,), generator=CHANCE)
LAYER, N_PROMPT, EXEMPT = 0, 28, 3
PROMPT = TOKENS[:N_PROMPT]
SET, MASK = {"kind": "set_norm", "value": 9.0}, {"kind": "mask"}


def loaded(variant, kind, folder):
    save(variant, folder)
    return load_model(folder, device="cpu", bridge=kind == "TransformerBridge", skip=CHECKS)


@pytest.fixture(scope="module", params=thinned(CASES, TYPICAL[::3]), ids="-".join)
def model(request, tmp_path_factory):
    return loaded(*request.param, tmp_path_factory.mktemp(request.param[0]))


def cosines(model, tokens, layer=LAYER):
    """Cosine of what the MLP writes at each token with what it writes at the first."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens[None])
    written = cache[f"blocks.{layer}.hook_mlp_out"][0].double()
    return [
        float(row @ written[0] / math.sqrt(row @ row) / math.sqrt(written[0] @ written[0]))
        for row in written
    ]


def between(values):
    """A threshold that about a third of the values are above, in the widest gap near there."""
    ordered = sorted(values[EXEMPT:])
    gaps = range(len(ordered) // 2, len(ordered) * 4 // 5)
    widest = max(gaps, key=lambda place: ordered[place + 1] - ordered[place])
    return (ordered[widest] + ordered[widest + 1]) / 2


def near(got, expected, name):
    """Within 3e-5 of the largest value: a pass with a cache sums in another order."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        got, expected, rtol=0, atol=3e-5 * scale, msg=lambda text: f"{name}: {text}"
    )


def slowly(model, tokens, rule, positions):
    """Logits after the last token, in a whole pass with plain hooks at these positions."""

    def rescale(tensor, hook):
        new = tensor.clone()
        for pos in positions:
            new[0, pos] = rule.value * tensor[0, pos] / tensor[0, pos].pow(2).sum().sqrt()
        return new

    def hide(tensor, hook):
        new = tensor.clone()
        for key in positions:
            for query in range(key + 1, len(tokens)):
                new[0, :, query, key] = -math.inf
        return new

    hooks = [(f"blocks.{rule.layer}.hook_mlp_out", rescale)]
    if rule.kind == "mask":
        later = range(rule.layer + 1, model.cfg.n_layers)
        hooks = [(f"blocks.{layer}.attn.hook_attn_scores", hide) for layer in later]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model(tokens[None])[0].float()


@torch.no_grad()
@pytest.mark.parametrize("control", [False, True], ids=["rule", "control"])
@pytest.mark.parametrize("kind", [SET, MASK], ids=["set_norm", "mask"])
def test_a_growing_text_equals_whole_passes_without_a_cache(model, kind, control):
    found = cosines(model, TOKENS)
    rule = Rule(layer=LAYER, tau=between(found), control=control, seed=4 * control, **kind)
    met = [pos for pos in range(EXEMPT, len(TOKENS)) if found[pos] > rule.tau]
    active = ActiveRule(model, rule, PROMPT)
    text, ahead, changed = Continuation(model, active.hooks), PROMPT, 0.0
    for end in range(N_PROMPT, len(TOKENS) + 1):
        logits = text.read(ahead)
        edited = active.edited.nonzero()[:, 0].tolist()
        if not control:
            assert edited == [pos for pos in met if pos < end]
        expected = slowly(model, TOKENS[:end], rule, edited)
        near(logits, expected[-1], f"logits after {end} tokens")
        changed = max(changed, float((logits - model(TOKENS[None, :end])[0, -1]).abs().max()))
        ahead = TOKENS[end : end + 1]
    assert active.meets.nonzero()[:, 0].tolist() == met
    assert any(pos < N_PROMPT for pos in met)
    assert any(pos >= N_PROMPT for pos in met)
    assert changed > 1e-2, "the rule does something here"
    scored = score_under(model, PROMPT, TOKENS[N_PROMPT:], rule)
    near(torch.tensor(scored.met.highest), torch.tensor(active.met.highest), "highest cosine")
    assert replace(scored.met, highest=0.0) == replace(active.met, highest=0.0)
    shares = slowly(model, TOKENS, rule, edited).log_softmax(-1)
    told = [float(shares[pos - 1, TOKENS[pos]]) for pos in range(N_PROMPT, len(TOKENS))]
    near(torch.tensor(scored.log_likelihood), torch.tensor(sum(told)), "log-likelihood")
    assert scored.perplexity == pytest.approx(math.exp(-sum(told) / len(told)), rel=1e-4)


def test_control_tokens_are_as_many_others_and_come_next(model):
    found = cosines(model, TOKENS)
    rule = Rule(layer=LAYER, tau=between(found), control=True, seed=4, kind="mask")
    active = ActiveRule(model, rule, PROMPT, whole=True)
    trace = observe(model, TOKENS, hooks=active.hooks)
    assert torch.isfinite(trace.mass[-1]).all()
    met, edited = active.meets, active.edited
    assert not (met & edited).any()
    assert not edited[:EXEMPT].any()
    n_met, n_edited = int(met[:N_PROMPT].sum()), int(edited[:N_PROMPT].sum())
    n_free = N_PROMPT - EXEMPT - n_met
    assert n_edited == min(n_met, n_free) > 0
    owed = n_met - n_edited
    for pos in range(N_PROMPT, len(TOKENS)):
        owed += bool(met[pos])
        assert bool(edited[pos]) == (not met[pos] and owed > 0)
        owed -= bool(edited[pos])
    again = ActiveRule(model, rule, PROMPT, whole=True)
    observe(model, TOKENS, hooks=again.hooks)
    assert torch.equal(again.edited, edited)
    other = ActiveRule(model, replace(rule, seed=5), PROMPT, whole=True)
    observe(model, TOKENS, hooks=other.hooks)
    assert torch.equal(other.edited, edited) == (n_edited == n_free), "where there is a choice"


NO_OPS = [
    Rule(layer=LAYER, value=9.0, tau=1.0, exempt=0),
    Rule(layer=LAYER, kind="mask", tau=1.0),
    Rule(layer=LAYER, value=9.0, tau=-1.0, exempt=len(TOKENS)),
    Rule(layer=LAYER, kind="mask", tau=1.0, control=True),
]


@pytest.mark.parametrize("rule", NO_OPS, ids=lambda rule: f"{rule.kind} {rule.tau:g}")
def test_a_rule_that_meets_nothing_changes_no_bit(model, rule):
    plain, ruled = Continuation(model), Continuation(model, ActiveRule(model, rule, PROMPT).hooks)
    for part in (PROMPT, *TOKENS[N_PROMPT:, None]):
        assert torch.equal(plain.read(part), ruled.read(part))


@pytest.fixture(scope="module")
def planted():
    primary = Plant(pos=0, forming=(1, 3), strength=800.0)
    made = plant([primary, *(Plant(pos=pos, forming=(3,)) for pos in (8, 20))])
    return made.model, made.tokens


def active_on(planted, rule):
    model, tokens = planted
    active = ActiveRule(model, rule, tokens, whole=True)
    return observe(model, tokens, hooks=active.hooks), active


def test_planted_sinks_are_met_and_masked_keys_draw_nothing_from_later_queries(planted):
    trace, active = active_on(planted, Rule(layer=3, kind="mask", tau=0.9))
    assert active.edited.nonzero()[:, 0].tolist() == [8, 20]
    model, tokens = planted
    clean = observe(model, tokens)
    assert torch.equal(trace.mass[:4], clean.mass[:4])
    assert (trace.mass[4:, [8, 20]] < 0.1 * clean.mass[4:, [8, 20]]).all()
    along = tuple(active._direction.tolist())
    given = active_on(planted, Rule(layer=3, kind="mask", tau=0.9, direction=along))[1]
    assert torch.equal(given.edited, active.edited)


def test_the_control_of_a_written_sink_is_the_next_token_and_no_later_one(planted):
    model, tokens = planted
    control = Rule(layer=3, kind="mask", tau=0.9, control=True)
    active = ActiveRule(model, control, tokens[:10], whole=True)
    observe(model, tokens, hooks=active.hooks)
    in_prompt, written = active.edited.nonzero()[:, 0].tolist()
    assert in_prompt in {3, 4, 5, 6, 7, 9}
    assert written == 21
    assert active.met.n_short == 0


def test_what_met_says_of_nothing_everything_and_too_few_others(planted):
    nothing, everything = Rule(layer=3, kind="mask", tau=1.0), Rule(layer=3, value=0.0, tau=-1.0)
    assert active_on(planted, nothing)[1].met.in_words(nothing) == (
        "the rule meets none of 61 tokens (highest cosine 1, tau 1): nothing is edited"
    )
    assert active_on(planted, everything)[1].met.in_words(everything) == (
        "the rule meets all 61 tokens, so that no control is possible"
    )
    control = replace(everything, control=True)
    met = active_on(planted, control)[1].met
    assert (met.n_met, met.n_edited, met.n_short) == (61, 0, 61)
    assert met.in_words(control).endswith("no control is possible; 0 others are edited")
    both = met + Met(n_judged=3, n_edited=2, highest=math.nan)
    assert (both.n_judged, both.n_edited, both.highest) == (64, 2, met.highest)
    words = "the rule meets 61 of 64 tokens; 2 others are edited, 59 fewer than meet it"
    assert both.in_words(control) == words
    sinks = Rule(layer=3, kind="mask", tau=0.9)
    assert active_on(planted, sinks)[1].met.in_words(sinks) == "the rule meets 2 of 61 tokens"


IMPOSSIBLE = {
    "layer": (Rule(layer=8, value=1.0), "a rule reads layer 8; expected 0 to 7"),
    "last": (Rule(layer=7, kind="mask"), "masks keys after layer 7, the last one; expected at"),
    "size": (Rule(layer=1, kind="mask", direction=(1.0, 2.0)), "has 2 numbers; expected 56"),
}


@pytest.mark.parametrize(("rule", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_rule_that_this_model_cannot_have_is_refused(planted, rule, said):
    model, tokens = planted
    with pytest.raises(EditError, match=said):
        score_under(model, tokens[:4], tokens[4:], rule)


def test_a_first_token_without_direction_and_nothing_to_score_are_refused(planted):
    model, tokens = planted
    with pytest.raises(TextError, match="the continuation has 0 tokens; expected at least one"):
        score_under(model, tokens, tokens[:0])
    silent = plant([Plant(pos=0, forming=(1,), strength=400.0)]).model
    with torch.no_grad():
        silent.blocks[2].mlp.W_out.zero_()
    with pytest.raises(EditError, match="writes zero at the first token, which has no"):
        score_under(silent, tokens[:4], tokens[4:], Rule(layer=2, kind="mask"))
