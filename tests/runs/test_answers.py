"""Causal questions of a run: what is asked is written whole, and read back as it was."""

import math
from dataclasses import asdict

import pandas as pd
import pytest

from secondary_sinks.errors import QuestionError, RunFolderError
from secondary_sinks.runs import RunFolder, ask, observe_all, parse_questions
from secondary_sinks.runs.answers import add_answer, read_answers
from secondary_sinks.runs.ask import price
from secondary_sinks.runs.folder import ANSWERS, OWN
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText


@pytest.fixture(scope="module")
def planted():
    return plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])


@pytest.fixture(scope="module")
def texts(planted):
    return [TokenizedText(text_id="a", tokens=planted.tokens, feed="raw", fed="as planted")]


@pytest.fixture(scope="module")
def seen(planted, texts):
    return observe_all(planted.model, texts)


@pytest.fixture(scope="module")
def ticks():
    return []


@pytest.fixture(scope="module")
def answers(planted, seen, ticks):
    return [*ask(planted.model, *seen, tuple(ANSWERS), tick=lambda *given: ticks.append(given))]


@pytest.fixture(scope="module")
def folder(answers, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("asked"))
    record = {"timings_s": {"mine": 1.0}}
    for answer, seconds in answers:
        record = add_answer(folder, record, answer, seconds, "the command")
    return folder


def test_progress_is_told_by_question_and_text(answers, seen, ticks):
    n_texts = len(seen[0])
    steps = range(n_texts + 1)
    rounds = {"writer": 3}
    told = {stage: rounds.get(stage, 1) * n_texts for stage in ("forming", *ANSWERS)}
    assert list(dict.fromkeys(stage for stage, *_ in ticks)) == list(told)
    for stage, whole in told.items():
        own = [done for name, done, of in ticks if name == stage and of == whole]
        assert own == sorted(own)
        assert (own[0], own[-1]) == (0, whole)
        assert rounds.get(stage, 1) > 1 or own == list(steps)


def test_the_record_says_what_was_asked_and_how_long_it_took(folder):
    told = folder.record()
    assert told["asked"] == list(ANSWERS)
    assert set(told["timings_s"]) == {"mine", *ANSWERS}
    assert {item.name for item in folder.path.iterdir()} <= OWN
    tables = {f"{q}.{t}" for q, names in ANSWERS.items() for t in names}
    assert set(told["tables"]) == tables | {"circuit"}


def test_every_answer_is_read_back_as_it_was(folder, answers):
    found = read_answers(folder)
    assert list(found) == list(ANSWERS)
    for answer, _ in answers:
        same = found[answer.question]
        told = [[repr(asdict(one)) for one in found] for found in (same, answer)]
        assert told[0] == told[1]
        assert same.left_out == answer.left_out
        assert same.n_censored == answer.n_censored
        assert list(same.tables) == list(answer.tables)
        assert list(same.cells) == list(answer.cells)
        assert len(same.cells) == len(answer.cells)
        assert len(same.cells) or answer.question == "eviction", "texts are too short for a window"
        numbers = [name for name in answer.effects if answer.effects[name].dtype.kind == "f"]
        pd.testing.assert_frame_equal(same.effects[numbers], answer.effects[numbers])


def test_layers_are_written_in_words(folder):
    assert set(read_answers(folder)["sufficiency"].cells["layers"]) >= {"3", "0"}


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


def test_the_price_is_in_cells_and_in_seconds_where_these_are_known(planted, seen):
    given = planted.model, *seen, tuple(ANSWERS)
    lines = price(*given, one_replayed=0.5, one_token=0.1)
    assert [line.split(":")[0] for line in lines] == [f"ask {name}" for name in ANSWERS]
    assert all(" about " in line for line in lines)
    assert "recomputed texts" in lines[3]
    untimed = price(*given, one_replayed=None, one_token=0.1)
    assert [" about " in line for line in untimed] == ["replayed" not in line for line in lines]


def test_nothing_asked_costs_nothing(planted, seen):
    assert [*ask(planted.model, *seen, ())] == []


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("all", tuple(ANSWERS)),
        ("none", ()),
        (" harm ,necessity", ("necessity", "harm")),
    ],
)
def test_questions_are_named_in_words(words, names):
    assert parse_questions(words) == names


@pytest.mark.parametrize("words", ["", ",", "harms", "all,harm", "Necessity"])
def test_other_words_are_refused_with_what_there_is(words):
    with pytest.raises(QuestionError, match="necessity, sufficiency"):
        parse_questions(words)


def test_a_question_that_stands_twice_is_refused():
    with pytest.raises(QuestionError, match="--ask has 'harm' twice; expected each once"):
        parse_questions("harm, necessity,harm")
