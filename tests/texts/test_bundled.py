"""Texts and prompts that come with the package: what they hold, and how they are asked for."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from secondary_sinks.errors import TextError
from secondary_sinks.runs.generate import read_prompts
from secondary_sinks.texts import bundled_corpus, read_texts, tokenize
from secondary_sinks.texts.many_files import read_many
from secondary_sinks.texts.read_files import CORPORA, PROMPTS, QUESTIONS, read_bundled

FILES = {**CORPORA, **PROMPTS, **QUESTIONS}
ROOT = Path(__file__).parents[2]


def records(name):
    return [json.loads(line) for line in read_bundled(name, FILES).splitlines()]


def beginning(text, n_words):
    return tuple(re.findall(r"\w+", text.raw.casefold())[:n_words])


def n_shared(one, other):
    """How many tokens two texts have in common at their beginning."""
    return next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


@pytest.mark.parametrize("name", FILES)
def test_each_record_has_an_id_in_kebab_case_a_kind_and_known_keys_only(name):
    forms = [{"text"}, {"messages"}, {"prompt", "output"}, {"prompt"}, {"prompt", "answer"}]
    found = records(name)
    ids = [one["id"] for one in found]
    assert len(set(ids)) == len(ids)
    for one in found:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one["id"])
        assert one["kind"].strip()
        assert one.keys() - {"id", "kind", "title"} in forms, one["id"]


@pytest.mark.parametrize("name", FILES)
def test_bundled_texts_are_ours_and_name_no_licence_of_others(name):
    found = re.findall(r"licen[cs]ed|copyright|©|creative commons", read_bundled(name, FILES), re.I)
    assert not found


def test_texts_for_claims_are_of_many_kinds_and_half_of_them_chats():
    kinds = Counter(one["kind"] for one in records("claims"))
    assert kinds == {
        **{"mathematics": 8, "code": 5, "prose": 6, "list": 4, "dialogue": 4},
        **{"german": 3, "spanish": 3},
    }
    n_chats = sum(bool(text.messages) for text in bundled_corpus("claims"))
    assert n_chats in (16, 17)


def test_no_two_texts_for_claims_begin_alike():
    texts = bundled_corpus("claims")
    assert max(Counter(beginning(text, 2) for text in texts).values()) == 1
    for text in texts:
        if text.messages:  # else a template would write the same system message into each
            assert text.messages[0]["role"] == "system", text.text_id


def test_prompts_begin_differently_and_are_chats_of_one_message_for_generate():
    prompts = read_prompts(Path("bundled:prompts"))
    assert len(prompts) >= 20
    assert max(Counter(beginning(text, 5) for text in prompts).values()) == 1
    assert all(text.plain for text in prompts)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from secondary_sinks.models.gguf.cache import converted_folder, embedded_gguf

    return AutoTokenizer.from_pretrained(converted_folder(embedded_gguf()))


@pytest.mark.real
@pytest.mark.parametrize("feed", ["auto", "chat", "raw"])
def test_texts_for_claims_have_800_to_2000_tokens(tokenizer, feed):
    fed = [tokenize(text, tokenizer, feed).tokens for text in bundled_corpus("claims")]
    assert min(map(len, fed)) >= 800
    assert max(map(len, fed)) <= 2000


@pytest.mark.real
def test_texts_for_claims_share_only_the_mark_of_a_system_message_as_they_are_fed(tokenizer):
    fed = [tokenize(text, tokenizer).tokens.tolist() for text in bundled_corpus("claims")]
    header = tokenizer("<|im_start|>system\n")["input_ids"]
    shared = [n_shared(*pair) for pair in itertools.combinations(fed, 2)]
    assert max(shared) == len(header)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_read_by_its_name_wherever_texts_are(name):
    texts = bundled_corpus(name)
    assert read_texts(f"bundled:{name}") == read_texts(Path(f"bundled:{name}")) == texts
    assert read_many([f"bundled:{name}"]) == texts
    assert texts[0].place == f"bundled:{name}:1"


def test_the_introduction_is_the_default_and_differs_from_the_claims():
    assert read_many([]) == bundled_corpus() == bundled_corpus("introduction")
    both = read_many(["bundled:introduction", "bundled:claims"])
    assert len(both) == len(bundled_corpus()) + len(bundled_corpus("claims"))
    with pytest.raises(TextError, match="are the same texts"):
        read_many(["bundled:claims", "bundled:claims"])


@pytest.mark.parametrize("name", ["bundled:prompts", "bundled:", "bundled:Claims", "bundled:a/b"])
def test_a_corpus_of_another_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(TextError) as caught:
        read_texts(name)
    said = str(caught.value)
    assert f"no bundled file has the name {name.removeprefix('bundled:')!r}" in said
    assert "bundled:introduction or bundled:claims" in said


def test_prompts_of_another_name_are_refused():
    with pytest.raises(TextError, match=r"name 'claims'.*expected bundled:prompts"):
        read_prompts(Path("bundled:claims"))


def test_a_wheel_holds_the_bundled_files(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "secondary_sinks", source / "secondary_sinks")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"secondary_sinks/texts/{file}" for file in FILES.values()} <= set(names)
