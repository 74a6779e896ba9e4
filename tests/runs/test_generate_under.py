"""Answers under rules: the same draws in all arms, resumed after any cut; bad input in words."""

import json
import math
from importlib import import_module

import pytest
import torch

from secondary_sinks import load_model, read_texts, tokenize
from secondary_sinks.errors import EditError, RunFolderError, TextError
from secondary_sinks.runs.generate import Sampling, continue_text, feed_prompt, generate
from secondary_sinks.runs.generate_under import generate_under
from secondary_sinks.texts import Text
from secondary_sinks.types import Rule
from tests.causal.test_active_rule import between, cosines, slowly
from tests.tiny import save_tiny

PROMPTS = [Text(text_id=f"p{number}", plain=f"Prompt {number}.") for number in range(2)]
DRAWN = Sampling(max_new_tokens=6, temperature=1.0, seed=5)
GREEDY = Sampling(max_new_tokens=6)
runs_under = import_module("secondary_sinks.runs.generate_under")
NOTHING = Rule(layer=0, kind="mask", tau=1.0)


@pytest.fixture(scope="module", params=[None, True], ids=["hooked", "bridge"])
def model(tmp_path_factory, request):
    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"))), "cpu", bridge=request.param)


@pytest.fixture(scope="module")
def rule(model):
    tokens = feed_prompt(model, PROMPTS[0])
    return Rule(layer=0, value=30.0, tau=between(cosines(model, tokens)))


def quiet(line):
    pass


def under(model, arms, **options):
    given = {"sampling": GREEDY, "say": quiet} | options
    return generate_under(model, PROMPTS, arms, **given)


def test_greedy_tokens_are_those_of_whole_passes_without_a_cache(model, rule):
    for one in under(model, {"rule": rule}):
        tokens = one.prompt
        for expected in one.answer.tolist():
            found = cosines(model, tokens)
            met = [pos for pos in range(rule.exempt, len(tokens)) if found[pos] > rule.tau]
            assert int(slowly(model, tokens, rule, met)[-1].argmax()) == expected
            tokens = torch.cat([tokens, torch.tensor([expected])])
        assert one.met.n_met == one.met.n_edited > 0
        assert one.met.n_judged == len(one.tokens) - rule.exempt - 1  # the last token is not read


def test_arms_draw_alike_and_the_first_clean_sample_is_that_of_generate(model, rule, tmp_path):
    arms = {"clean": None, "nothing": NOTHING, "rule": rule}
    found = under(model, arms, sampling=DRAWN, n_samples=2)
    by = {(one.text_id, one.arm, one.sample): one.answer.tolist() for one in found}
    assert len(by) == 12
    for text in PROMPTS:
        clean = [by[text.text_id, "clean", sample] for sample in (0, 1)]
        assert [by[text.text_id, "nothing", sample] for sample in (0, 1)] == clean
        assert clean[0] != clean[1]
        alone = continue_text(model, feed_prompt(model, text), DRAWN, text.text_id)
        assert list(alone.tokens) == clean[0][: len(alone.tokens)]
    assert any(by[key] != by[(key[0], "clean", key[2])] for key in by if key[1] == "rule")


@pytest.mark.parametrize("cut", [1, 700, 10**6])
def test_after_any_cut_the_bytes_are_those_of_one_start(model, rule, tmp_path, cut):
    whole, part, said = tmp_path / "whole.jsonl", tmp_path / "part.jsonl", []
    arms = {"clean": None, "rule": rule}
    first = under(model, arms, out=whole)
    part.write_bytes(whole.read_bytes()[:-cut])
    again = under(model, arms, out=part, say=said.append)
    assert part.read_bytes() == whole.read_bytes()
    assert [one.tokens.tolist() for one in again] == [one.tokens.tolist() for one in first]
    assert [one.met for one in again] == [one.met for one in first]
    assert f"{ {1: 1, 700: 1, 10**6: 4}[cut] } of 4 answers to write" in " ".join(said)
    under(model, arms, out=part, say=said.append)
    assert "0 of 4 answers to write, at most 6 tokens each" in said


def test_the_price_is_said_before_and_what_was_met_after(model, rule):
    said = []
    under(model, {"clean": None, "rule": rule, "none": NOTHING}, say=said.append)
    assert said[0].startswith("2 prompts, 3 arms (clean, rule, none), 1 sample: about ")
    assert said[1] == "6 of 6 answers to write, at most 6 tokens each"
    assert said[2].startswith("[1/6] p0/clean/0: ")
    assert said[-2].startswith("rule: the rule meets ")
    assert said[-1].startswith("none: the rule meets none of ")
    assert said[-1].endswith("tau 1): nothing is edited")


def test_the_file_holds_texts_that_can_be_observed(model, rule, tmp_path):
    found = under(model, {"rule": rule}, out=tmp_path / "a.jsonl")
    for text, one in zip(read_texts(tmp_path / "a.jsonl"), found, strict=True):
        assert text.text_id == f"{one.text_id}/rule/0"
        assert torch.equal(tokenize(text, model.tokenizer).tokens, one.tokens)
        assert one.content == ("" if not one.content.strip() else text.messages[-1]["content"])


def test_answers_of_other_rules_code_or_of_generate_are_not_taken_for_these(
    model, rule, tmp_path, monkeypatch
):
    out = tmp_path / "a.jsonl"
    under(model, {"rule": rule}, out=out)
    before = out.read_bytes()
    for other in ({"rule": NOTHING}, {"rule": rule, "clean": None}):
        with pytest.raises(TextError, match="other settings; choose another --out, or remove"):
            under(model, other, out=out)
    with pytest.raises(TextError, match="other settings"):
        generate(model, PROMPTS, out, GREEDY, quiet)
    assert out.read_bytes() == before
    with pytest.raises(RunFolderError, match="is not a file"):
        under(model, {"rule": rule}, out=tmp_path)
    monkeypatch.setattr(runs_under, "code_version", lambda rooms: "changed")
    with pytest.raises(TextError, match="another model, prompt, version or with other settings"):
        under(model, {"rule": rule}, out=out)


def test_a_prompt_that_is_fed_otherwise_today_is_refused_before_any_answer(
    model, rule, tmp_path, monkeypatch
):
    """A template may write the date: answers to other tokens are not paired with these."""
    out = tmp_path / "a.jsonl"
    under(model, {"clean": None, "rule": rule}, out=out)
    before = out.read_bytes().splitlines(keepends=True)[:2]
    out.write_bytes(b"".join(before))

    def with_date(model, text):
        return torch.cat([torch.tensor([4]), feed_prompt(model, text)])

    monkeypatch.setattr(runs_under, "feed_prompt", with_date)
    with pytest.raises(TextError, match="has other prompt tokens than the chat template"):
        under(model, {"clean": None, "rule": rule}, out=out)
    assert out.read_bytes() == b"".join(before)


FOREIGN = "the line 'p1/rule/0' was not written by generate_under"
CHANGED = {
    "another count": (lambda line: line["met"].update(n_more=1), FOREIGN),
    "no counts": (lambda line: line.update(met=3), FOREIGN),
    "no ids": (lambda line: line.pop("stored_ids"), FOREIGN),
    "a word": (lambda line: line["stored_ids"]["answer"].append("x"), "2: .* lists of token ids"),
    "other ids": (lambda line: line["stored_ids"]["answer"].append(7), "2: the token ids in"),
}


@pytest.mark.parametrize(("change", "said"), CHANGED.values(), ids=CHANGED)
def test_changed_lines_are_refused_by_name(model, rule, tmp_path, change, said):
    out = tmp_path / "a.jsonl"
    under(model, {"rule": rule}, out=out)
    first, second = map(json.loads, out.read_text().splitlines())
    change(second)
    out.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    with pytest.raises(TextError, match=said):
        under(model, {"rule": rule}, out=out)


BAD = {
    "no arm": ({"arms": {}}, r"arms are \[\]; expected at least one name"),
    "slash": ({"arms": {"a/b": None}}, "without a slash"),
    "samples": ({"n_samples": 0, "sampling": DRAWN}, "n_samples is 0; expected at least 1"),
    "greedy": ({"n_samples": 2}, "2 at temperature 0, where all samples are the same"),
}


@pytest.mark.parametrize(("given", "said"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(model, given, said):
    with pytest.raises(TextError, match=said):
        under(model, **{"arms": {"clean": None}} | given)


def test_a_rule_or_prompts_that_cannot_be_are_refused_before_any_work(model):
    with pytest.raises(EditError, match="a rule reads layer 9; expected 0 to 1"):
        under(model, {"clean": None, "rule": Rule(layer=9, value=0.0)}, say=None)
    for prompts in ([], PROMPTS[:1] * 2):
        with pytest.raises(TextError, match="expected at least one, each with an id of its own"):
            generate_under(model, prompts, {"clean": None}, say=quiet)


def test_counts_without_a_cosine_come_back_from_the_file(model, tmp_path):
    everything_exempt = Rule(layer=0, kind="mask", exempt=10_000)
    for _ in range(2):
        (one, _) = under(model, {"rule": everything_exempt}, out=tmp_path / "a.jsonl")
        assert math.isnan(one.met.highest)
        assert one.met.n_judged == 0
