"""More and fewer, where most texts and all texts together say opposite things."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from experiments import accuracy, checkpoints, input_controls
from experiments.accuracy import CONTROL, RULE, UNMATCHED
from experiments.counted import OPPOSITE, beside_totals, share_of_sinks
from experiments.ruled import CLEAN, score_rows, sink_rows, tables_of
from experiments.shared import observe_fed
from secondary_sinks import Rule
from secondary_sinks.causal import Met
from secondary_sinks.runs import ArmAnswer
from secondary_sinks.statistics import outcome_of, share_over_texts
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from tests.experiments.test_replacement import READER, linked

IDS = pd.Series([f"t{number}" for number in range(40)])
PRIMARY = Plant(pos=0, forming=(1, 3), strength=800.0)
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
    assert OPPOSITE not in verdict.why, "all answers say the same; only their control is missing"
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


def varied(tokens, n_alike, seed, n_texts=10):
    """Texts with the same first tokens; of the others, the ordinary ones are drawn for each."""
    found = []
    for number in range(n_texts):
        drawn = torch.randint(16, 32, tokens.shape, generator=torch.Generator().manual_seed(seed))
        other = torch.Generator().manual_seed(1000 + 50 * seed + number)
        drawn[n_alike:] = torch.randint(16, 32, drawn[n_alike:].shape, generator=other)
        found.append(torch.where(tokens >= 16, drawn, tokens))
    return found


def both_arms(rule):
    return {CLEAN: None, RULE: rule, CONTROL: replace(rule, control=True)}


def read_under(model, texts, rule):
    """Tables of questions with these prompts and of these texts: the last four tokens answer."""
    fed = [
        TokenizedText(text_id=f"t{n}", tokens=t, feed="raw", fed="") for n, t in enumerate(texts)
    ]
    given = {"arm": CLEAN, "sample": 0, "content": "", "met": Met()}
    answers = [
        ArmAnswer(text_id=one.text_id, prompt=one.tokens[:-4], answer=one.tokens[-4:], **given)
        for one in fed
    ]
    right = {one.text_id: (one.prompt, one.answer) for one in answers}
    asked = [SimpleNamespace(text=one, answer="w1") for one in fed]
    observed = observe_fed(model, fed)
    return (
        observed,
        answers,
        tables_of(observed, asked, right, answers, both_arms(rule), anywhere=False),
    )


def verdict_on_sinks(rows):
    return accuracy._worse(accuracy.SINKS, rows, "n_new_sinks", accuracy._short(rows), "")


@pytest.mark.parametrize(("n_alike", "outcome"), [(50, "inconclusive"), (5, "supported")])
def test_new_sinks_in_a_beginning_that_prompts_share_count_once(n_alike, outcome):
    """If all prompts share the new sink, it is one observation.

    A short beginning, such as a system message, leaves no question out.
    """
    made = linked(with_sink=-0.3, with_mark=0.3)
    model, tokens = made.model, made.texts[0].tokens
    rule = Rule(layer=2, value=0.0, tau=0.9, direction=[1.0, *[0.0] * (model.cfg.d_model - 1)])
    observed, answers, tables = read_under(model, varied(tokens, n_alike, seed=0), rule)
    whole = [row for one in answers for row in sink_rows(observed, one, both_arms(rule))]
    assert verdict_on_sinks(pd.DataFrame(whole)).outcome == "supported", "if each counts"
    new = tables["sinks"].set_index("arm")["n_new_sinks"]
    assert new[RULE].tolist() == [1, *[0 if outcome == "inconclusive" else 1] * 9]
    assert verdict_on_sinks(tables["sinks"]).outcome == outcome


def test_the_loss_of_a_beginning_that_texts_share_counts_once():
    garden = plant([PRIMARY, *(Plant(pos=pos, forming=(3,)) for pos in (20, 30))])
    texts, rule = varied(garden.tokens, 52, seed=0), Rule(layer=3, tau=0.9, value=0.0)
    observed, _, tables = read_under(garden.model, texts, rule)
    whole = [
        row
        for n, text in enumerate(texts)
        for row in score_rows(observed, f"t{n}", text[:1], text[1:], both_arms(rule))
    ]
    naive = accuracy._less_likely(accuracy.TEXTS, pd.DataFrame(whole), "text", "text")
    assert naive.outcome == "supported", "ten texts repeat one measurement"
    first, *others = tables["texts"].set_index("arm")["n_tokens"][RULE]
    assert (first, max(others)) == (63, 12)
    assert (
        accuracy._less_likely(accuracy.TEXTS, tables["texts"], "text", "text").outcome
        == "inconclusive"
    )


def test_a_text_that_is_there_again_is_left_out_and_counted():
    garden = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    texts = [*varied(garden.tokens, 1, seed=0, n_texts=2), *[garden.tokens] * 8]
    *_, tables = read_under(garden.model, texts, Rule(layer=3, tau=0.9, value=0.0))
    verdict = accuracy._less_likely(accuracy.TEXTS, tables["texts"], "text", "text")
    assert verdict.n_texts == 3
    assert "7 with nothing that an earlier one lacks" in verdict.controls
