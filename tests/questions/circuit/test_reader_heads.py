"""Heads that read a sink, and what makes their scores: what was planted, and plain passes."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import detect, load_model, observe
from secondary_sinks.errors import EditError, PlantError
from secondary_sinks.layerwise.submodules import attention_input, keys_of
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.observation import iter_layers
from secondary_sinks.questions.answer import AT_CONTROLS
from secondary_sinks.questions.circuit import reader_heads, reading
from secondary_sinks.questions.circuit.read_verdicts import IN_ALL, NO_LOWER, OPEN, reader_verdicts
from secondary_sinks.questions.circuit.readers import _share
from secondary_sinks.questions.circuit.reading import Read
from secondary_sinks.questions.circuit.scores import PARTS, scores_of
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import save
from secondary_sinks.testing.plant_layout import SINK_DIM
from tests.marks import thinned
from tests.questions.gardens import PRIMARY, Garden, three

READ_BY_TWO, N_LAYERS = replace(PRIMARY, read_by=(0, 1)), 6
OWN_OF_PRIMARY = 3
"""The axis by which heads tell the primary from other sinks."""
READING = range(4, N_LAYERS)
"""Blocks that read sinks which layer 3 writes and that stay."""


def garden(*heads, **more):
    plants = three(forming=(3,), read_by=heads, **more)
    return Garden(*plants, primary=READ_BY_TWO, n_layers=N_LAYERS)


@pytest.fixture(scope="module")
def shared():
    """Sinks read by one of the two heads that read the primary, and the answer."""
    made = garden(1)
    return made, reader_heads(*made.asked)


def of(edges, measure):
    return edges[edges["measure"] == measure]


def test_every_planted_reader_is_found_and_no_other(shared):
    made, found = shared
    attention = of(found.cells, "attention")
    places = set(zip(attention["layer"], attention["head"], strict=True))
    assert places == {(float(block), 1.0) for block in READING}
    assert len(attention) == len(made.sinks.of_kind("secondary")) * len(READING)
    assert (attention["effect"] > 0.1).all()
    assert (attention["control"] < 0.01).all()
    heads = found.tables["heads"].set_index(["layer", "head"])
    assert heads.loc[heads["reads"] > 0].index.tolist() == [(block, 1) for block in READING]
    primary = heads.loc[heads["reads_primary"] > 0].index
    assert set(primary) == {(block, head) for block in READING for head in (0, 1)}


@pytest.mark.parametrize(
    ("heads", "outcomes", "share"),
    [
        ((0, 1), ["supported", "supported"], 1.0),
        # Naively the second is contradicted: the correlation is -0.33, but at controls it is lower
        ((1,), ["supported", "inconclusive"], 1.0),
        ((2,), ["contradicted", "contradicted"], 0.0),
    ],
)
def test_the_verdicts_say_whether_readers_of_the_primary_read_the_sinks(heads, outcomes, share):
    found = reader_heads(*garden(*heads).asked)
    assert [one.outcome for one in found.verdicts] == outcomes
    assert found.verdicts[0].value == pytest.approx(share, abs=1e-5)
    assert {one.n_claims for one in found.verdicts} == {4}
    edges = of(found.cells, "from_primary_readers")
    assert set(edges["control"]) == {0.5}  # two of four heads read the primary
    score = of(found.cells, "score")["effect"].to_numpy()
    primary = of(found.cells, "score_primary")["effect"].to_numpy()
    assert primary == pytest.approx(score if share else 0 * score, abs=0.1)


def test_where_all_heads_read_the_primary_nothing_is_claimed():
    found = reader_heads(*Garden(*three(forming=(3,)), n_layers=N_LAYERS).asked)
    assert [one.outcome for one in found.verdicts] == ["inconclusive"] * 2
    share, rank = (one.why for one in found.verdicts)
    assert f"24 {OPEN}" in share
    assert "24 in blocks where all heads attend alike to the primary" in rank


def test_without_sinks_nothing_is_claimed():
    found = reader_heads(*Garden().asked)
    assert [one.outcome for one in found.verdicts] == ["inconclusive"] * 2
    assert len(found.cells) == len(found.tables["sinks"]) == len(found.tables["heads"]) == 0
    assert len(found.tables["queries"]) == 0


@pytest.mark.parametrize(
    ("row", "outcomes"),
    [
        ({"share": 0.95, "chance": 0.96}, ["inconclusive", "supported"]),
        ({"share": 0.95, "chance": 0.5, "rank": 0.6}, ["supported", "inconclusive"]),
        ({"share": 0.1, "chance": 0.05}, ["contradicted", "supported"]),
        ({"share": 1.0, "chance": 1.0, "rank": -0.1}, ["inconclusive", "contradicted"]),
    ],
)
def test_both_the_line_and_the_control_decide(row, outcomes):
    assert [one.outcome for one in reader_verdicts(rows(row), {}, 4)] == outcomes


def test_a_control_that_does_as_much_leaves_a_claim_open_and_the_verdict_says_so():
    share, rank = reader_verdicts(rows({"share": 0.9, "chance": 0.95, "rank": 0.6}), {}, 4)
    assert share.low > share.line
    assert rank.low > rank.line
    assert [one.outcome for one in (share, rank)] == ["inconclusive"] * 2
    assert share.why.endswith(AT_CONTROLS)
    assert rank.why.endswith(AT_CONTROLS)
    below, _ = reader_verdicts(rows({"share": 0.1, "chance": 0.2}), {}, 4)
    assert AT_CONTROLS not in below.why, "below the line it is refuted, whatever controls do"


@pytest.mark.parametrize(
    ("rank", "control", "outcome"),
    [
        (-0.33, -0.78, "inconclusive"),  # higher than without a relation
        (-0.33, -0.33, "inconclusive"),  # what the softmax gives alone
        (-0.78, -0.33, "contradicted"),
        (-0.1, 0.7, "contradicted"),
        (0.3, 0.3, "inconclusive"),
        (0.0, 0.3, "inconclusive"),
    ],
)
def test_a_correlation_below_0_refutes_only_if_it_is_below_that_at_controls(rank, control, outcome):
    usual = {"share": 0.95, "chance": 0.5}
    _, verdict = reader_verdicts(rows(usual | {"rank": rank, "control_rank": control}), {}, 4)
    assert verdict.outcome == outcome
    below = rank < 0 and outcome == "inconclusive"
    assert (NO_LOWER in verdict.why) == below
    assert (AT_CONTROLS in verdict.why) == (rank >= 0)


def test_planted_heads_that_split_their_attention_refute_nothing():
    """Two of three heads that read the primary read the sinks: -0.33 at sinks and at controls."""
    plants = three(forming=(3,), read_by=(0, 1))
    made = Garden(*plants, primary=replace(PRIMARY, read_by=(0, 1, 2)), n_layers=N_LAYERS)
    _, verdict = reader_heads(*made.asked).verdicts
    assert verdict.high < verdict.line
    assert verdict.outcome == "inconclusive"
    assert verdict.why.endswith(NO_LOWER)


def test_blocks_where_all_heads_read_the_primary_keep_the_claim_open():
    """In block 4 one head reads the primary, and the others the sinks; later on all read both."""

    @torch.no_grad()
    def change(model):
        for block in model.blocks[5:]:
            keys = block.attn.W_K
            keys[1:, OWN_OF_PRIMARY, SINK_DIM] = keys[0, OWN_OF_PRIMARY, SINK_DIM]

    plants = three(forming=(3,), read_by=(1, 2, 3))
    primary = replace(PRIMARY, read_by=(0,))
    made = Garden(*plants, primary=primary, n_texts=16, change=change)
    answer = reader_heads(*made.asked, n_claims=1)
    table, (verdict, _) = answer.tables["sinks"], answer.verdicts
    assert (table["share"] == 0).all(), "by the blocks that can support it alone: contradicted"
    assert (table["share_of_all"] > 0.6).all()
    assert verdict.high < 0.5
    assert (verdict.outcome, IN_ALL in verdict.why) == ("inconclusive", True)


def rows(row):
    """One sink in each of 12 texts, with other values in some columns."""
    usual = {"kind": "secondary", "level": 0.0, "control_share": 0.0}
    usual |= {"rank": 0.9, "control_rank": 0.7, "share_of_all": row.get("share")}
    return pd.DataFrame([usual | row | {"text_id": f"t{n}"} for n in range(12)])


def heads_of(primary, attention):
    """A block of eight heads: how many of them read the primary, and what each pays the sink."""
    reading, paid = torch.arange(8) < primary, torch.full((8,), attention)
    return Read(
        beyond=dict.fromkeys(("sink", "control", "primary"), paid),
        reads=dict.fromkeys(("sink", "control", "primary"), reading),
        sink={}, control={}, top=0, paid=torch.zeros(2, 0),
    )  # fmt: skip


def test_random_heads_are_drawn_block_by_block():
    """Attention falls in the block where all heads read the primary: pooled, 0.91 against 0.5."""
    pooled = {5: heads_of(8, 0.2), 6: heads_of(0, 0.02)}
    assert _share(pooled, "sink") == pytest.approx((math.nan, math.nan), nan_ok=True)
    mixed = pooled | {7: heads_of(6, 0.2), 8: heads_of(2, 0.02)}
    expected = (0.75 * 0.2 + 0.25 * 0.02) / 0.22  # heads alike: both shares are the same
    assert _share(mixed, "sink") == pytest.approx((expected, expected))


def test_attention_is_that_of_a_plain_pass(shared):
    made, found = shared
    trace = made.traces[0]
    _, cache = made.model.run_with_cache(trace.tokens[None])
    rows = found.cells[found.cells["text_id"] == "t0"]
    for row in of(rows, "attention").to_dict("records"):
        pattern = cache[hook_name(int(row["layer"]), "pattern")][0, int(row["head"])]
        pos = int(row["pos"])
        later = torch.arange(pos + 1, len(trace))
        expected = pattern[later, pos].mean() - (1.0 / (later + 1)).mean()
        assert row["effect"] == pytest.approx(float(expected), abs=1e-5)
    sums = rows[rows["measure"].isin([f"score_{part}" for part in (*PARTS, "position")])]
    sums = sums.groupby(["pos", "layer", "head"])["effect"].sum()
    scores = of(rows, "score").set_index(["pos", "layer", "head"])["effect"]
    assert sums.to_numpy() == pytest.approx(scores.sort_index().to_numpy(), abs=1e-4)


def test_each_query_pays_what_it_pays_in_a_plain_pass(shared):
    made, found = shared
    table = found.tables["queries"]
    assert set(table["layer"]) == set(READING)
    assert set(table["head"]) == {1}, "the planted reader"
    trace = next(one for one in made.traces if one.text_id == table["text_id"].iloc[0])
    _, cache = made.model.run_with_cache(trace.tokens[None])
    own = table[(table["text_id"] == trace.text_id) & (table["layer"] == 4)]
    pos = own["pos"].iloc[0]
    own = own[own["pos"] == pos]
    assert own["query"].tolist() == list(range(pos + 1, len(trace)))
    paid = cache[hook_name(4, "pattern")][0, :, pos + 1 :, pos]
    assert own["attention"].to_numpy() == pytest.approx(paid.mean(0).numpy(), abs=1e-5)
    assert own["attention_head"].to_numpy() == pytest.approx(paid[1].numpy(), abs=1e-5)


def test_single_queries_are_kept_of_the_strongest_sinks_only(shared, monkeypatch):
    made, found = shared
    kept = found.tables["queries"][["text_id", "pos"]].drop_duplicates()
    assert len(kept) == reading.MOST_SINKS < len(found.tables["sinks"])
    monkeypatch.setattr(reading, "MOST_SINKS", 2)
    monkeypatch.setattr(reading, "MOST_QUERIES", 3)
    table = reader_heads(*made.asked).tables["queries"]
    masses = {(one.text_id, one.pos): one.mass_max for one in made.sinks.of_kind("secondary")}
    own = [masses[key] for key in set(zip(table["text_id"], table["pos"], strict=True))]
    assert len(own) == 2
    assert min(own) >= sorted(masses.values())[-2]
    assert len(table) == 2 * 3 * len(READING)


VARIANTS = ("qwen2", "qwen3", "phi3-partial-rotary", "pythia", "gpt2", "gpt-oss", "olmo2",
            "gemma3", "smollm3", "phi4-mini-longrope", "llama3.1")  # fmt: skip
POSITIONS = [0, 5, 11]


@pytest.mark.parametrize("bridge", [False, True], ids=["old", "bridge"])
@pytest.mark.parametrize("variant", thinned(VARIANTS, ["qwen2", "qwen3", "phi3-partial-rotary"]))
def test_parts_of_a_score_are_those_of_its_key_and_add_up(variant, bridge, tmp_path):
    """The score in place is that of the same raw key, rotated by the model to each query."""
    model = load_model(save(variant, tmp_path), device="cpu", bridge=bridge, skip=CHECKS)
    tokens = torch.randint(3, 90, (24,), generator=torch.Generator().manual_seed(1))
    inputs = {}
    with attention_input(model, [1], lambda layer, part: inputs.setdefault(layer, part)):
        view = next(view for view in iter_layers(model, tokens) if view.layer == 1)
    watch, rows = torch.tensor(POSITIONS), inputs[1][0, POSITIONS]
    found = scores_of(view, rows, watch, 0)
    assert torch.isfinite(found.parts).all()
    total = found.parts.sum(0) + found.position
    torch.testing.assert_close(total, found.score, atol=2e-3, rtol=2e-3)
    weights, bias = keys_of(model, 1, view.keys.shape[1])
    raw = torch.einsum("wm,kmd->wkd", rows, weights) + bias
    along = (rows @ rows[0] / (rows[0] @ rows[0]))[:, None, None] * (raw[0] - bias)
    for at, pos in enumerate(POSITIONS):
        whole = in_place(view, pos, raw[at])
        torch.testing.assert_close(found.parts[:, at].sum(0), whole, atol=2e-3, rtol=2e-3)
        if variant not in WITH_A_NORM:  # without it a part is a key of its own
            primary = in_place(view, pos, along[at])
            torch.testing.assert_close(found.parts[1, at], primary, atol=2e-3, rtol=2e-3)


WITH_A_NORM = ("qwen3", "olmo2", "gemma3")
"""Variants whose keys are normed."""


def in_place(view, pos, raw):
    """Mean score of later queries on a raw key that the layer places at each of them in turn."""
    n_pos = len(view.queries)
    later = torch.arange(pos + 1, min(n_pos, pos + (view.window or n_pos)))

    def put(keys, hook):
        return raw.expand(len(later), -1, -1).reshape(keys.shape)

    hooks = [(hook_name(view.layer, "k"), put)]
    there = view.run.run_replayed(view.resid_pre[later], later, hooks).keys
    there = there.repeat_interleave(view.queries.shape[1] // there.shape[1], 1)
    return (view.queries[later] * there).sum(-1).mean(0) * view.scale


def test_the_primary_itself_has_no_rest():
    made = plant([PRIMARY, Plant(pos=20, forming=(3,))], positions="rotary", content_queries=True)
    trace = observe(made.model, made.tokens)
    inputs = {}
    with attention_input(made.model, [5], lambda layer, part: inputs.setdefault(layer, part)):
        view = next(view for view in iter_layers(made.model, trace.tokens) if view.layer == 5)
    found = scores_of(view, inputs[5][0, [0, 20]], torch.tensor([0, 20]), 0)
    assert found.parts[2, 0].abs().max() < 1e-4
    assert (found.parts[1, 1] > 0.8 * found.score[1]).all()  # the sink is read for the primary


def test_parts_that_cancel_are_not_lost():
    """A token with nothing along the axis that keys read: the primary's content gives it a part."""
    made = plant([PRIMARY, Plant(pos=20, forming=(3,))], positions="rotary")
    trace = observe(made.model, made.tokens)
    inputs = {}
    with attention_input(made.model, [5], lambda layer, part: inputs.setdefault(layer, part)):
        view = next(view for view in iter_layers(made.model, trace.tokens) if view.layer == 5)
    rows = inputs[5][0, [0, 30]]
    assert not view.run.keys[30].any()
    found = scores_of(view, rows, torch.tensor([0, 30]), 0)
    weights, _ = keys_of(made.model, 5, view.keys.shape[1])
    along = (rows[1] @ rows[0]) / (rows[0] @ rows[0]) * rows[0]
    primary = in_place(view, 30, torch.einsum("m,kmd->kd", along, weights))
    assert primary.abs().max() > 1e-3
    torch.testing.assert_close(found.parts[1, 1], primary)
    torch.testing.assert_close(found.parts[2, 1], -primary)


def test_impossible_requests_are_refused(shared):
    made, _ = shared
    with pytest.raises(EditError, match="top is 0; expected at least 1"):
        reader_heads(*made.asked, top=0)
    with pytest.raises(PlantError, match="out of range; expected some of 0 to 3"):
        plant([PRIMARY, Plant(pos=9, forming=(2,), read_by=(4,))])
    with pytest.raises(PlantError, match="leave out n_kv_heads"):
        plant([replace(PRIMARY, read_by=(0,))], n_kv_heads=2)
    assert detect(made.traces[0]).sinks
