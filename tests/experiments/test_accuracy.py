"""Answers with sinks edited: planted models in which sinks carry the answer, or only seem to."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from experiments import accuracy
from experiments.accuracy import CLAIM, CONTROL, LIKELY, RULE, SINKS, TEXTS, TOO_FEW
from experiments.ruled import sink_rows
from secondary_sinks import Rule
from secondary_sinks.causal import Met
from secondary_sinks.errors import TextError
from secondary_sinks.runs import ArmAnswer
from secondary_sinks.testing.planted import Plant
from secondary_sinks.texts import read_questions
from tests.experiments.observed import planted
from tests.experiments.test_replacement import READER, linked
from tests.marks import exhaustive

SINK_HEAD, OTHER_HEAD, LAYER, N_PROMPT, OWN_TOKEN = 1, 2, 3, 15, 12
SINK_AXIS, OTHER_AXIS = 5, 17
RIGHT, WRONG = 20, 21
PRIMARY = Plant(pos=0, forming=(1, LAYER), strength=800.0, read_by=(0,))
PLANTS = [
    *(Plant(pos=p, forming=(LAYER,), read_by=(SINK_HEAD,), value=20.0) for p in range(3, 9)),
    Plant(pos=10, forming=(LAYER,), sideways=True, read_by=(OTHER_HEAD,), value=40.0),
    *(Plant(pos=pos, forming=(LAYER,), read_by=(SINK_HEAD,)) for pos in (24, 36)),
]
"""In prompts of 15 tokens: six sinks, and six others, of which that at 10 tells something else."""
WEIGHTS = {"sinks": (1.0, 0.0, 3.0), "other": (0.0, 1.0, -0.3), "both": (1.0, 1.8, 6.7)}
"""How much the right answer needs of what the sinks tell and of what the other token tells, and
the logit of the wrong answer. "both": neither is enough, so that every edit ends right answers."""


def answering(needs):
    """The model, the observed texts, and a tokenizer with one word for each token id."""
    told_by_sinks, told_by_other, limit = WEIGHTS[needs]

    @torch.no_grad()
    def change(model):
        sinks, other = (torch.zeros(model.cfg.d_model) for _ in range(2))
        for block in model.blocks[LAYER + 1 :]:
            values, written = block.attn.W_V, block.attn.W_O
            values[:, OTHER_AXIS] = values[:, OTHER_AXIS].roll(1, -1)
            sinks += values[SINK_HEAD, SINK_AXIS] @ written[SINK_HEAD]
            other += values[OTHER_HEAD, OTHER_AXIS] @ written[OTHER_HEAD]
        sinks /= sinks.norm()
        other -= other @ sinks * sinks
        model.unembed.W_U.zero_()
        model.unembed.W_U[:, RIGHT] = told_by_sinks * sinks + told_by_other * other / other.norm()
        model.unembed.b_U.fill_(-100.0)
        model.unembed.b_U[RIGHT], model.unembed.b_U[WRONG] = 0.0, limit

    observed = planted(*PLANTS, primary=PRIMARY, change=change, n_texts=8)
    words = {f"w{number}": number for number in range(observed.model.cfg.d_vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    observed.model.tokenizer = fast
    return observed


def asked_of(observed, folder):
    """The first tokens of each text, as questions with the same right answer, but one of their own.

    Otherwise all texts would ask the same question.
    """
    lines = []
    for number, text in enumerate(reversed(observed.texts)):
        tokens = text.tokens[:N_PROMPT].tolist()
        tokens[OWN_TOKEN] = 24 + number
        words = " ".join(f"w{token}" for token in tokens)
        lines.append({"id": text.text_id, "prompt": words, "answer": f"w{RIGHT}"})
    (folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "q.jsonl")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Ask questions of a model, once for all tests."""
    made = {}

    def ask(needs):
        if needs not in made:
            observed, folder = answering(needs), tmp_path_factory.mktemp(needs)
            said = []
            told = replace(observed, folder=folder, say=said.append)
            questions = asked_of(observed, folder)
            options = {"questions": questions, "mask": True, "tau": 0.9, "max_new_tokens": 1}
            made[needs] = told, options, accuracy.run(told, **options), said
        return made[needs]

    return ask


def outcomes(finding):
    assert [one.claim for one in finding.verdicts] == [CLAIM, LIKELY, SINKS, TEXTS]
    return [one.outcome for one in finding.verdicts]


def shares(finding):
    return finding.frame.set_index("row")["value"].to_dict()


def test_answers_that_sinks_carry_go_wrong_without_them(run):
    *_, finding, said = run("sinks")
    assert shares(finding) == {"clean": 1.0, RULE: 0.0, CONTROL: 1.0}
    assert outcomes(finding)[:2] == ["supported", "supported"]
    scores = finding.tables["scores"].set_index("arm")["log_likelihood"].groupby("arm").median()
    assert scores[RULE] < -2 < -0.1 < scores[CONTROL]
    assert "rule: the rule meets 48 of 96 tokens" in said
    assert "control: the rule meets 48 of 96 tokens; 48 others are edited" in said
    assert "right answers: 100% clean, 0% rule, 100% control" in finding.verdict.why
    verdict = finding.verdict
    assert (verdict.n_sinks, verdict.counted, verdict.grouped) == (48, "edited token", "question")
    assert set(finding.frame.columns) == set(finding.columns)


@exhaustive
def test_sinks_that_matter_less_than_other_tokens_are_not_blamed(run):
    *_, finding, _ = run("other")
    assert shares(finding) == {"clean": 1.0, RULE: 1.0, CONTROL: 0.0}
    assert outcomes(finding)[:2] == ["contradicted", "contradicted"]


@exhaustive
def test_where_any_edit_ends_right_answers_their_loss_shows_nothing_of_sinks(run):
    """Compared with no edit, the sinks would seem to carry every answer."""
    *_, finding, _ = run("both")
    assert shares(finding) == {"clean": 1.0, RULE: 0.0, CONTROL: 0.0}
    assert outcomes(finding)[0] == "inconclusive"
    assert "rule and control differ in 0 of 8 questions" in finding.verdict.why
    assert "8 in which the two are equal" in finding.verdict.controls


def test_an_interrupted_start_goes_on_and_ends_alike(run):
    told, options, finding, _ = run("sinks")
    kept, said = told.folder / "accuracy.answers.jsonl", []
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    again = accuracy.run(replace(told, say=said.append), **options)
    assert kept.read_bytes() == whole
    assert any(re.match("1[1234] of 24 answers to write", line) for line in said)
    assert again.verdicts == finding.verdicts
    for name, table in finding.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])
    with pytest.raises(TextError, match="other settings; choose another --out, or remove the file"):
        accuracy.run(told, **options | {"tau": 0.8})


@exhaustive
def test_a_rule_that_meets_nothing_or_cannot_be_is_said(run):
    told, options, *_ = run("sinks")
    alone = replace(told, folder=None)
    finding = accuracy.run(alone, **options | {"tau": 1.0})
    assert finding.verdict.outcome == "inconclusive"
    assert "the rule meets none of 96 tokens (highest cosine 0.99, tau 1)" in finding.verdict.why
    nearly_all = accuracy.run(alone, **options | {"tau": -0.999})
    assert outcomes(nearly_all) == ["inconclusive"] * 4
    assert f"8 {TOO_FEW}" in nearly_all.verdict.controls
    silent = accuracy.run(alone, **options | {"layer": 7})
    assert silent.verdict.why.startswith("layer 7 creates no secondary sink")


def test_a_rule_that_only_texts_meet_still_tells_how_likely_they_are(run):
    told, options, *_ = run("sinks")
    short = read_questions(options["questions"])[0]
    words = {"prompt": " ".join(short.text.plain.split()[:3]), "answer": short.answer}
    place = told.folder / "short.jsonl"
    place.write_text(json.dumps(words))
    finding = accuracy.run(replace(told, folder=None), **options | {"questions": str(place)})
    *asked, texts = finding.verdicts
    assert all(one.lacks.startswith("no edited token could be tested (1 ") for one in asked)
    assert (texts.n_texts, texts.grouped, texts.lacks) == (8, "text", "")


def test_a_prompt_that_is_asked_twice_is_refused_before_any_work(run, tmp_path):
    told, options, *_ = run("sinks")
    lines = Path(options["questions"]).read_text().splitlines()
    again = json.dumps(json.loads(lines[0]) | {"id": "again"})
    (tmp_path / "twice.jsonl").write_text("\n".join([*lines, again]))
    with pytest.raises(TextError, match="'t7' and 'again', the same; expected each once"):
        accuracy.run(told, **options | {"questions": str(tmp_path / "twice.jsonl")})


def test_a_right_answer_that_does_not_fit_is_refused_before_any_work(run):
    told, options, *_ = run("sinks")
    long = {"id": "q", "prompt": "w1", "answer": " ".join(["w2"] * told.model.cfg.n_ctx)}
    (told.folder / "long.jsonl").write_text(json.dumps(long))
    silent = replace(told, folder=None, say=None)
    with pytest.raises(TextError, match="question 'q' has 65 tokens with its right answer"):
        accuracy.run(silent, **options | {"questions": str(told.folder / "long.jsonl")})


def test_a_template_that_fails_is_an_error_of_this_experiment_not_of_its_price():
    """`experiments.all` asks for prices first, and records a failed experiment."""
    observed = answering("sinks")
    observed.model.tokenizer.chat_template = "{{ raise_exception('roles alternate') }}"
    assert accuracy.cost(observed).recomputed == 0
    with pytest.raises(TextError, match="roles alternate"):
        accuracy.run(observed)


def test_without_a_template_nothing_is_asked_and_nothing_costs():
    observed = planted(*PLANTS, primary=PRIMARY, n_texts=2)
    finding = accuracy.run(observed)
    assert (
        finding.verdict.why
        == "answering needs a tokenizer with a chat template; the model has none"
    )
    assert accuracy.cost(observed).recomputed == 0
    assert "creates no secondary sink" in accuracy.run(planted(n_texts=2)).verdict.why


def new_sinks(observed, answer, rule, control=None):
    arms = {"clean": None, RULE: rule, CONTROL: control or replace(rule, control=True)}
    return [row["n_new_sinks"] for row in sink_rows(observed, answer, arms)]


def test_new_sinks_are_those_that_the_rule_makes_of_other_tokens():
    observed = linked(with_sink=-0.3, with_mark=0.3)
    tokens = observed.texts[0].tokens
    along = [1.0, *[0.0] * (observed.model.cfg.d_model - 1)]
    rule = Rule(layer=2, value=0.0, tau=0.9, direction=along)
    answer = ArmAnswer(
        text_id="t",
        arm="clean",
        sample=0,
        prompt=tokens[:20],
        answer=tokens[20:],
        content="",
        met=Met(),
    )
    assert new_sinks(observed, answer, rule) == [1, 0]
    assert new_sinks(observed, answer, replace(rule, tau=1.0)) == [0, 0]
    edits_it = replace(rule, tau=-1.0, exempt=READER, value=5.0)
    assert new_sinks(observed, answer, rule, edits_it) == [0, 0], "it counts in neither or in both"
