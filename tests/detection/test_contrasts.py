"""Difference in differences of the primary's attention: by hand, planted, and its error rate."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from secondary_sinks import detect, observe, primary_weakening, redistribution, restoration
from secondary_sinks.detection.contrasts import (
    COPY,
    FEW_AFTER,
    FEW_BEFORE,
    INACTIVE,
    Text,
    contrasts,
)
from secondary_sinks.detection.weakening_verdict import judge
from secondary_sinks.questions.restoration import CLAIM as RETURNS
from secondary_sinks.questions.restoration import judge_cells
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import SinkTable
from tests.detection.traces import sink, trace_of
from tests.marks import exhaustive, needs_old

N_LAYERS, N_POS, CREATED = 10, 40, 5
BASE = trace_of(torch.eye(3).repeat(1, 14, 1)[:, :N_POS].expand(N_LAYERS, N_POS, 3))


def text(name, paid, tokens=None):
    """A text whose queries pay this to the primary at position 0, by *state* layer [layer, pos]."""
    tokens = torch.arange(N_POS) + N_POS * int(name) if tokens is None else tokens
    blocks = np.concatenate([np.full((1, N_POS), np.nan), paid[:-1]])
    paid = torch.tensor(blocks, dtype=torch.float32)
    return replace(BASE, text_id=name, tokens=tokens, paid_to_primary=paid)


def table(positions):
    """In each text a primary, and at these positions (None: nowhere) a secondary sink."""
    sinks = []
    for number, pos in enumerate(positions):
        sinks.append(sink(number, 0, 1, 8, kind="primary"))
        if pos is not None:
            sinks.append(sink(number, pos, CREATED))
    return SinkTable(sinks=tuple(sinks))


def flat(rng=None, noise=0.01):
    chance = rng or np.random.default_rng(0)
    return 0.8 + noise * chance.standard_normal((N_LAYERS, N_POS))


def taken(paid, pos, amount=0.2):
    """What the queries after a sink pay when it takes some of it."""
    changed = paid.copy()
    changed[CREATED:, pos + 1 :] -= amount
    return changed


def found(positions, make, **options):
    texts = [text(str(number), make(number, pos)) for number, pos in enumerate(positions)]
    return primary_weakening(texts, table(positions), **options)


POSITIONS = [10, 12, 14, 16, 18, 20] + [None] * 6


def test_one_level_is_enough_where_sinks_take_from_the_primary():
    rng = np.random.default_rng(1)
    seen = found(POSITIONS, lambda n, pos: flat(rng) if pos is None else taken(flat(rng), pos))
    assert seen.verdict.outcome == "supported"
    assert seen.verdict.value == pytest.approx(-0.2, abs=0.02)
    assert (seen.verdict.n_texts, seen.verdict.confidence) == (6, 0.95)
    assert sorted(one.control for one in seen.contrasts) == ["10", "11", "6", "7", "8", "9"]


def test_what_gives_to_the_primary_contradicts():
    seen = found(POSITIONS, lambda n, pos: flat() if pos is None else taken(flat(), pos, -0.1))
    assert seen.verdict.outcome == "contradicted"


def test_a_fall_that_all_queries_share_is_no_weakening():
    """Queries before the sink lose as much, so the layer is to blame and not the sink."""
    rng = np.random.default_rng(2)

    def fall(number, pos):
        return flat(rng) - 0.3 * (np.arange(N_LAYERS)[:, None] >= CREATED)

    seen = found(POSITIONS, fall)
    assert seen.changes[0].measure == "mass"
    assert all(one.change_before < -0.2 > one.change_after for one in seen.contrasts)
    assert seen.verdict.outcome == "inconclusive"
    assert seen.verdict.low < 0 < seen.verdict.high


def test_a_fall_that_grows_with_the_place_in_the_text_is_told_from_a_sink():
    """Late queries lose more, sink or not: the difference of one text is fooled, pairs are not."""
    rng = np.random.default_rng(3)

    def drift(number, pos):
        created = np.arange(N_LAYERS)[:, None] >= CREATED
        return flat(rng) - 0.01 * created * np.arange(N_POS)

    seen = found(POSITIONS, drift)
    assert all(one.change < -0.1 for one in seen.contrasts)
    assert seen.verdict.outcome == "inconclusive"
    assert abs(seen.verdict.value) < 0.02


def test_the_numbers_by_hand():
    """Two layers before, two after; queries 1 to 9 before the sink at 10, 11 to 39 after it."""
    own, other = flat(), flat(np.random.default_rng(5))
    one = found([10, None], lambda n, pos: other if pos is None else own).contrasts[0]

    def change(paid):
        step = paid[5:7].mean(0) - paid[3:5].mean(0)
        return step[11:].mean() - step[1:10].mean()

    assert one.change == pytest.approx(change(own), abs=1e-6)
    assert one.change_control == pytest.approx(change(other), abs=1e-6)
    assert one.difference == pytest.approx(change(own) - change(other), abs=1e-6)
    assert (one.n_before, one.n_after) == (9, 29)


def test_a_text_with_a_later_sink_serves_up_to_there_and_no_text_serves_twice():
    seen = found([8, 10, 30, 32], lambda n, pos: flat())
    assert {one.text_id: one.control for one in seen.contrasts} == {
        "0": "2",
        "1": "3",
        "2": "",
        "3": "",
    }
    assert seen.contrasts[0].n_after == 30 - 9
    assert "only 2 texts can be paired" in seen.verdict.why
    assert seen.verdict.outcome == "inconclusive"


def test_rounding_is_no_difference():
    """Nothing but the last places differs, and always in the same direction."""
    seen = found(POSITIONS, lambda n, pos: np.full((N_LAYERS, N_POS), 0.8) - 1e-6 * (pos or 0) / 9)
    assert [one.difference for one in seen.contrasts] == [0.0] * 6
    assert seen.verdict.outcome == "inconclusive"


def test_few_pairs_say_nothing_however_large_the_fall():
    positions = [10, 12, 14, 16, 18] + [None] * 5
    seen = found(positions, lambda n, pos: flat() if pos is None else taken(flat(), pos, 0.7))
    assert seen.verdict.outcome == "inconclusive"
    assert "at least 6 are needed" in seen.verdict.why
    assert math.isnan(seen.verdict.low)


def test_three_claims_need_more_pairs_than_one():
    """Six pairs that all agree have p = 1/64, which is too much for one of three claims."""

    def make(number, pos):
        return flat() if pos is None else taken(flat(), pos)

    alone, third = (found(POSITIONS, make, n_claims=claims).verdict for claims in (1, 3))
    assert (alone.outcome, third.outcome) == ("supported", "inconclusive")
    assert "at least 7 are needed" in third.why
    assert (alone.n_claims, third.n_claims) == (1, 3)


def test_a_control_text_with_several_ids_is_used_once():
    """Sinks do nothing; the one control text loses by accident, and its copies just as much."""
    sinks = table([20] * 6 + [None] * 6)
    rng, shifted = np.random.default_rng(4), taken(flat(), 20, 0.3)
    made = [text(str(n), flat(rng)) for n in range(6)]
    copies = [text(str(n), shifted, torch.arange(N_POS) - 500) for n in range(6, 12)]
    seen = primary_weakening([*made, *copies], sinks)
    assert sum(bool(one.control) for one in seen.contrasts) == 1
    assert seen.verdict.outcome == "inconclusive"
    assert "only 1 text can be paired" in seen.verdict.why
    own = [replace(one, tokens=one.tokens + 99 * n) for n, one in enumerate(copies)]
    assert primary_weakening([*made, *own], sinks).verdict.outcome == "contradicted"


def controls_of(*made):
    seen = primary_weakening(made, table([10, 12, None, None]))
    return [one.control for one in seen.contrasts]


def begun_alike(texts, *numbers, until):
    """The texts of these numbers begin with the tokens of the first of them."""
    for number in numbers:
        begun = texts[numbers[0]].tokens[:until]
        texts[number] = replace(
            texts[number], tokens=torch.cat([begun, texts[number].tokens[until:]])
        )
    return texts


def test_of_controls_with_the_same_tokens_before_the_sinks_one_is_used():
    made = [text(str(n), flat()) for n in range(4)]
    assert controls_of(*made) == ["2", "3"]
    assert controls_of(*begun_alike(made, 2, 3, until=35)) == ["3", ""]


def shared_beginning(until, of, shift=0.0):
    """Twenty texts without an effect; those numbered in `of` share their first tokens.

    At the creation layer, attention falls by `shift` in what they share.
    """
    rng, fall = np.random.default_rng(8), np.zeros((N_LAYERS, N_POS))
    fall[CREATED:, :until] = shift
    made = [text(str(n), flat(rng) - fall * (n in of)) for n in range(20)]
    return begun_alike(made, *of, until=until), table([20] * 10 + [None] * 10)


def test_queries_before_the_sink_that_texts_share_are_one_measurement():
    """The shared beginning loses by accident: that is one observation, not ten."""
    for shift in (0.1, -0.1):
        seen = primary_weakening(*shared_beginning(20, range(10), shift))
        assert seen.verdict.outcome == "inconclusive"
        assert sum(bool(one.control) for one in seen.contrasts) == 1
        assert {one.n_repeated for one in seen.contrasts if not one.control} == {20}
        assert "9 texts with too few queries before the sink" in seen.verdict.controls


def test_where_controls_share_the_beginning_too_it_cancels_and_nothing_is_lost():
    """A system prompt, and sinks right after it."""
    seen = primary_weakening(*shared_beginning(20, range(20), 0.1))
    assert [one.n_before for one in seen.contrasts] == [19] * 10
    assert all(one.control for one in seen.contrasts)
    assert "0 texts with too few queries before the sink" in seen.verdict.controls


def test_of_a_short_common_beginning_only_the_queries_in_it_are_dropped():
    seen = primary_weakening(*shared_beginning(5, range(10)))
    assert sorted(one.n_before for one in seen.contrasts) == [15] * 9 + [19]
    assert sorted(one.n_repeated for one in seen.contrasts) == [0] + [5] * 9


def test_texts_with_beginnings_of_their_own_lose_nothing():
    seen = primary_weakening(*shared_beginning(1, range(20)))
    assert [(one.n_before, one.n_after) for one in seen.contrasts] == [(19, 19)] * 10


RUNS = 200
MOST_FALSE = RUNS * (0.025 + 3 * math.sqrt(0.025 * 0.975 / RUNS))
"""Verdicts on one side, of texts without an effect: 2.5 % and three standard deviations."""


@exhaustive
@pytest.mark.parametrize("until", [15, 20])
def test_a_shared_beginning_without_an_effect_is_rarely_judged(until):
    """What ten texts with a sink at 20 share before it goes up or down by chance."""
    rng, said = np.random.default_rng(2), []
    tokens = np.arange(20 * N_POS).reshape(20, N_POS)
    tokens[:10, :until] = tokens[0, :until]
    first = sink("0", 20, CREATED)
    for _ in range(RUNS):
        paid = rng.standard_normal((20, N_LAYERS, N_POS))
        paid[:10, :, :until] = paid[0, :, :until]
        texts = [
            Text(text_id=str(n), tokens=own, primary=0, paid=seen, first=first if n < 10 else None)
            for n, (own, seen) in enumerate(zip(tokens, paid, strict=True))
        ]
        said.append(judge(contrasts(texts, 2), {}, 2).outcome)
    assert max(said.count("supported"), said.count("contradicted")) < MOST_FALSE


def test_skewed_differences_about_a_median_of_zero_are_rarely_judged():
    """Attention gained is skewed; a few large gains must not speak for most texts."""
    rng = np.random.default_rng(0)
    one = found([10, None], lambda n, pos: flat()).contrasts[0]
    for sign in (1, -1):
        said = []
        for drawn in sign * 0.01 * (np.exp(1.5 * rng.standard_normal((RUNS, 10))) - 1):
            pairs = [replace(one, text_id=str(n), difference=d) for n, d in enumerate(drawn)]
            said.append(judge(pairs, {}, 2).outcome)
        assert max(said.count("supported"), said.count("contradicted")) < MOST_FALSE


def test_sinks_without_queries_or_layers_around_them_are_left_out():
    assert not found([3, None], lambda n, pos: flat()).contrasts
    early = SinkTable(sinks=(sink("0", 0, 4, 5, kind="primary"), sink("0", 10, CREATED)))
    assert not primary_weakening([text("0", flat())], early).contrasts
    copy = SinkTable(sinks=(*table([None]).sinks, sink("0", 10, CREATED, copy_of="z")))
    assert not primary_weakening([text("0", flat())], copy).contrasts


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (sink("0", 4, CREATED), FEW_BEFORE),
        (sink("0", 4, 1, copy_of="z"), FEW_BEFORE),
        (sink("0", 5, 1, copy_of="z"), INACTIVE),
        (sink("0", N_POS - 4, CREATED, copy_of="z"), FEW_AFTER),
        (sink("0", 5, CREATED, copy_of="z"), COPY),
    ],
)
def test_why_no_text_can_be_compared_names_the_condition_that_fails(first, reason):
    """The primary is active at layers 1 to 8; queries 1 to 3 stand before a sink at 4."""
    sinks = SinkTable(sinks=(*table([None]).sinks, first))
    seen = primary_weakening([text("0", flat())], sinks).verdict
    said = f"none of 1 text with a secondary sink can be compared: {reason} (1), so no claim"
    assert seen.why.startswith(said)
    assert f"left out: 1 text: {reason} (1)" in seen.controls


def test_texts_that_cannot_be_compared_are_counted_by_reason():
    """A copy whose text has no trace counts too."""
    sinks = (*table([2, 3, None]).sinks, sink("2", 10, CREATED, copy_of="z"))
    sinks = SinkTable(sinks=(*sinks, sink("away", 10, CREATED, copy_of="z")))
    seen = primary_weakening([text(str(n), flat()) for n in range(3)], sinks).verdict
    assert (
        f"4 texts with a secondary sink can be compared: {FEW_BEFORE} (2), {COPY} (2)" in seen.why
    )


@exhaustive
def test_the_error_rate_where_sinks_do_nothing():
    """Heavy tails and drift; sinks anywhere: each side is wrong in at most 2.5 % of runs."""
    rng, said = np.random.default_rng(0), []
    for _ in range(200):
        drift = rng.normal(0, 0.01, (N_LAYERS, 1)) * np.arange(N_POS)
        positions = [*rng.integers(8, 25, 7).tolist(), *[None] * 7]
        own = rng.standard_t(2, 14)

        def make(number, pos, own=own, drift=drift):
            late = (np.arange(N_POS) > 20) * (np.arange(N_LAYERS)[:, None] >= CREATED)
            return 0.5 + drift + 0.1 * own[number] * late

        said.append(found(positions, make).verdict.outcome)
    assert 0 < said.count("supported") / 200 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 200)
    assert said.count("contradicted") / 200 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 200)


PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
SECONDARY = Plant(pos=24, forming=(4,))


def planted(change=None, positions=POSITIONS):
    """Texts of a model with one level; its word stands where `positions` say, or nowhere."""
    options = {"positions": "rotary", "content_queries": True, "n_pos": 48}
    made = plant([PRIMARY, SECONDARY], **options)
    if change:
        change(made.model)
    traces = []
    for number, pos in enumerate(positions):
        chance = torch.Generator().manual_seed(number)
        tokens = torch.randint(16, 32, (48,), generator=chance)
        tokens[0] = made.tokens[0]
        if pos is not None:
            tokens[pos] = made.tokens[SECONDARY.pos]
        traces.append(observe(made.model, tokens, text_id=str(number)))
    return made.model, traces, detect(traces)


def apart(model):
    """Primary and secondary sink have heads of their own; and the primary fades for all queries.

    The last head passes the primary by, the others the secondary sink; so the sink takes nothing
    from the primary. From block 5 on queries look less for sinks: that is when the sink is made.
    """
    marks = {index: 2 + 2 * index for index in (0, 1)}
    for layer, block in enumerate(model.blocks):
        keys = block.attn.W_K.data
        keys[3, marks[0], 4] = -300.0
        keys[:3, marks[1], 4] = -60.0
        if layer > SECONDARY.forming[0]:
            block.attn.b_Q.data[:3, 4] *= 0.7


@needs_old
def test_planted_sinks_that_take_from_the_primary_and_give_it_back():
    model, traces, sinks = planted()
    seen = primary_weakening(traces, sinks)
    assert {one.l_start for one in seen.contrasts} == {4}
    assert seen.verdict.outcome == "supported"
    back = restoration(model, traces, sinks, edits=["mean"])
    assert back.verdicts[0].outcome == "supported"
    (row,) = back.effects.to_dict("records")
    assert row["gained"] == pytest.approx(-row["change"], rel=0.1)
    gained = back.cells.pivot(index="text_id", columns="role", values="gained")
    assert row["gained"] == pytest.approx((gained["sink"] - gained["control"]).median())
    assert "median over texts" in back.verdicts[0].statistic
    alone = redistribution(model, traces, sinks, edits=["mean"]).verdicts[0]
    assert alone.outcome == "contradicted", "nothing but the softmax gives it back"
    assert "as any softmax does" in RETURNS
    few = restoration(model, traces[:5], sinks, edits=["mean"])
    assert few.verdicts[0].outcome == "inconclusive"


def test_a_control_that_gives_back_as_much_refutes_nothing():
    gains = {"sink": 0.010, "control": 0.012}
    rows = [
        {
            "text_id": f"t{n}",
            "edit": edit,
            "role": role,
            "gained": gain,
            "change": -0.02,
            "stays": False,
        }
        for n in range(20)
        for edit in ("zero", "mean")
        for role, gain in gains.items()
    ]
    _, verdict = judge_cells(pd.DataFrame(rows), {}, 1)
    assert (verdict.outcome, round(verdict.value, 3)) == ("inconclusive", -0.002)
    assert "+0.010 of their attention more (with its control removed, +0.012)" in verdict.why


@exhaustive
@needs_old
def test_planted_sinks_that_take_nothing_where_the_primary_fades_for_all():
    model, traces, sinks = planted(apart)
    assert len(sinks.of_kind("secondary").sinks) == 6
    seen = primary_weakening(traces, sinks)
    mass = seen.changes[0]
    assert mass.high < 0, "the plain comparison of layers says that it weakens"
    assert all(one.change < -0.01 for one in seen.contrasts), "one text alone does too"
    assert seen.verdict.outcome == "inconclusive"
    assert abs(seen.verdict.value) < 0.1 * abs(mass.change)
    back = restoration(model, traces, sinks, edits=["zero"])
    assert abs(back.effects["gained"][0]) < 0.1 * abs(mass.change)
    assert back.verdicts[0].outcome != "supported"


@needs_old
def test_without_secondary_sinks_nothing_is_claimed():
    model, traces, sinks = planted(positions=[None] * 7)
    assert primary_weakening(traces, sinks).verdict.outcome == "inconclusive"
    back = restoration(model, traces, sinks, edits=["zero"])
    assert back.verdicts[0].outcome == "inconclusive"
    assert back.cells.empty
