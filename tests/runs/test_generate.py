"""Answers of a tiny model: those of transformers, seeded, and the same after any interruption."""

import json
import re

import pytest
import torch
import transformers as hf

from secondary_sinks import load_model, read_texts, tokenize
from secondary_sinks.errors import ModelError, RunFolderError, SinkWarning, TextError
from secondary_sinks.layerwise.cached_generation import Continuation, end_tokens
from secondary_sinks.runs.generate import (
    Answer,
    Sampling,
    _choose,
    continue_text,
    generate,
    read_prompts,
)
from secondary_sinks.texts import Text
from tests.tiny import N_CTX, save_tiny

PROMPTS = [Text(text_id=f"p{number}", plain=f"Prompt {number}.") for number in range(3)]
SHORT = Sampling(max_new_tokens=12)
DRAWN = Sampling(max_new_tokens=12, temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=[None, True], ids=["hooked", "bridge"])
def model(folder, request):
    return load_model(str(folder), "cpu", bridge=request.param)


@pytest.fixture(scope="module")
def hooked(folder):
    return load_model(str(folder), "cpu")


def test_greedy_tokens_are_those_of_transformers(model, folder):
    tokens = torch.tensor([256, *range(40, 60)])
    answer = continue_text(model, tokens, Sampling(max_new_tokens=40), "t")
    new, ended = list(answer.tokens), answer.ended_by is not None
    original = hf.AutoModelForCausalLM.from_pretrained(folder)
    expected = original.generate(tokens[None], max_new_tokens=40, do_sample=False, pad_token_id=257)
    theirs = expected[0, len(tokens) :].tolist()
    assert [*new, 257][: len(theirs)] == theirs if ended else new == theirs
    assert len(new) > 5


def test_a_token_that_can_also_pad_is_read_as_any_other(model):
    tokens = torch.tensor([256, *range(40, 60), 257])
    assert model.tokenizer.pad_token_id == 257
    with torch.no_grad():
        expected = model(tokens[None])[0, -1]
    torch.testing.assert_close(Continuation(model).read(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-40, 5e-324, 1e-9])
def test_the_smallest_temperatures_draw_the_likeliest_token(temperature):
    logits = torch.tensor([-3.0, 7.0, 6.9, -1e30])
    assert _choose(logits, temperature, torch.Generator().manual_seed(1)) == 1


def test_tokens_are_drawn_as_softmax_has_them():
    chance = torch.Generator().manual_seed(1)
    logits = torch.tensor([0.0, 2.0, 1.0]) + 500
    drawn = torch.tensor([_choose(logits, 2.0, chance) for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    assert torch.allclose(shares, (logits / 2).softmax(0), atol=0.03)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused(temperature, wrong):
    logits = torch.tensor([1.0, wrong, 2.0])
    with pytest.raises(ModelError, match="hold NaN or infinity"):
        _choose(logits, temperature, torch.Generator())


FOREIGN = {
    "deep": '{"id": ' + "[" * 100_000,
    "messages a number": '{"id": "p0", "made": {}, "messages": 3}',
    "id a list": '{"id": [1], "made": {}, "messages": []}',
    "null": '{"id": null}',
    "a list": '{"id": 1}, []',
}


@pytest.mark.parametrize("line", FOREIGN.values(), ids=FOREIGN)
def test_lines_of_others_are_one_error(line, hooked, tmp_path):
    out = tmp_path / "long.jsonl"
    out.write_text(line + "\n")
    with pytest.raises(TextError, match="line 1 was not written by generate"):
        generate(hooked, PROMPTS, out, SHORT, print)
    assert out.read_text() == line + "\n"


def test_an_answer_ends_where_the_model_ends_it_and_with_the_context(hooked):
    tokens = torch.arange(40, 60)
    new = continue_text(hooked, tokens, Sampling(max_new_tokens=9), "t").tokens
    assert continue_text(hooked, tokens, Sampling(max_new_tokens=9), "t").ended_by is None
    assert len(new) == 9
    hooked.tokenizer.eos_token_id = new[0]
    try:
        ended = continue_text(hooked, tokens, Sampling(max_new_tokens=9), "t")
        assert ended == Answer(tokens=(), ended_by=new[0])
    finally:
        hooked.tokenizer.eos_token = "</s>"
    long = torch.arange(N_CTX - 3) % 200
    assert len(continue_text(hooked, long, Sampling(max_new_tokens=9), "t").tokens) <= 3


def test_what_is_written_can_be_read_and_fed(hooked, tmp_path):
    out, said = tmp_path / "long.jsonl", []
    assert generate(hooked, PROMPTS, out, DRAWN, said.append) == 3
    assert said[0] == "3 of 3 answers to write, at most 12 tokens each"
    texts = read_texts(out)
    assert [text.text_id for text in texts] == ["p0", "p1", "p2"]
    assert texts[1].messages[0] == {"role": "user", "content": "Prompt 1."}
    assert len(tokenize(texts[1], hooked.tokenizer).tokens) > 12


def written(hooked, out, sampling=DRAWN):
    generate(hooked, PROMPTS, out, sampling, lambda line: None)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_the_ids_that_were_read_and_written_are_fed_as_they_are(hooked, tmp_path):
    lines = written(hooked, tmp_path / "long.jsonl")
    for text, line in zip(read_texts(tmp_path / "long.jsonl"), lines, strict=True):
        stored = line["stored_ids"]
        fed = tokenize(text, hooked.tokenizer)
        assert fed.tokens.tolist() == stored["prompt"] + stored["answer"]
        assert (fed.feed, fed.fed) == ("ids", hooked.tokenizer.decode(fed.tokens.tolist()))
        prompt = hooked.tokenizer.apply_chat_template(
            line["messages"][:1], add_generation_prompt=True, return_dict=False
        )
        assert stored["prompt"] == prompt
        answer = continue_text(hooked, torch.tensor(prompt), DRAWN, text.text_id)
        assert stored["answer"] == list(answer.tokens)
        assert tokenize(text, hooked.tokenizer, "raw").feed == "raw"


def test_special_tokens_inside_of_an_answer_are_kept(hooked, tmp_path, monkeypatch):
    inside = [40, hooked.tokenizer.bos_token_id, 41]  # as </think> or <|channel|>
    answer = Answer(tokens=tuple(inside), ended_by=257)
    monkeypatch.setattr("secondary_sinks.runs.generate.continue_text", lambda *_: answer)
    (line, *_) = written(hooked, tmp_path / "long.jsonl")
    assert line["messages"][-1]["content"] == hooked.tokenizer.decode(inside)
    assert "<s>" in line["messages"][-1]["content"]
    assert line["stored_ids"]["answer"] == [*inside, 257]
    assert line["ended_by"] == {"id": 257, "token": "</s>"}


STALE = {
    "another text": (lambda one: one["messages"][0].update(content="Other."), "was changed after"),
    "another tokenizer": (
        lambda one: one["stored_ids"].update(tokenizer_sha256="ab" * 32),
        r"'p0' holds token ids of another tokenizer \(abababababab; that of the model is",
    ),
    "no number": (lambda one: one["stored_ids"]["answer"].append("x"), "lists of token ids"),
    "true": (lambda one: one["stored_ids"]["answer"].append(True), "lists of token ids"),
    "negative": (lambda one: one["stored_ids"]["answer"].append(-1), "lists of token ids"),
    "huge": (lambda one: one["stored_ids"]["answer"].append(2**40), "lists of token ids"),
    "other ids": (lambda one: one["stored_ids"].update(answer=[7] * 6), "ids in 'stored_ids' were"),
    "other prompt": (lambda one: one["stored_ids"]["prompt"].append(7), "ids in 'stored_ids' were"),
    "a key too few": (lambda one: one["stored_ids"].pop("answer"), "must be an object with"),
}


@pytest.mark.parametrize("name", STALE)
def test_stored_ids_that_do_not_belong_to_the_text_or_model_are_refused(hooked, tmp_path, name):
    change, said = STALE[name]
    line, *_ = written(hooked, tmp_path / "long.jsonl", SHORT)
    change(line)
    (tmp_path / "changed.jsonl").write_text(json.dumps(line))
    with pytest.raises(TextError, match=said):
        tokenize(read_texts(tmp_path / "changed.jsonl")[0], hooked.tokenizer)


@pytest.mark.parametrize("bridge", [None, True], ids=["hooked", "bridge"])
@pytest.mark.parametrize("listed", [True, False], ids=["list", "number"])
def test_every_end_token_of_the_generation_config_ends_an_answer(tmp_path, bridge, listed):
    save_tiny(tmp_path)
    tokens = torch.arange(40, 60)
    new = continue_text(load_model(str(tmp_path), "cpu"), tokens, SHORT, "t").tokens
    config = {"eos_token_id": [257, new[3]] if listed else new[3]}
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    model = load_model(str(tmp_path), "cpu", bridge=bridge)
    first = new.index(new[3])
    assert end_tokens(model) == {257, new[3]}
    ended = Answer(tokens=new[:first], ended_by=new[3])
    assert continue_text(model, tokens, SHORT, "t") == ended


BROKEN_CONFIGS = {
    "cut": ('{"eos_token_id": ', "is broken JSON"),
    "a list": ("[1]", "holds a list; expected a JSON object"),
    "a key twice": ('{"eos_token_id": [3, 4], "eos_token_id": 5}', "key 'eos_token_id' appears"),
    "a word": ('{"eos_token_id": [1, "</s>"]}', "holds '</s>'; expected ids of at least 0"),
    "a truth value": ('{"eos_token_id": true}', "holds True; expected ids of at least 0"),
    "an object": ('{"eos_token_id": {"id": 1}}', "holds {'id': 1}; expected ids"),
}


@pytest.mark.parametrize("bridge", [None, True], ids=["hooked", "bridge"])
@pytest.mark.parametrize(("content", "said"), BROKEN_CONFIGS.values(), ids=BROKEN_CONFIGS)
def test_a_broken_generation_config_is_said_at_load_and_refused_here(
    tmp_path, content, said, bridge
):
    save_tiny(tmp_path)
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.warns(SinkWarning, match=rf"generation_config.json'.*{re.escape(said)}"):
        model = load_model(str(tmp_path), "cpu", bridge=bridge)
    with pytest.raises(ModelError, match=rf"cannot generate text.*{re.escape(said)}"):
        generate(model, PROMPTS, tmp_path / "long.jsonl", SHORT)
    assert not (tmp_path / "long.jsonl").exists()


def test_end_tokens_of_another_model_are_refused(tmp_path):
    save_tiny(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 400]}')
    model = load_model(str(tmp_path), "cpu")
    with pytest.raises(ModelError, match="its eos_token_id holds 400; expected ids from 0 to 257"):
        generate(model, PROMPTS, tmp_path / "long.jsonl", SHORT)


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_after_any_cut_the_bytes_are_those_of_one_start(hooked, tmp_path, cut):
    whole, part, said = tmp_path / "whole.jsonl", tmp_path / "part.jsonl", []
    generate(hooked, PROMPTS, whole, DRAWN, said.append)
    part.write_bytes(whole.read_bytes()[:-cut])
    said.clear()
    made = generate(hooked, PROMPTS, part, DRAWN, said.append)
    assert part.read_bytes() == whole.read_bytes()
    assert made == (3 if cut == 10_000 else 1)
    assert any("is incomplete" in line for line in said) == (cut != 10_000)
    assert generate(hooked, PROMPTS, part, DRAWN, said.append) == 0


def test_two_at_once_into_one_file_are_refused(hooked, tmp_path):
    out = tmp_path / "long.jsonl"

    def say(line):
        with pytest.raises(RunFolderError, match=r"another run is writing to .*long\.jsonl"):
            generate(hooked, PROMPTS, out, SHORT, lambda line: None)

    assert generate(hooked, PROMPTS, out, SHORT, say) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["long.jsonl"]
    assert out.read_text().count("\n") == 3


def test_seeds_are_by_prompt(hooked):
    tokens = torch.arange(40, 60)
    one = continue_text(hooked, tokens, DRAWN, "a")
    assert one == continue_text(hooked, tokens, DRAWN, "a")
    assert one != continue_text(hooked, tokens, DRAWN, "b")
    other = Sampling(max_new_tokens=12, temperature=1.0, seed=6)
    assert one != continue_text(hooked, tokens, other, "a")


def test_another_setting_prompt_or_file_is_refused(hooked, tmp_path):
    out = tmp_path / "long.jsonl"
    generate(hooked, PROMPTS, out, SHORT, lambda line: None)
    before = out.read_bytes()
    with pytest.raises(TextError, match="line 1 was made by another model, prompt, version or"):
        generate(hooked, PROMPTS, out, DRAWN, lambda line: None)
    with pytest.raises(TextError, match="another model, prompt"):
        generate(hooked, [Text(text_id="p0", plain="Other.")], out, SHORT, lambda line: None)
    assert out.read_bytes() == before
    out.write_text('{"text": "mine"}\n')
    with pytest.raises(TextError, match="line 1 was not written by generate"):
        generate(hooked, PROMPTS, out, SHORT, lambda line: None)
    assert out.read_text() == '{"text": "mine"}\n'


CHANGED = {
    "other ids": (lambda lines: lines[0]["stored_ids"].update(answer=[7]), "1: the token ids in"),
    "id twice": (lambda lines: lines[1].update(lines[0]), "line 2 has the id 'p0', as an earlier"),
    "a key": (lambda lines: lines[2].update(system="terse"), "3: unknown key 'system'"),
}


@pytest.mark.parametrize(("change", "said"), CHANGED.values(), ids=CHANGED)
def test_no_changed_line_counts_as_done(hooked, tmp_path, change, said):
    out = tmp_path / "long.jsonl"
    lines = written(hooked, out, SHORT)
    change(lines)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(TextError, match=said):
        generate(hooked, PROMPTS, out, SHORT, print)


def test_prompts_alone_and_prompts_that_are_too_long(hooked, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"id": "a", "prompt": "Why?"}) + "\n\n" + '{"text": "What?"}\n')
    prompts = read_prompts(file)
    assert [(one.text_id, one.plain) for one in prompts] == [("a", "Why?"), ("line-3", "What?")]
    long = [Text(text_id="a", plain="x" * N_CTX)]
    with pytest.raises(TextError, match=rf"'a' has \d+ tokens; the context is {N_CTX}"):
        generate(hooked, long, tmp_path / "o", SHORT, lambda line: None)
    assert not (tmp_path / "o").exists()
    repeated = tmp_path / "repeated.jsonl"
    repeated.write_text('{"prompt": "a b", "prompt": "c d"}')
    with pytest.raises(TextError, match="key 'prompt' appears twice"):
        read_prompts(repeated)
    repeated.write_text('{"prompt": "a b", "system": "be terse"}')
    with pytest.raises(TextError, match="unknown key 'system'; write it as a message"):
        read_prompts(repeated)
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(TextError, match=next(iter(wrong))):
            Sampling(**wrong)
