"""Causal questions of a run: what is asked is written whole, and read back as it was."""

import math

import pandas as pd
import pytest

from secondary_sinks.errors import QuestionError, RunFolderError
from secondary_sinks.runs import RunFolder, analyse, ask, describe, parse_questions, save
from secondary_sinks.runs.answers import read_answers
from secondary_sinks.runs.folder import ANSWERS, OWN
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Thresholds


@pytest.fixture(scope="module")
def planted():
    return plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])


@pytest.fixture(scope="module")
def texts(planted):
    return [TokenizedText(text_id="a", tokens=planted.tokens, feed="raw", fed="as planted")]


@pytest.fixture(scope="module")
def results(planted, texts):
    return analyse(planted.model, texts)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def ticks():
    return []


@pytest.fixture(scope="module")
def answers(planted, results, told, ticks):
    def tick(*given):
        ticks.append(given)

    return ask(planted.model, results, tuple(ANSWERS), told.append, tick)


@pytest.fixture(scope="module")
def folder(planted, texts, results, answers, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("asked"))
    record = describe(planted.model, texts, Thresholds(), "zero", 0, tuple(ANSWERS))
    save(folder, results, record | {"timings_s": {"mine": 1.0}}, answers=answers[0])
    return folder


def test_progress_is_told_by_question_and_text(answers, results, ticks):
    n_texts = len(results.traces)
    stages = ["forming", *ANSWERS]
    steps = range(n_texts + 1)
    assert ticks == [(stage, "", done, n_texts) for stage in stages for done in steps]


def test_every_answer_is_read_back_as_it_was(folder, answers):
    found = read_answers(folder)
    assert list(found) == list(ANSWERS)
    for answer in answers[0]:
        same = found[answer.question]
        assert repr(same.verdicts) == repr(answer.verdicts)
        assert same.left_out == answer.left_out
        assert same.n_censored == answer.n_censored
        assert list(same.tables) == list(answer.tables)
        assert list(same.cells) == list(answer.cells)
        assert len(same.cells) == len(answer.cells) > 0
        numbers = [name for name in answer.effects if answer.effects[name].dtype.kind == "f"]
        pd.testing.assert_frame_equal(same.effects[numbers], answer.effects[numbers])


def test_layers_are_written_in_words(folder):
    assert set(read_answers(folder)["sufficiency"].cells["layers"]) >= {"3", "0"}


def test_a_run_replaces_the_answers_of_the_last_one(folder, planted, texts, results, tmp_path):
    names = {item.name for item in folder.path.iterdir()}
    assert names <= OWN
    assert {f"{q}.{t}.parquet" for q, tables in ANSWERS.items() for t in tables} <= names
    again = RunFolder(tmp_path)
    for name in names:
        (tmp_path / name).write_bytes((folder.path / name).read_bytes())
    save(again, results, describe(planted.model, texts, Thresholds(), "zero", 0), force=True)
    assert read_answers(again) == {}
    assert not list(tmp_path.glob("necessity*"))


def test_a_missing_table_is_told(folder, tmp_path):
    again = RunFolder(tmp_path)
    for item in folder.path.iterdir():
        if item.name != "harm.effects.parquet":
            (tmp_path / item.name).write_bytes(item.read_bytes())
    with pytest.raises(RunFolderError, match=r"has no harm\.effects\.parquet"):
        read_answers(again)


def test_what_is_missing_is_missing_after_the_disk_too(folder, answers):
    """One text gives no interval."""
    assert math.isnan(answers[0][0].verdicts[0].low)
    assert math.isnan(read_answers(folder)["necessity"].verdicts[0].low)


def test_the_price_is_told_before_the_work(told, answers):
    assert [line.split(":")[0] for line in told] == [f"ask {name}" for name in ANSWERS]
    assert all(" about " in line for line in told)
    assert "recomputed texts" in told[3]
    assert set(answers[1]) == set(ANSWERS)


def test_what_is_asked_is_part_of_the_inputs(planted, texts):
    keys = {
        describe(planted.model, texts, Thresholds(), "zero", 0, asked)["key"]
        for asked in ((), ("harm",), ("harm", "sparsity"))
    }
    assert len(keys) == 3


def test_nothing_asked_costs_nothing(planted, results):
    assert ask(planted.model, results, ()) == ((), {})


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("all", tuple(ANSWERS)),
        ("none", ()),
        (" harm ,necessity", ("necessity", "harm")),
        ("harm,harm", ("harm",)),
    ],
)
def test_questions_are_named_in_words(words, names):
    assert parse_questions(words) == names


@pytest.mark.parametrize("words", ["", ",", "harms", "all,harm", "Necessity"])
def test_other_words_are_refused_with_what_there_is(words):
    with pytest.raises(QuestionError, match="necessity, sufficiency"):
        parse_questions(words)
