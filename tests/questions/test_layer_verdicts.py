"""Verdicts: worked by hand, against controls that lose as much, and how often intervals hold."""

import numpy as np
import pandas as pd
import pytest

from secondary_sinks.errors import EditError
from secondary_sinks.questions import layer_effects, layer_verdicts
from secondary_sinks.statistics import median_over_texts, share_over_texts


def table(texts, n_layers=1, per_text=2, edit="mean", last=None, control=0.1):
    """Cells from (share that sinks lose, share that controls lose) by text, equal in all layers.

    A share may be a list, one number per layer; it is of the token's own mass. Sinks have mass 0.1,
    controls mass `control`, and sinks are created at layer `last`, by default the last one.
    """
    last = n_layers - 1 if last is None else last
    rows = []
    for text, (sinks, controls) in enumerate(texts):
        for pos in range(per_text):
            for role, mass, lost in (("sink", 0.1, sinks), ("control", control, controls)):
                for layer in range(n_layers):
                    share = lost[layer] if np.ndim(lost) else lost
                    rows.append(
                        cell(f"t{text}", role, pos, layer, mass, mass * (1 - share), edit, last)
                    )
    return pd.DataFrame(rows)


def cell(text_id, role, sink_pos, layer, clean, edited, edit, last):
    lives = role == "sink" and edited > clean / 2
    return {
        "text_id": text_id,
        "pos": sink_pos + (100 if role == "control" else 0),
        "role": role,
        "kind": "secondary" if role == "sink" else "twin",
        "sink_pos": sink_pos,
        "layer": layer,
        "site": "mlp_out",
        "edit": edit,
        "effect": "direct",
        "lifetime_clean": 3 if role == "sink" else 0,
        "l_start_clean": last if role == "sink" else np.nan,
        "lifetime_edited": 3 if lives else 0,
        "mass_clean": clean,
        "mass_edited": edited,
    }


def test_shares_by_hand():
    (row,) = layer_effects(table([(0.9, 0.1), (0.7, 0.3), (0.8, 0.2)]))
    assert (row.sinks_lost, row.controls_lost) == (pytest.approx(0.8), pytest.approx(0.2))
    assert row.lost == pytest.approx(0.6)
    assert (row.removed, row.n_sinks, row.n_texts, row.n_unmatched) == (1.0, 6, 3, 0)
    assert np.isnan([row.low, row.high]).all()  # a median of three says nothing
    six = [(0.9, 0.1), (0.7, 0.3), (0.8, 0.2), (0.5, 0.0), (0.6, 0.2), (0.9, 0.0)]
    (row,) = layer_effects(table(six))
    assert row.lost == pytest.approx(0.55)  # the median of 0.8, 0.4, 0.6, 0.5, 0.4 and 0.9
    assert (row.low, row.high) == (pytest.approx(0.4), pytest.approx(0.9))


def test_controls_that_lose_as_much_as_sinks_leave_the_claim_open():
    shares = [(0.86, 0.86), (0.85, 0.86), (0.86, 0.85)] * 2
    (verdict,) = layer_verdicts(table(shares))
    assert verdict.outcome == "inconclusive"
    assert (
        "removes 86% of their attention (controls: 86%, in the same units; that they lose more "
        "than a tenth beyond controls is not shown: 0% [-1%, 1%], median over texts)"
    ) in verdict.why


@pytest.mark.parametrize(
    ("lost", "outcome"), [(0.0, "inconclusive"), (0.005, "inconclusive"), (0.2, "supported")]
)
def test_sinks_that_end_but_keep_their_attention_show_no_need(lost, outcome):
    """A sink may end by its norm or direction alone; its attention is not refuted by that either.

    The share that ends is 1 in each case, so no case may be contradicted.
    """
    frame = table([(lost, 0.0)] * 12)
    frame.loc[frame["role"] == "sink", "lifetime_edited"] = 0
    (verdict,) = layer_verdicts(frame)
    assert (verdict.outcome, verdict.value) == (outcome, 1.0)


@pytest.mark.parametrize("noise", [-1.5, 0.4])
def test_an_even_share_that_doubles_or_falls_at_the_control_is_no_loss(noise):
    """Sinks end with 30 % of their attention lost; controls draw 0.0028, and a little more or less.

    In shares of its own mass a control that loses 40 % would lose more than the sinks do.
    """
    frame = table([(0.3, noise)] * 6, control=0.0028)
    frame.loc[frame["role"] == "sink", "lifetime_edited"] = 0
    own = (1 - frame["mass_edited"] / frame["mass_clean"]).groupby(frame["role"]).mean()
    assert (own["sink"] - own["control"] < 0) == (noise > 0)
    (row,), (verdict,) = layer_effects(frame), layer_verdicts(frame)
    assert row.controls_lost == pytest.approx(noise * 0.0028 / 0.1)
    assert row.lost == pytest.approx(0.3 - row.controls_lost)
    assert verdict.outcome == "supported"


def test_ordinary_tokens_are_told_apart_and_change_no_number():
    """A run tries none, the experiment one per sink: the same claim has the same number in both."""
    frame = table([(0.9, 0.1), (0.7, 0.3)] * 3)
    extra = frame[frame["role"] == "control"].assign(kind="ordinary", mass_edited=0.05)
    (run,), (experiment,) = layer_effects(frame), layer_effects(pd.concat([frame, extra]))
    assert (run.lost, run.controls_lost) == (experiment.lost, experiment.controls_lost)
    assert np.isnan(run.ordinary_lost)
    assert experiment.ordinary_lost == pytest.approx(0.5)


def test_a_layer_that_takes_all_from_sinks_only_is_supported():
    shares = [([0.95, 0.0], 0.0), ([0.97, 0.01], 0.01), ([0.96, 0.0], 0.0)] * 3
    verdicts = layer_verdicts(table(shares, n_layers=2))
    assert [(v.outcome, v.claim[-7:]) for v in verdicts] == [("supported", "layer 0")]


def test_the_unit_is_the_text_and_not_the_sink():
    one = layer_effects(table([(0.9, 0.0), (0.7, 0.0), (0.8, 0.0)] * 2, per_text=1))
    many = layer_effects(table([(0.9, 0.0), (0.7, 0.0), (0.8, 0.0)] * 2, per_text=20))
    assert (one[0].removed_low, one[0].n_texts) == (many[0].removed_low, many[0].n_texts)
    assert (one[0].low, one[0].high) == (pytest.approx(many[0].low), pytest.approx(many[0].high))


@pytest.mark.parametrize(("texts", "per_text"), [(2, 9), (5, 9), (4, 1)])
def test_too_few_texts_or_sinks_are_inconclusive(texts, per_text):
    (verdict,) = layer_verdicts(table([(0.95, 0.0)] * texts, per_text=per_text))
    assert verdict.outcome == "inconclusive"


def test_one_text_lists_every_layer_that_was_tried():
    (verdict,) = layer_verdicts(table([([1.0, 0.0, 0.9], 0.0)], n_layers=3))
    assert verdict.outcome == "inconclusive"
    shares = "MLP 0 (100%), MLP 1 (0%), MLP 2 (100%)"
    assert verdict.why.endswith(f"; tried, with the share of sinks that end: {shares}")


def test_one_text_has_no_interval():
    (row,) = layer_effects(table([(0.9, 0.0)]))
    assert np.isnan(row.low)
    assert np.isnan(row.high)


def test_intervals_hold_for_all_layers_together():
    """Each is corrected for four layers; how often such intervals hold is enumerated elsewhere."""
    rng, n_layers, names = np.random.default_rng(0), 4, [f"t{text}" for text in range(12)]
    shares = [(rng.uniform(0, 1, n_layers), 0.0) for _ in names]
    for row in layer_effects(table(shares, n_layers=n_layers, per_text=1)):
        own = [sinks[row.layer] for sinks, _ in shares]
        lost = median_over_texts(own, names, n_claims=n_layers)
        assert (row.low, row.high) == (pytest.approx(lost.low), pytest.approx(lost.high))
        ended = share_over_texts([one >= 0.5 for one in own], names, n_claims=n_layers)
        assert (row.removed_low, row.removed_high) == (ended.low, ended.high)


def test_layers_that_could_not_have_ended_a_sink_are_not_corrected_for():
    """Ten layers, sinks created at layer 1: two claims, whatever comes of the other eight."""
    lost = [0.95, 0.0, *[0.0] * 8]
    (verdict,) = layer_verdicts(table([(lost, 0.0)] * 7, n_layers=10, last=1))
    assert (verdict.outcome, verdict.n_claims) == ("supported", 2)
    (verdict,) = layer_verdicts(table([(lost, 0.0)] * 7, n_layers=10))
    assert (verdict.outcome, verdict.n_claims) == ("inconclusive", 10)
    assert "at least 5 sinks in 9 texts are needed to decide 10 claims" in verdict.why
    (none,) = layer_verdicts(table([([0.0] * 10, 0.0)] * 7, n_layers=10, last=1))
    assert none.outcome == "contradicted"
    assert "none of the 2 MLPs tested is needed" in none.why


def test_cells_that_could_not_have_ended_their_sink_are_left_out_of_the_count():
    """Most sinks are created at layer 0, some at layer 1, where the MLP of layer 1 ends them all.

    Counted as sinks that live on, those of layer 0 would contradict what they say nothing of.
    """
    early = table([([0.0, 0.0], 0.0)] * 8, n_layers=2, last=0)
    late = table([([0.0, 0.95], 0.0)] * 8, n_layers=2, per_text=1, last=1)
    late[["pos", "sink_pos"]] += 50
    frame = pd.concat([early, late])
    first, second = layer_effects(frame)
    assert (first.n_sinks, first.n_impossible, first.removed) == (24, 0, 0.0)
    assert (second.n_sinks, second.n_impossible, second.removed) == (8, 16, 1.0)
    (verdict,) = layer_verdicts(frame)
    claim = "secondary sinks created at layer 1 or later need the MLP of layer 1"
    assert (verdict.claim, verdict.outcome, verdict.n_sinks) == (claim, "supported", 8)


def test_a_layer_at_which_all_was_impossible_has_no_number():
    rows = layer_effects(table([([0.0] * 3, 0.0)] * 6, n_layers=3, last=1))
    assert [(row.n_sinks, row.n_impossible) for row in rows] == [(12, 0), (12, 0), (0, 12)]
    assert np.isnan([rows[2].removed, rows[2].lost, rows[2].shortened, rows[2].sinks_lost]).all()


def test_sinks_of_too_few_texts_decide_nothing_about_their_layer():
    early = table([([0.0, 0.0], 0.0)] * 8, n_layers=2, last=0)
    late = table([([0.0, 0.95], 0.0)], n_layers=2, per_text=1, last=1)
    late[["pos", "sink_pos"]] += 50
    (verdict,) = layer_verdicts(pd.concat([early, late]))
    assert (verdict.outcome, verdict.claim[-7:]) == ("contradicted", "layer 0")
    assert "the MLP tested is not needed" in verdict.why


def test_sinks_without_a_control_are_left_out_and_said():
    frame = table([(0.95, 0.0)] * 6)
    lonely = frame[frame["role"] == "sink"].assign(pos=50, sink_pos=50, mass_edited=0.1)
    (verdict,) = layer_verdicts(pd.concat([frame, lonely]))
    assert verdict.n_sinks == 12
    assert "left out: 6 sinks without a control" in verdict.controls


def test_no_sinks_claim_nothing():
    (verdict,) = layer_verdicts(table([(0.9, 0.0)]).iloc[:0])
    assert (verdict.outcome, verdict.n_sinks) == ("inconclusive", 0)


def test_attention_that_is_unknown_is_left_out():
    frame = table([(0.95, 0.0)] * 4)
    frame.loc[frame["text_id"] == "t0", ["mass_clean", "mass_edited"]] = np.nan
    (row,) = layer_effects(frame)
    assert (row.n_texts, row.n_unmatched) == (3, 2)


def test_the_no_op_is_refused():
    with pytest.raises(EditError, match="none"):
        layer_verdicts(table([(0.9, 0.0)] * 3, edit="none"))


def test_effects_of_mixed_edits_are_refused_but_seeds_are_averaged():
    with pytest.raises(EditError, match=r"mixes edits \['mean', 'zero'\]"):
        layer_effects(several(zero=0.9, mean=0.9))
    seeds = [table([(lost, 0.0)] * 3, edit=f"resample:{n}") for n, lost in enumerate((0.8, 0.6))]
    (row,) = layer_effects(pd.concat(seeds))
    assert (row.lost, row.n_sinks) == (pytest.approx(0.7), 6)


def several(**lost):
    """The same texts with several edits, by the share that sinks lose."""
    return pd.concat([table([(share, 0.0)] * 6, edit=edit) for edit, share in lost.items()])


@pytest.mark.parametrize(
    ("lost", "outcome", "sentence"),
    [
        ({"zero": 0.95, "mean": 0.9}, "supported", "zero and mean agree"),
        ({"zero": 0.05, "mean": 0.02}, "contradicted", "zero and mean agree"),
        ({"zero": 0.95}, "inconclusive", "only zero ablation was tried"),
        ({"zero": 0.95, "mean": 0.02}, "inconclusive", "zero says supported, mean says contra"),
        ({"mean": 0.95}, "supported", "mean was the only edit tried"),
    ],
)
def test_ways_to_ablate_agree_or_the_verdict_says_that_they_dont(lost, outcome, sentence):
    (verdict,) = layer_verdicts(several(**lost))
    assert verdict.outcome == outcome
    assert sentence in verdict.why


def test_sinks_that_keep_their_attention_but_end_are_said_to_need_the_mlp():
    """Two MLPs write a sink that is just enough: without one of them it is none any more."""
    frame = table([(0.3, 0.0), (0.28, 0.01), (0.31, 0.0)] * 2)
    frame.loc[frame["role"] == "sink", "lifetime_edited"] = 0
    (verdict,) = layer_verdicts(frame)
    assert (verdict.outcome, verdict.value) == ("supported", 1.0)
