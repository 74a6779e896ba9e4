"""Answers of a tiny model: those of transformers, seeded, and the same after any interruption."""

import json

import pytest
import torch
import transformers as hf

from secondary_sinks import load_model, read_texts, tokenize
from secondary_sinks.errors import ModelError, TextError
from secondary_sinks.runs.generate import (
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
    new, ended = continue_text(model, tokens, Sampling(max_new_tokens=40), "t")
    original = hf.AutoModelForCausalLM.from_pretrained(folder)
    expected = original.generate(tokens[None], max_new_tokens=40, do_sample=False, pad_token_id=257)
    theirs = expected[0, len(tokens) :].tolist()
    assert [*new, 257][: len(theirs)] == theirs if ended else new == theirs
    assert len(new) > 5


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
    new, ended = continue_text(hooked, tokens, Sampling(max_new_tokens=9), "t")
    assert (len(new), ended) == (9, False)
    hooked.tokenizer.eos_token_id = new[0]
    try:
        assert continue_text(hooked, tokens, Sampling(max_new_tokens=9), "t") == ([], True)
    finally:
        hooked.tokenizer.eos_token = "</s>"
    long = torch.arange(N_CTX - 3) % 200
    assert len(continue_text(hooked, long, Sampling(max_new_tokens=9), "t")[0]) <= 3


def test_what_is_written_can_be_read_and_fed(hooked, tmp_path):
    out, said = tmp_path / "long.jsonl", []
    assert generate(hooked, PROMPTS, out, DRAWN, said.append) == 3
    assert said[0] == "3 of 3 prompts to answer, at most 12 tokens each"
    texts = read_texts(out)
    assert [text.text_id for text in texts] == ["p0", "p1", "p2"]
    assert texts[1].messages[0] == {"role": "user", "content": "Prompt 1."}
    assert len(tokenize(texts[1], hooked.tokenizer).tokens) > 12


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_after_any_cut_the_bytes_are_those_of_one_start(hooked, tmp_path, cut):
    whole, part, said = tmp_path / "whole.jsonl", tmp_path / "part.jsonl", []
    generate(hooked, PROMPTS, whole, DRAWN, said.append)
    part.write_bytes(whole.read_bytes()[:-cut])
    said.clear()
    made = generate(hooked, PROMPTS, part, DRAWN, said.append)
    assert part.read_bytes() == whole.read_bytes()
    assert made == (3 if cut == 10_000 else 1)
    assert any("half written" in line for line in said) == (cut != 10_000)
    assert generate(hooked, PROMPTS, part, DRAWN, said.append) == 0


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
    with pytest.raises(TextError, match="line 1 was made by another model, prompt or with other"):
        generate(hooked, PROMPTS, out, DRAWN, lambda line: None)
    with pytest.raises(TextError, match="another model, prompt"):
        generate(hooked, [Text(text_id="p0", plain="Other.")], out, SHORT, lambda line: None)
    assert out.read_bytes() == before
    out.write_text('{"text": "mine"}\n')
    with pytest.raises(TextError, match="line 1 was not written by generate"):
        generate(hooked, PROMPTS, out, SHORT, lambda line: None)
    assert out.read_text() == '{"text": "mine"}\n'


def test_prompts_alone_and_prompts_that_are_too_long(hooked, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"id": "a", "prompt": "Why?"}) + "\n\n" + '{"text": "What?"}\n')
    prompts = read_prompts(file)
    assert [(one.text_id, one.plain) for one in prompts] == [("a", "Why?"), ("line-3", "What?")]
    long = [Text(text_id="a", plain="x" * N_CTX)]
    with pytest.raises(TextError, match=rf"'a' has \d+ tokens; the context is {N_CTX}"):
        generate(hooked, long, tmp_path / "o", SHORT, lambda line: None)
    assert not (tmp_path / "o").exists()
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(TextError, match=next(iter(wrong))):
            Sampling(**wrong)
