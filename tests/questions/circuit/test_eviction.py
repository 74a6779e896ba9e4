"""Dropping keys from the cache: sinks whose value tells the next token, and sinks that don't."""

from dataclasses import replace

import pytest
import torch

from secondary_sinks import detect, observe
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.questions import match_pairs
from secondary_sinks.questions.circuit import eviction
from secondary_sinks.questions.circuit.cuts import hidden
from secondary_sinks.questions.circuit.eviction import caches_of
from secondary_sinks.questions.circuit.eviction_verdicts import SAME
from secondary_sinks.testing import Plant, plant
from tests.questions.gardens import PRIMARY, Garden, three

READ_BY_ONE, HEAD, OWN_AXIS = replace(PRIMARY, read_by=(0,)), 1, 5
WINDOW = 8
SINKS = (28, 32, 36)
FIRST = 36 + WINDOW + 1
"""The first position at which all three sinks are gone."""
COUNTED = torch.arange(64 // 4 + WINDOW + 1, 63)
"""Queries whose loss counts, if no sink stands after the first quarter of the text."""


@torch.no_grad()
def tells_the_next_token(model):
    """What the head writes for a sink raises the logits of ordinary tokens, which come next."""
    for block in model.blocks[4:]:
        written = block.attn.W_V[HEAD, OWN_AXIS] @ block.attn.W_O[HEAD]
        model.unembed.W_U[:, 16:] += 0.5 * (written / written.norm())[:, None]


@torch.no_grad()
def tells_little(model):
    """No residual says much of the next token."""
    model.unembed.W_U *= 0.2


@torch.no_grad()
def ordinary_tokens_disturb(model):
    """What heads write for ordinary tokens lowers the logits of the tokens that come next.

    All heads read the primary and the sinks, which keep them from attending to ordinary tokens.
    """
    usual = 8 * torch.nn.functional.normalize(model.embed.W_E[16:].mean(0), dim=0)
    written = sum(
        torch.einsum("m,hmd,hdn->n", usual, block.attn.W_V, block.attn.W_O)
        for block in model.blocks
    )
    model.unembed.W_U *= 0.2
    model.unembed.W_U[:, 16:] -= 0.15 * (written / written.norm())[:, None]


def garden(change, **more):
    plants = [Plant(pos=pos, forming=(3,), read_by=(HEAD,), **more) for pos in SINKS]
    return Garden(*plants, primary=READ_BY_ONE, change=change)


@pytest.fixture(scope="module")
def telling():
    made = garden(tells_the_next_token, value=20.0)
    return made, eviction(*made.asked, window=WINDOW)


def rises(part, cache):
    table = part.cells
    return table[table["cache"] == cache].groupby("keys")["rise"].median()


def test_sinks_that_tell_the_next_token_are_worth_their_place(telling):
    _, found = telling
    assert [one.outcome for one in found.verdicts] == ["supported"] * 3
    dropped, kept = rises(found, "dropped"), rises(found, "kept")
    assert dropped["secondary"] > 0.1
    assert dropped[["random", "heavy hitters", "recent", "primary"]].abs().max() < 0.02
    assert kept["primary and secondary"] < 0.05 < kept["primary and heavy hitters"]


def test_sinks_that_tell_little_are_not():
    found = eviction(*garden(tells_little).asked, window=WINDOW)
    assert [one.outcome for one in found.verdicts] == ["contradicted"] * 3


def test_sinks_that_stand_in_for_the_primary_are_missed_without_it():
    made = Garden(*three(forming=(3,)), change=ordinary_tokens_disturb)
    found = eviction(*made.asked, window=WINDOW)
    outcomes = [one.outcome for one in found.verdicts]
    assert outcomes[:2] == ["contradicted", "supported"], found.verdicts
    dropped = rises(found, "dropped")
    alone = dropped["primary"] + dropped["secondary"]
    assert dropped["primary and secondary"] > 1.5 * alone > 0


def heaviest(trace, number):
    """Which keys each query has as the heaviest ones that left its window, and the primary."""
    received = (trace.mass.double() * trace.queries).nan_to_num().sum(0)
    held = torch.zeros(len(trace), len(trace), dtype=torch.bool)
    for query in range(len(trace)):
        able = list(range(1, query - WINDOW))
        able.sort(key=lambda key: (-float(received[key]), key))
        held[query, [0, *able[:number]]] = True
    return held


def test_each_cache_is_that_of_a_plain_pass(telling):
    made, found = telling
    trace, model = made.traces[0], made.model
    query, key = torch.arange(64)[:, None], torch.arange(64)
    far = query - key > WINDOW
    hidden = {
        ("dropped", "secondary"): far & torch.isin(key, torch.tensor(SINKS)),
        ("dropped", "recent"): (query - key >= 1) & (query - key <= 3),
        ("kept", "primary"): far & (key != 0),
        ("kept", "primary and heavy hitters"): far & ~heaviest(trace, 3),
    }
    table = found.cells.query("text_id == 't0'").set_index(["cache", "keys"])["loss"]
    for (cache, keys), mask in hidden.items():

        def hook(scores, hook, mask=mask):
            return scores.masked_fill(mask, -torch.inf)

        hooks = [(hook_name(layer, "attn_scores"), hook) for layer in range(8)]
        with torch.no_grad():
            logs = model.run_with_hooks(trace.tokens[None], fwd_hooks=hooks)[0].log_softmax(-1)
        loss = -logs[:-1].gather(1, trace.tokens[1:, None])[FIRST:].mean()
        assert table[cache, keys] == pytest.approx(float(loss), abs=1e-4)


def test_numbers_of_keys_are_equal_and_distances_add_up(telling):
    _, found = telling
    losses = found.cells
    numbers = losses[losses["cache"] == "dropped"].groupby("keys")["n_keys"].unique()
    assert {name: list(one) for name, one in numbers.items()} == {
        "secondary": [3], "random": [3], "heavy hitters": [3], "recent": [3],
        "primary": [1], "primary and secondary": [4], "primary and random": [4]}  # fmt: skip
    positions = found.tables["positions"]
    whole = (positions["rise"] * positions["n"]).groupby(positions["text_id"]).sum()
    rise = (losses["loss"] - losses["loss_clean"]) * losses["n_counted"]
    assert whole.tolist() == pytest.approx(rise.groupby(losses["text_id"]).sum().tolist(), abs=1e-4)


def test_random_keys_and_heavy_hitters_are_ordinary(telling):
    made, _ = telling
    for text in match_pairs(made.traces, made.sinks):
        caches = caches_of(text, made.sinks, WINDOW, 3)
        drawn = [cut.keys for _, keys, _, cut in caches if keys in ("random", "heavy hitters")]
        assert len(set(drawn)) == 4
        assert not {key for keys in drawn for key in keys} & {0, *SINKS}
        assert max(map(max, drawn)) < 36


def test_short_texts_and_texts_without_sinks_claim_nothing():
    made = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(made.model, made.tokens)
    found = eviction(made.model, trace, detect(trace))
    assert [one.outcome for one in found.verdicts] == ["inconclusive"] * 3
    assert "1 in texts too short for the window" in found.verdicts[0].why
    none = eviction(*Garden(n_texts=2).asked)
    assert len(none.cells) == 0
    assert "no secondary sink" in none.verdicts[0].why


def of_one_sink(*others, pos=15, heads=(HEAD,), value=0.5, n_texts=8):
    """Texts with one sink, which tells little, and further plants."""
    plants = [Plant(pos=pos, forming=(3,), read_by=heads, value=value), *others]
    options = {"change": tells_the_next_token, "n_texts": n_texts}
    made = Garden(*plants, primary=READ_BY_ONE, **options)
    return made, eviction(*made.asked, window=WINDOW)


def test_heavy_hitters_may_come_late_in_a_text():
    """In the middle of the text stands a key that is not a sink, draws more and tells more."""
    key = Plant(pos=32, forming=(3,), strength=10.0, attended=True, value=10.0)
    made, found = of_one_sink(key)
    assert {sink.pos for sink in made.sinks.sinks} == {0, 15}
    kept = rises(found, "kept")
    assert kept["primary and heavy hitters"] < 0.01 < kept["primary and secondary"]
    assert kept["primary and secondary"] < kept["primary"] - 0.01, "better than a weak early key"
    assert found.verdicts[2].outcome == "contradicted"


def test_where_the_sinks_are_the_heavy_hitters_nothing_is_shown():
    made, found = of_one_sink(pos=12, value=20.0, n_texts=2)
    kept = found.cells[found.cells["cache"] == "kept"].set_index("keys")
    same = ["primary and secondary", "primary and heavy hitters"]
    assert kept.loc[same, "n_secondary"].tolist() == [1] * 4
    for text in match_pairs(made.traces, made.sinks):
        cuts = {keys: cut for cache, keys, _, cut in caches_of(text, made.sinks, WINDOW, 1)}
        with_sinks, with_heaviest = (hidden(cuts[keys], COUNTED, 64) for keys in same)
        assert torch.equal(with_sinks, with_heaviest)
    verdict = found.verdicts[2]
    assert (verdict.outcome, verdict.n_sinks) == ("inconclusive", 0)
    assert f"2 {SAME}" in verdict.why
    assert found.verdicts[0].n_sinks == 2
