"""What the experiments that observe leave out, hold fixed and show, on planted models."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import (
    criterion_check,
    mlp_anatomy,
    mlp_directions,
    norm_and_score,
    norms,
    prefix_entropy,
    primary_weakening,
    separability,
)
from experiments.members import REPEATED, members_of
from experiments.planes import separation
from experiments.shared import observe_fed
from secondary_sinks.errors import AttributionError
from secondary_sinks.questions.answer import AT_CONTROLS
from secondary_sinks.statistics import partial_correlation_within_texts
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from tests.experiments.known import FIVE, attend, garden, strong
from tests.experiments.observed import begin_alike, planted
from tests.marks import exhaustive, thinned
from tests.questions.gardens import PRIMARY, texts, three

CONTROLLED = [norms, mlp_anatomy, prefix_entropy]


@pytest.mark.parametrize("module", thinned(CONTROLLED, CONTROLLED[:1]), ids=lambda m: m.NAME)
def test_without_token_twins_neighbours_are_the_controls(module):
    observed = garden("no twins")
    assert {case.kind for _, case in observed.pairs()} == {"neighbour"}
    rises = module is prefix_entropy  # and less than at the controls
    assert module.run(observed).verdict.outcome == ("contradicted" if rises else "supported")


@pytest.mark.parametrize(
    ("step", "control_step", "outcome"),
    [
        (-0.2, -0.1, "supported"),
        (0.1, 0.2, "contradicted"),  # less than at controls, but it rises
        (-0.1, -0.2, "inconclusive"),
        (-0.1, -0.1, "inconclusive"),
        (0.2, 0.1, "contradicted"),
    ],
)
def test_the_entropy_must_fall_and_fall_more_than_at_controls(step, control_step, outcome):
    steps = pd.DataFrame({"text_id": [f"t{n}" for n in range(12)], "entropy": 2.0})
    steps = steps.assign(step=step, control_step=control_step)
    verdict = prefix_entropy._verdict(steps, garden("plain"))
    assert (verdict.outcome, verdict.value) == (outcome, -step)
    assert (AT_CONTROLS in verdict.why) == (outcome == "inconclusive")


def test_an_mlp_below_the_primary_that_writes_more_is_seen():
    """MLP 1 writes 15 along the sinks' direction, MLP 3 writes 11 and makes primary and sink.

    Naively MLP 3 writes most: against the primary's state at layer 1, MLP 1 writes nothing.
    """

    @torch.no_grad()
    def change(model):
        for layer, factor in ((1, 15 / 12), (3, 11 / 12), (7, 26 / 24)):
            model.blocks[layer].mlp.W_out[1] *= factor

    primary = Plant(pos=0, forming=(3,), strength=400.0)
    sink = Plant(pos=20, forming=(1, 3), strength=24.0, dies=7)
    observed = planted(sink, primary=primary, n_layers=12, n_texts=8, change=change)
    finding = mlp_anatomy.run(observed)
    (most,) = finding.further
    assert most.outcome == "contradicted"
    assert "most is written at sinks by MLP 1 (8)" in most.why
    table = finding.tables["written"].set_index(["text_id", "role", "layer"])["along"]
    assert table["t0", "sink", 1] == pytest.approx(15, rel=1e-3)
    assert table["t0", "sink", 3] == pytest.approx(11, rel=1e-3)
    assert table["t0", "control", 1] == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("module", [mlp_anatomy, mlp_directions, separability])
@pytest.mark.parametrize("layer", [-1, 8])
def test_layers_that_are_not_there_are_refused(module, layer):
    with pytest.raises(AttributionError, match=f"layer {layer} is out of range; expected 0 to 7"):
        module.run(garden("plain"), layer=layer)


def test_sinks_that_could_be_told_by_their_token_alone_support_nothing():
    """A head writes the sinks, whose token stands nowhere else; the MLP writes nothing of them.

    Naively its output separates them from their neighbours: it says which token this is.
    """
    copied = Plant(pos=26, forming=(4,), by="attention")
    finding = separability.run(planted(copied, n_texts=8, twins=0))
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink could be tested: 8 without a token twin" in finding.verdict.why


@pytest.mark.parametrize("module", [mlp_directions, separability])
def test_a_layer_that_creates_no_sink_is_told_with_those_that_do(module):
    finding = module.run(garden("attention"), layer=6)
    assert finding.verdict.outcome == "inconclusive"
    assert finding.verdict.why == (
        "layer 6 creates no secondary sink; layers that create some: 3 (8), 4 (8), 5 (8)"
    )


@exhaustive
def test_only_the_sinks_of_the_layer_are_compared_and_the_others_counted():
    finding = separability.run(garden("attention"))
    assert "16 created at other layers" in finding.verdict.controls
    assert finding.verdict.n_sinks == 7
    assert "1 in the first text" in finding.verdict.controls


def test_a_mlp_that_forms_no_sink_is_not_asked():
    verdict = mlp_directions.run(garden("attention")).verdict
    assert "8 not formed by this MLP" in verdict.controls


@exhaustive
def test_layers_attended_and_length():
    found = {
        name: {
            v.claim: v.outcome for v in norm_and_score.run(garden(name), permutations=999).verdicts
        }
        for name in ("strong live", "strong die", "followed")
    }
    claim = norm_and_score.CLAIM.format(
        norm_and_score.LENGTHS["mlp_norm"], norm_and_score.RESPONSES["attended"]
    )
    assert [found[name][claim] for name in found] == ["supported", "contradicted", "inconclusive"]


def test_a_lifetime_that_follows_the_norm_by_definition_supports_nothing():
    """Heads attend to the planted tokens for their marks, as long as the model is."""
    finding = norm_and_score.run(garden("strong pass longer"), permutations=999)
    table = finding.tables["correlations"].set_index(["length", "response"])
    naive = table.loc["mlp_norm", "lifetime"]
    assert naive["by_definition"]
    assert naive["correlation"] > 0.9
    assert naive["low"] > 0.5
    assert "supported" not in {verdict.outcome for verdict in finding.verdicts}
    assert finding.frame["lifetime"].nunique() == finding.frame["lifetime_norm"].nunique() == 5
    assert finding.frame["lifetime_attention"].nunique() == finding.frame["attended"].nunique() == 1


def test_of_seven_texts_no_correlation_is_claimed():
    observed = planted(*strong(attended=True), change=attend(1), n_texts=7)
    verdict = norm_and_score.run(observed, permutations=999).verdict
    assert verdict.value > 0.8
    assert verdict.outcome == "inconclusive"
    words = "35 sinks in only 7 texts; at least 5 sinks in 8 texts are needed to decide 6"
    assert verdict.why.startswith(words)


@pytest.mark.parametrize(("step", "known"), [(1e-6, False), (1e-2, True)])
def test_lengths_that_differ_by_rounding_show_nothing(step, known):
    sinks = pd.DataFrame({"text_id": "t", "mass": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    sinks = sinks.assign(mlp_norm=60 + step * sinks["mass"] * 10, even_share=[2, 1, 3, 1, 2, 3])
    sinks["l_start"] = 3
    found = norm_and_score._correlation(sinks, "mlp_norm", "mass", 999, 0).interval
    assert math.isnan(found.value) != known
    assert not known or found.value == pytest.approx(1.0)


@exhaustive
def test_who_gets_the_attention_of_a_sink_that_is_removed():
    alone, several = (primary_weakening.run(garden(name)) for name in ("one alone", "fewer texts"))
    # All that the primary gets is what any softmax would give it; three texts decide nothing.
    assert [verdict.outcome for verdict in alone.further[1:]] == ["contradicted"]
    assert [verdict.outcome for verdict in several.further[1:]] == ["inconclusive"]
    restored = {"removed", "removed_cells", "restored", "cells"}
    assert set(several.tables) == {"contrasts", "changes", *restored}
    assert len(several.figures["redistribution"].data) == 3


def test_a_removed_sink_gives_the_primary_back_what_queries_after_it_lost():
    finding = primary_weakening.run(garden("some texts"), edit=["mean"])
    assert finding.further[0].outcome == "supported"
    assert [verdict.n_claims for verdict in finding.verdicts] == [3, 3, 3]
    (row,) = finding.tables["removed"].to_dict("records")
    assert 0.5 * abs(row["change"]) < row["gained"] < 1.1 * abs(row["change"])
    groups = finding.frame[finding.frame["measure"] == "by_query"].groupby("group")["mean"]
    assert groups.last()["after the sink"] < 0.8 * groups.last()["same places, no sink: after"]


def test_the_window_and_the_ways_to_remove_are_options():
    finding = primary_weakening.run(garden("one alone"), window=1, edit=["zero"])
    assert "1 layers from l_start" in finding.verdict.statistic
    assert set(finding.tables["cells"]["edit"]) == {"zero"}


def test_what_the_primary_loses_is_drawn_from_the_creation_layer_on():
    frame = primary_weakening.run(garden("twice"), restore=False).frame
    mass = frame[frame["measure"] == "mass"].set_index("relative")["mean"]
    assert mass[-1] - mass[0] > 5 * abs(mass[-2] - mass[-1])


def test_noise_is_not_told_from_noise():
    """Of as many coordinates as here, a classifier that has seen a text tells all of it."""
    texts = np.array([f"t{number}" for number in range(8) for _ in range(6)])
    roles = np.array(["sink", "control"] * 24)
    told = separation(np.random.default_rng(0).normal(size=(48, 200)), roles, texts)
    assert np.isnan(told[:6]).all()
    assert 0.2 < np.nanmean(told) < 0.8


def test_what_later_texts_say_does_not_judge_an_earlier_one():
    """Two texts of one kind, then two of the other: each other text would teach the rest."""
    texts = np.array([f"t{number}" for number in range(4) for _ in range(2)])
    roles = np.array(["sink", "control"] * 4)
    rows = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0])[:, None]
    right = separation(rows, roles, texts)
    assert right[2:6].tolist() == [1, 1, 0, 0]
    rows[4:] = 0.0
    assert np.array_equal(separation(rows, roles, texts)[:4], right[:4], equal_nan=True)


def test_a_sink_whose_control_all_texts_share_is_left_out():
    """One control in a shared beginning, the sinks after it: it would be known from training."""
    alike = begin_alike(planted(Plant(pos=24, forming=(3,)), n_texts=3), n_alike=9)
    pairs = [(trace, replace(case, control=5)) for trace, case in alike.pairs()]
    assert len(pairs) == 3, "the sinks themselves are distinct"
    asked = SimpleNamespace(n_layers=alike.n_layers, left_out={}, pairs=lambda: pairs)
    members = members_of(asked, None)
    assert members.n_sinks == 1
    assert members.left_out[REPEATED] == 2


def test_twins_that_stand_elsewhere_are_not_separated_by_their_place():
    """Attention tells nothing of the sinks, but twins stand 95 tokens later; naively skill is 1."""
    garden = plant([PRIMARY, *[Plant(pos=p, forming=(3,)) for p in LATER]], twins=0, n_pos=128)
    for pos in LATER:
        garden.tokens[pos + 95] = int(garden.tokens[pos])
    fed = [
        TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed="")
        for number, tokens in enumerate(texts(garden, 10))
    ]
    finding = separability.run(observe_fed(garden.model, fed))
    (before,) = finding.further
    assert before.low > before.line
    assert before.outcome == "inconclusive"
    assert before.why.endswith(separability.AT_PLACES)
    told = finding.tables["told"].set_index(["layer", "point"]).loc[(3, "attn_out")]
    assert (told["placebo"], told["beyond"]) == (1.0, 0.0)


LATER = (10, 13, 16)


def test_without_placebo_pairs_position_is_named():
    verdict = separability.run(garden("attention")).verdict
    assert verdict.low > verdict.line
    assert verdict.outcome == "inconclusive"
    assert verdict.why.endswith(separability.NO_PLACEBO.format(found=4, needed=7))


def test_a_placebo_pair_has_one_id_and_stands_like_sink_and_twin():
    frame = separability.run(garden("plain")).frame
    rows = frame[(frame["layer"] == 3) & (frame["point"] == "mlp_out")]
    one, other = rows[rows["role"] == "sink"], rows[rows["role"] == "control"]
    known = one["placebo_pos"].notna().to_numpy()
    assert 15 < known.sum() <= 24
    tokens = {trace.text_id: trace.tokens for trace in garden("plain").traces}
    used = set()
    for sink, twin in zip(one[known].itertuples(), other[known].itertuples(), strict=True):
        first, second = int(sink.placebo_pos), int(twin.placebo_pos)
        assert tokens[sink.text_id][first] == tokens[sink.text_id][second]
        assert 0.5 <= (second - first) / (twin.pos - sink.pos) <= 2
        assert 0.5 <= (first + 1) / (sink.pos + 1) <= 2
        used |= {(sink.text_id, first), (sink.text_id, second)}
    assert len(used) == 2 * known.sum()
    assert not used & set(zip(rows["text_id"], rows["pos"], strict=True))


@exhaustive
def test_components_come_from_earlier_texts():
    """Each text has a sink that no other has: earlier components hold what they share by chance."""
    observed = planted(*[Plant(pos=pos, forming=(3,)) for pos in FIVE], n_texts=5)
    own = dict(zip([trace.text_id for trace in observed.traces], FIVE, strict=True))
    kept = [s for s in observed.sinks.sinks if s.kind == "primary" or own[s.text_id] == s.pos]
    alone = replace(observed, sinks=replace(observed.sinks, sinks=tuple(kept)))
    known, unknown = (mlp_directions.run(one, components=5) for one in (garden("five"), alone))
    assert (known.verdict.outcome, unknown.verdict.outcome) == ("supported", "inconclusive")
    assert unknown.verdict.n_sinks == 4
    assert known.tables["cut"]["kept_by_sinks"].min() > 0.9
    assert unknown.tables["cut"]["kept_by_sinks"].max() < 0.9


def test_keys_and_values_are_those_of_the_blocks_that_read_the_sink():
    observed = garden("plain")
    row = norms.run(observed).tables["ratios"].iloc[0]
    trace, (_, case) = observed.traces[0], observed.pairs()[0]
    assert case.sink.layers == (3, 4, 5, 6, 7)
    values, control = trace.value_norm[4:8, row["pos"]], trace.value_norm[4:8, row["control_pos"]]
    assert row["value_ratio"] == pytest.approx(float(values.mean() / control.mean()))
    lengths, other = trace.norm[3:8, row["pos"]], trace.norm[3:8, row["control_pos"]]
    assert row["norm_ratio"] == pytest.approx(float(lengths.mean() / other.mean()))


def test_a_text_that_was_not_seen_tells_nothing_alone():
    finding = separability.run(garden("one"))
    assert finding.frame["right"].isna().all()


def test_reasons_of_the_two_criteria():
    frame = criterion_check.run(garden("anisotropic")).frame
    assert set(frame[frame["found"] == "both"]["reason"]) == {"agreement"}
    assert set(frame[frame["found"] == "paper"]["reason"]) == {"not aligned once centred"}
    assert sorted(frame[frame["found"] == "both"]["pos"].unique()) == [12, 24, 36]


def test_a_token_of_a_prompt_that_all_texts_share_is_counted_once():
    """Six texts begin alike up to the one sink: six equal observations would be "supported"."""
    observed = begin_alike(planted(Plant(pos=8, forming=(3,)), n_texts=6), n_alike=9)
    finding = criterion_check.run(observed)
    assert finding.frame["found"].tolist() == ["both"] * 6
    assert finding.frame["copy"].tolist() == [False, *[True] * 5]
    assert finding.tables["reasons"]["count"].sum() == 1
    assert finding.verdict.outcome == "inconclusive"
    assert (finding.verdict.n_sinks, finding.verdict.n_texts) == (1, 1)
    assert "5 copies of tokens in earlier texts" in finding.verdict.controls


def test_sinks_of_an_episode_that_the_paper_does_not_look_at():
    first = Plant(pos=0, forming=(1,), strength=400.0, dies=5)
    late = Plant(pos=0, forming=(6,), strength=480.0)
    observed = planted(*three(forming=(2,), dies=5), late, primary=first, n_layers=10)
    finding = criterion_check.run(observed)
    assert set(finding.frame["found"]) == {"joint"}
    assert set(finding.frame["reason"]) == {"not a sink at the layers that the paper examines"}
    assert finding.verdict.outcome == "contradicted"


def test_norms_by_kind_are_percentiles_over_tokens():
    observed = garden("plain")
    frame = norms.run(observed).frame.set_index(["kind", "layer", "measure"])
    row = frame.loc["secondary", 4, "norm"]
    lengths = pd.Series([t.norm[4, pos].item() for t in observed.traces for pos in (12, 24, 36)])
    assert row["n_tokens"] == 24
    assert row["median"] == pytest.approx(lengths.median())
    assert row["high"] == pytest.approx(lengths.quantile(0.9))
    assert frame.loc["ordinary", 4, "norm"]["n_tokens"] == 8 * (64 - 4)
    assert PRIMARY.strength == pytest.approx(frame.loc["primary", 4, "norm"]["median"], rel=0.02)


@exhaustive
def test_differences_between_texts_alone_support_nothing():
    """Lengths and masses that rise together from text to text, and within texts by chance.

    The same from creation layer to creation layer: the primary is active at others after each.
    """
    rng = np.random.default_rng(0)
    outcomes, naive = [], []
    for run in range(60):
        layer = np.tile(np.repeat([3.0, 5.0], 5), 10)
        level = np.repeat(np.arange(10.0), 10) + 10 * layer
        sinks = pd.DataFrame(
            {
                "text_id": [f"t{n // 10}" for n in range(100)],
                "l_start": layer,
                "mlp_norm": 100 + 40 * level + rng.normal(size=100),
                "mass": 0.02 + 0.02 * level + 0.001 * rng.normal(size=100),
                "even_share": rng.uniform(size=100),
                "censored": "none",
            }
        )
        pooled = np.corrcoef(sinks["mlp_norm"], sinks["mass"])[0, 1]
        assert pooled > 0.9
        within = norm_and_score._correlation(sinks, "mlp_norm", "mass", 999, run)
        told = norm_and_score._verdict("mlp_norm", "mass", within, sinks, garden("none"))
        outcomes.append(told.outcome)
        columns = [sinks[name].tolist() for name in ("mlp_norm", "mass", "even_share", "text_id")]
        pooled_layers = partial_correlation_within_texts(*columns, n_claims=6, permutations=999)
        naive.append(pooled_layers.interval.low > 0 and pooled_layers.p_high < 0.025 / 6)
    assert sum(naive) > 50  # creation layers pooled within texts
    assert outcomes.count("supported") <= 2  # six pairs share 2.5 %; pooled, all 60 are
