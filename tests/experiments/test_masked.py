"""A mask that hides what comes before a token: exact, and a sink only where one is planted."""

import pytest
import torch

from experiments import input_controls
from experiments.input_controls import AFTER, ALL_BUT_ONE, CLAIMS, MASKED
from experiments.masked import Mask, draw_place, masked_texts, sinks_under
from secondary_sinks import detect, load_model, observe
from secondary_sinks.measures import uniform_mass
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.observation import iter_layers
from secondary_sinks.testing.families import save
from secondary_sinks.testing.plant_layout import GIVER, MARK
from secondary_sinks.testing.planted import Plant, plant
from tests.experiments.observed import planted
from tests.marks import thinned
from tests.mechanisms import ALTERNATING, CASES
from tests.questions.gardens import PRIMARY

POS, KEPT, TOKENS = 13, 4, torch.arange(3, 40)
STEP, FIRST_MARKER = 0.02, 2


def needs_to_be_alone(model):
    """The planted primary is no longer marked: a token is one if it sees no token but itself.

    A head of block 0 spreads its attention evenly and copies positions; the planted neuron of
    block 1 fires where their mean is the token's own position.
    """
    block, positions = model.blocks[0], model.pos_embed.W_pos.data
    positions[:, GIVER] = STEP * torch.arange(len(positions))
    positions[:, FIRST_MARKER] = 0
    for weights in block.attn.parameters():
        weights.data.zero_()
    block.ln1 = torch.nn.Identity()
    block.attn.W_V.data[0, GIVER, 0] = block.attn.W_O.data[0, 0, FIRST_MARKER] = 1
    reads, gain = model.blocks[1].mlp.W_in.data[:, 0], 3 * MARK / STEP
    reads.zero_()
    reads[GIVER], reads[FIRST_MARKER] = -gain, gain
    model.blocks[1].mlp.b_in.data[0] = MARK


def judged(observed):
    """The rows with a mask, and the verdict on them."""
    frame = input_controls._masked(masked_texts(observed))
    return frame, input_controls._verdict_on_mask(frame, len(observed.traces))


def test_a_planted_first_token_arises_where_the_mask_makes_one():
    secondary = Plant(pos=54, forming=(3,))
    frame, verdict = judged(planted(secondary, n_texts=12, change=needs_to_be_alone))
    assert verdict.outcome == "supported"
    assert (verdict.value, verdict.n_texts) == (1.0, 12)
    assert "a sink in 12 of 12 texts with all tokens before it hidden, in 0 with" in verdict.why
    for name in (AFTER, MASKED, ALL_BUT_ONE):
        found = frame[frame["input"] == name]
        assert (found["at_mask"] == (name == MASKED)).all()
        assert (found["n_sinks"] == 1).all(), "the marked token needs nothing before it"
        assert (found["n_tokens"] + found["mask_pos"] == 64).all()


def test_where_sinks_are_marked_a_mask_makes_none():
    _, verdict = judged(planted(Plant(pos=54, forming=(3,)), n_texts=12))
    assert (verdict.outcome, verdict.value) == ("contradicted", 0.0)


@pytest.mark.parametrize(
    ("under", "with_one", "n_texts", "outcome"),
    [
        (1, 0, 12, "supported"),
        (1, 1, 12, "contradicted"),
        (0, 0, 12, "contradicted"),
        (1, 0, 3, "inconclusive"),
    ],
)
def test_a_sink_that_also_arises_with_one_token_visible_does_not_count(
    under, with_one, n_texts, outcome
):
    sinks = [[0, 0], [under, 0], [with_one, 0]]
    texts = [{"text_id": f"t{number}", "pos": 20, "sinks": sinks} for number in range(n_texts)]
    verdict = input_controls._verdict_on_mask(input_controls._masked(texts), n_texts + 1)
    assert (verdict.outcome, verdict.n_claims) == (outcome, len(CLAIMS))
    assert "left out: 1 too short for a mask" in verdict.controls


@pytest.mark.parametrize("case", thinned(CASES, ALTERNATING[::3]), ids="-".join)
@pytest.mark.parametrize("kept", [None, KEPT])
def test_what_is_hidden_is_hidden_as_in_a_plain_hooked_pass(case, kept, tmp_path):
    variant, kind = case
    bridge = kind == "TransformerBridge"
    model = load_model(save(variant, tmp_path), device="cpu", bridge=bridge, skip=CHECKS)
    mask = Mask.before(POS, len(TOKENS), kept)
    unseen = torch.zeros(len(TOKENS), len(TOKENS), dtype=torch.bool)
    unseen[POS:, [key for key in range(POS) if key != kept]] = True
    hooks = [
        (
            lambda name: name.endswith("hook_attn_scores"),
            lambda s, hook: s.masked_fill(unseen, -1e9),
        )
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        _, cache = model.run_with_cache(TOKENS[None])
    for view in iter_layers(model, TOKENS, chunk=9, hooks=mask.hooks):
        whole = cache[f"blocks.{view.layer}.hook_resid_post"][0]
        scale = float(whole.abs().max())
        torch.testing.assert_close(view.resid_post, whole, rtol=1e-5, atol=1e-5 * scale)
        pattern = cache[f"blocks.{view.layer}.attn.hook_pattern"][0].mean(0)
        assert not pattern[unseen].any()
        torch.testing.assert_close(view.received, pattern.sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("kept", [None, KEPT])
def test_an_even_spread_is_counted_query_by_query(window, kept):
    n_pos, mask = len(TOKENS), Mask.before(POS, len(TOKENS), kept)
    query, key = torch.arange(n_pos)[:, None], torch.arange(n_pos)
    sees = (key <= query) & (query - key < (window or n_pos))
    sees &= ~((query >= POS) & (key < POS) & (key != (-1 if kept is None else kept)))
    queries, even = mask.even(window)
    assert torch.equal(queries, sees.sum(0))
    by_query = (sees / sees.sum(1, keepdim=True)).sum(0) / sees.sum(0)
    torch.testing.assert_close(even, by_query)
    none = Mask(pos=POS, hidden=torch.zeros(n_pos, dtype=torch.bool))
    torch.testing.assert_close(none.even(window)[1], uniform_mass(n_pos, window))


def test_a_mask_that_hides_nothing_finds_the_sinks_of_the_text():
    made = plant([PRIMARY, Plant(pos=20, forming=(3,)), Plant(pos=40, forming=(4,))])
    trace = observe(made.model, made.tokens)
    sinks = detect(trace)
    nothing = Mask(pos=1, hidden=torch.zeros(64, dtype=torch.bool))
    found = sinks_under(made.model, trace, sinks.thresholds, nothing)
    assert found.nonzero()[:, 0].tolist() == [20, 40]


def test_the_place_is_no_sink_and_neither_is_the_token_that_stays():
    made = plant([PRIMARY, Plant(pos=20, forming=(3,)), Plant(pos=40, forming=(4,))])
    trace = observe(made.model, made.tokens)
    sinks = detect(trace)
    chance = torch.Generator().manual_seed(0)
    drawn = [draw_place(trace, sinks, chance) for _ in range(300)]
    places, kept = {pos for pos, _ in drawn}, {one for _, one in drawn}
    assert places == {*range(16, 49)} - {20, 40}
    assert not kept & {0, 20, 40}
    assert all(one < pos for pos, one in drawn)
    short = observe(made.model, made.tokens[:9])
    assert draw_place(short, detect(short), chance) is None
