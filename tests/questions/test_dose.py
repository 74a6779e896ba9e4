"""Direction or norm: doses of what is planted, by hand where the arithmetic is known."""

from itertools import pairwise

import pandas as pd
import pytest

from secondary_sinks import norm_dose
from secondary_sinks.errors import EditError
from secondary_sinks.questions.dose import FACTORS, thresholds
from secondary_sinks.questions.dose_verdicts import (
    DIRECTION,
    DOSE,
    LAYERS,
    NORM,
    as_fraction,
    dose_verdicts,
)
from secondary_sinks.testing.planted import Plant
from tests.marks import exhaustive, thinned
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.test_necessity import TRUTHS, garden_of

LEAST = NORM.format(as_fraction(FACTORS[0]))
NEEDED = {
    "one MLP": ("supported", "supported"),
    "two that are needed each": ("inconclusive", "contradicted"),
    "two of which one is enough": ("inconclusive", "contradicted"),
    "a chain": ("supported", "supported"),
    "attention": ("contradicted", "contradicted"),
    "nothing": ("inconclusive", "inconclusive"),
    "norm without direction": ("inconclusive", "inconclusive"),
}
"""Direction, and norm, of the MLP of the creation layer. Where two write, either leaves half of the
output, which draws more than half of the attention."""


@pytest.mark.parametrize(
    "name",
    thinned(list(TRUTHS), ["two of which one is enough", "norm without direction"]),
)
def test_the_verdicts_are_what_was_planted(name):
    answer = norm_dose(*garden_of(name).asked)
    found = outcomes(answer)
    assert "supported" not in (found.pop(LAYERS), found.pop(DOSE)), "at factor 1 they saturate"
    assert found == dict(zip((DIRECTION, LEAST), NEEDED[name], strict=True))


def test_a_part_that_the_mlp_before_needs_as_well_is_no_property_of_this_one():
    """MLP 3 triggers MLP 4, which writes: with either of them turned or shortened there is no sink.

    Turning MLP 3 takes its trigger away. So that a sink ends without a part of MLP 4's output says
    nothing of MLP 4. Naively, both verdicts are supported.
    """
    *_, direction, norm = norm_dose(*Garden(*three(forming=(3, 4), chain=True)).asked).verdicts
    for verdict in (direction, norm):
        assert (verdict.outcome, verdict.n_controls) == ("inconclusive", 24)
        assert verdict.value < 0.25
        assert "of the 24 sinks that have one do" in verdict.why


@pytest.mark.parametrize(
    ("anisotropy", "outcome", "gain"), [(0.0, "inconclusive", "+1%"), (12.0, "supported", "+48%")]
)
def test_attention_that_grows_beyond_the_norm_is_told_from_attention_that_saturates(
    anisotropy, outcome, gain
):
    """The norm before attention makes keys of one length: a state along the sink axis is at its
    most at factor 1 already, unless every token has a long part in common.

    Over all factors, and from 1 up, both rise at every step: rank correlations cannot tell them.
    """
    answer = norm_dose(*Garden(*three(forming=(3,)), anisotropy=anisotropy).asked, seeds=1)
    dose = answer.verdicts[0]
    assert (dose.claim, dose.outcome) == (DOSE, outcome)
    assert dose.value == pytest.approx(1.0)
    assert f"at 4 times the norm, attention changes by {gain} [" in dose.why
    assert "over all factors, most of which take the output away, is 1.00;" in dose.why
    assert outcomes(answer)[LAYERS] == "inconclusive"
    assert outcomes(answer)[LEAST] == "supported", "both need the output"


@exhaustive
def test_a_norm_that_sets_only_the_norm_test_is_no_cause_of_attention():
    """Heads attend to the planted tokens for their marks, whatever is written along the sink axis.

    By the criterion, which asks for norm and direction, sinks live longer with the norm, end when
    shortened and end when turned: the naive verdicts are supported, all three of them.
    """
    answer = norm_dose(*Garden(*three(forming=(3,)), by_marks=True).asked)
    assert "supported" not in outcomes(answer).values()
    assert (outcomes(answer)[DOSE], outcomes(answer)[LEAST]) == ("inconclusive", "contradicted")
    cells = answer.cells[answer.cells["role"] == "sink"]
    dose = cells[cells["test"] == "dose"].groupby("factor")
    assert dose["lifetime_edited"].mean().iloc[[0, -1]].tolist() == [0, 5]
    drawn = dose["mass_edited"].mean().to_numpy()
    assert drawn == pytest.approx(drawn[0], rel=1e-4)
    assert not cells[cells["test"].isin(["least", "turned"])]["is_sink"].any()
    assert cells.loc[cells["test"] != "turned", "draws"].all()  # turned, some hit the mark itself
    assert all("whose definition includes a norm test" in one.why for one in answer.verdicts[:2])


def dosed(*drawn):
    """Cells of ten texts: what the sink draws at each factor; its control draws nothing."""
    return pd.DataFrame(
        {"text_id": f"t{n}", "sink_pos": 3, "role": role, "test": "dose", "factor": factor}
        | dict.fromkeys(("mass_edited", "lifetime_attention_edited", "lifetime_edited"), value)
        | dict.fromkeys(("mass_clean", "lifetime_attention_clean"), 1.0)
        for n in range(10)
        for factor, own in zip(FACTORS, drawn, strict=True)
        for role, value in (("sink", own), ("control", 0.0))
    )


@pytest.mark.parametrize(
    ("drawn", "value", "outcome"),
    [
        *(([0.0] * low + [1.0] * (13 - low), 0.0, "inconclusive") for low in range(9)),  # on or off
        ([0.0] * 8 + [1.0, 0.95, 0.9, 0.86, 0.81], -1.0, "contradicted"),  # 10 % per doubling
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7] + [2.0] * 5, 0.0, "inconclusive"),
        ([0.0] * 8 + [1.0, 1.2, 1.4, 1.6, 1.8], 1.0, "supported"),
        ([1.0] * 9 + [1.2, 1.4, 1.6, 1.8], 1.0, "supported"),
        ([0.0] * 8 + [1.0, 1.02, 1.04, 1.06, 1.08], 1.0, "inconclusive"),  # less than a tenth
        ([0.0] * 12 + [1.0], 0.707, "supported"),
        ([0.0] * 13, 0.0, "inconclusive"),
        ([1.0] * 12 + [0.0], -0.707, "contradicted"),
    ],
)
def test_a_dose_is_judged_where_the_output_is_scaled_up(drawn, value, outcome):
    """Over all factors, the steps have rank correlations of up to 0.87, and the rise and fall too.

    None of them can be told there from attention that grows with the norm.
    """
    for verdict in dose_verdicts(dosed(*drawn), "", {}, 2):
        assert (verdict.outcome, verdict.value) == (outcome, pytest.approx(value, abs=1e-3))


@pytest.mark.parametrize(
    ("own", "control", "beyond"),
    [
        ([1.0] * 5, [0.0, 0.2, 0.4, 0.6, 0.8], -1.0),
        ([1.0] * 5, [0.8, 0.6, 0.4, 0.2, 0.0], 1.0),
        ([1.0, 1.1, 1.2, 1.3, 1.4], [0.0, 0.3, 0.6, 0.9, 1.2], -1.0),
    ],
)
def test_what_only_the_controls_do_is_no_dose(own, control, beyond):
    """Where the sink stays as it is, or rises less than its control, nothing is shown."""
    up = [factor for factor in FACTORS if factor >= 1]
    cells = dosed(*[0.0] * (len(FACTORS) - len(up)), *own)
    at = cells["role"] == "control"
    drawn = cells["factor"].map(dict(zip(up, control, strict=True))).fillna(0.0)
    for name in ("mass_edited", "lifetime_attention_edited"):
        cells.loc[at, name] = drawn[at]
    for verdict in dose_verdicts(cells, "", {}, 2):
        assert (verdict.value, verdict.outcome) == (pytest.approx(beyond), "inconclusive")


@pytest.mark.parametrize(("by_marks", "wanted"), [(False, "inconclusive"), (True, "contradicted")])
def test_sinks_of_the_first_layer_have_no_mlp_before_as_a_control(by_marks, wanted):
    """So it can't be told whether any such disturbance of the token ends them."""
    first = Plant(pos=0, forming=(0,), strength=400.0)
    garden = Garden(*three(forming=(0,)), primary=first, by_marks=by_marks)
    *_, direction, norm = norm_dose(*garden.asked, factors=[0.1, 1.0, 2.0], seeds=1).verdicts
    for verdict, claim in ((direction, DIRECTION), (norm, NORM.format("1/10"))):
        assert (verdict.claim, verdict.outcome) == (claim, wanted)
        assert (verdict.n_controls, verdict.n_sinks) == (0, 24)
        assert "no control with other MLPs" in verdict.controls


@pytest.fixture(scope="module")
def answer():
    return norm_dose(*Garden(*three(forming=(3,), dies=6)).asked)


def test_there_are_at_least_twelve_doses_spaced_evenly_on_a_log_scale():
    ratios = [later / earlier for earlier, later in pairwise(FACTORS)]
    assert len(FACTORS) >= 12
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert 1.0 in FACTORS


def test_at_dose_one_a_sink_is_what_it_was_and_twins_never_are(answer):
    dose = answer.cells[answer.cells["test"] == "dose"]
    same = dose[dose["factor"] == 1.0]
    assert (same["lifetime_edited"] == same["lifetime_clean"]).all()
    assert not dose[dose["role"] == "control"]["is_sink"].any()


def test_direction_without_norm_and_norm_without_direction_do_nothing(answer):
    cells = answer.cells
    least = cells[(cells["test"] == "least") & (cells["role"] == "sink")]
    turned = cells[(cells["test"] == "turned") & (cells["role"] == "sink")]
    assert not least["is_sink"].any()
    assert not turned["is_sink"].any()
    assert set(turned["factor"]) == {1.0, 4.0}
    # Turned at the same norm, the residual is as far from the typical token as it was: about 60.
    at_same = turned[turned["factor"] == 1.0]
    assert at_same["norm_edited"].to_numpy() == pytest.approx(60, rel=0.1)
    made = cells[cells["test"] == "made"].groupby("role")["is_sink"].mean()
    assert made.to_dict() == {"straight": 1.0, "turned": 0.0}


def test_the_threshold_is_where_the_criterion_says(answer):
    """Outlying means three times the median distance of 6.3 from the typical token: 19 of 60."""
    factor, norm, drawn, _ = answer.tables["threshold"].to_dict("records")
    assert [factor["by"], drawn["by"]] == ["sink", "attention"]
    assert factor["low"] <= 19 / 60 <= factor["high"]
    assert norm["value"] == pytest.approx(60 * factor["value"], rel=0.01)
    assert (factor["n_sinks"], factor["n_below"], factor["n_never"]) == (24, 0, 0)
    assert factor["low"] < factor["value"] < factor["high"]


def test_the_threshold_in_norm_is_of_the_mlp_of_the_creation_layer():
    """Of two MLPs that write 12 each, the second is scaled: half of what the sink has."""
    answer = norm_dose(*Garden(*three(forming=(2, 3), strength=24.0), n_texts=3).asked)
    factor, norm, *_ = answer.tables["threshold"].to_dict("records")
    assert norm["value"] == pytest.approx(12 * factor["value"], rel=0.1)
    doses = answer.cells[answer.cells["test"] == "dose"]
    assert set(doses["layers"]) == {(3,)}


def test_the_threshold_counts_what_it_cannot_tell():
    garden = Garden(*three(forming=(3,)), n_texts=3)
    answer = norm_dose(*garden.asked, factors=[0.01, 0.02, 0.9, 1.0, 1.1], seeds=1)
    doses = answer.cells[answer.cells["test"] == "dose"]
    places = zip(doses["text_id"], doses["sink_pos"], strict=True)
    written = dict.fromkeys(places, 60.0)
    low = thresholds(doses[doses["factor"] < 0.1], written)
    high = thresholds(doses[doses["factor"] > 0.1], written)
    assert low["n_never"].tolist() == [9] * 4
    assert high["n_below"].tolist() == [9] * 4
    assert low["value"].isna().all()
    assert high["value"].isna().all()


@pytest.mark.parametrize("factors", [[1.0], [2.0, 1.0], [0.0, 1.0, 2.0], [1.0, 1.0], [0.1, 1.0]])
def test_doses_are_positive_and_ascend_and_two_scale_up(factors):
    with pytest.raises(EditError, match="ascending"):
        norm_dose(*Garden(n_texts=1).asked, factors=factors)
