"""More and fewer, where most texts and all texts together say opposite things."""

import pandas as pd
import pytest

from experiments import accuracy, checkpoints, input_controls
from experiments.accuracy import CONTROL, RULE, UNMATCHED
from experiments.counted import OPPOSITE, beside_totals, share_of_sinks
from experiments.ruled import score_rows, sink_rows
from secondary_sinks import Rule
from secondary_sinks.causal import Met
from secondary_sinks.runs import ArmAnswer
from secondary_sinks.statistics import outcome_of, share_over_texts
from tests.experiments.test_replacement import READER, linked

IDS = pd.Series([f"t{number}" for number in range(40)])
ONE_EACH, MANY_IN_FEW = [1] * 40, [0] * 34 + [30] * 6


def by_text(here, there):
    return share_of_sinks(pd.Series(here).to_numpy(), pd.Series(there).to_numpy(), IDS)


@pytest.mark.parametrize(
    ("here", "there", "outcome"),
    [(ONE_EACH, MANY_IN_FEW, "supported"), (MANY_IN_FEW, ONE_EACH, "contradicted")],
)
def test_totals_that_say_the_opposite_leave_it_open(here, there, outcome):
    found = by_text(here, there)
    assert outcome_of(found) == outcome, "by text alone it is decided"
    assert beside_totals(found, sum(here), sum(there)) == ("inconclusive", OPPOSITE)
    assert beside_totals(found, *sorted((1, 2), reverse=outcome == "supported")) == (outcome, "")


def test_fewer_sinks_in_most_texts_are_not_fewer_sinks():
    plain = pd.DataFrame({"text_id": IDS, "n_sinks": ONE_EACH, "n_shared": 0})
    changed = plain.assign(n_sinks=MANY_IN_FEW)
    verdict = input_controls._verdict(input_controls.SHUFFLED, plain, changed)
    assert (verdict.low > 0.5, verdict.outcome) == (True, "inconclusive")
    assert OPPOSITE in verdict.why


def test_more_sinks_at_the_last_checkpoint_of_most_texts_are_not_more_sinks():
    whole = {"n_tokens": 100, "n_primary": 1}
    frame = pd.concat(
        pd.DataFrame({"checkpoint": name, "text_id": IDS, "n_sinks": sinks, **whole})
        for name, sinks in (("first", MANY_IN_FEW), ("last", ONE_EACH))
    )
    verdict = checkpoints._verdict(frame, checkpoints.rates_by(frame, "checkpoint"))
    assert (verdict.low > 0.5, verdict.outcome) == (True, "inconclusive")
    assert OPPOSITE in verdict.why


def arms(column, rule, control, n_short=0):
    """Rows of both arms, one per question; `n_short` are tokens that the control lacks."""
    numbers = {RULE: (rule, 0), CONTROL: (control, n_short)}
    return pd.concat(
        pd.DataFrame({"text_id": IDS, "arm": arm, column: values, "n_edited": 3, "n_short": short})
        for arm, (values, short) in numbers.items()
    )


def test_more_new_sinks_in_most_questions_are_not_more_new_sinks():
    rows = arms("n_new_sinks", [1] * 34 + [0] * 6, MANY_IN_FEW)
    none = accuracy._short(rows)
    verdict = accuracy._worse(accuracy.SINKS, rows, "n_new_sinks", none, "")
    assert (verdict.low > 0.5, verdict.outcome) == (True, "inconclusive")


def test_answers_in_which_only_the_rule_edits_show_nothing():
    """Naively every answer is wrong under the rule alone; but nothing was edited in the control."""
    rows = arms("right", 0.0, 1.0, n_short=9)
    nothing_left_out = accuracy._short(rows) & False
    verdict = accuracy._worse(accuracy.CLAIM, rows, "right", nothing_left_out, "")
    naive = share_over_texts([True] * 40, IDS.tolist(), n_claims=accuracy.N_CLAIMS)
    assert outcome_of(naive) == "supported"
    assert verdict.outcome == "inconclusive"
    assert f"in 40 {UNMATCHED}" in verdict.why
    refuted = accuracy._worse(accuracy.CLAIM, arms("right", 1.0, 0.0, n_short=9), "right",
                              nothing_left_out, "")  # fmt: skip
    assert refuted.outcome == "inconclusive"


def test_a_beginning_that_an_earlier_text_has_too_counts_once():
    observed = linked(with_sink=-0.3, with_mark=0.3)
    tokens = observed.texts[0].tokens
    along = [1.0, *[0.0] * (observed.model.cfg.d_model - 1)]
    rule = Rule(layer=2, value=0.0, tau=0.9, direction=along)
    given = {"text_id": "t", "arm": "clean", "sample": 0, "content": "", "met": Met()}
    answer = ArmAnswer(prompt=tokens[:20], answer=tokens[20:], **given)
    new = [sink_rows(observed, answer, {RULE: rule}, n)[0]["n_new_sinks"] for n in (0, READER + 1)]
    assert new == [1, 0]
    whole, part, nothing = (
        score_rows(observed, "t", tokens[:1], tokens[1:], {RULE: rule}, n)[0] for n in (0, 10, 63)
    )
    assert (whole["n_tokens"], part["n_tokens"], nothing["n_tokens"]) == (63, 53, 0)
    assert part["log_likelihood"] > whole["log_likelihood"]
    assert pd.isna(nothing["loss"])
