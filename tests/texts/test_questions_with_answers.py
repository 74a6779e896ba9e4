"""Questions with answers: read, refused by name, and what counts as the answer."""

import inspect
import json

import datasets
import pytest

from secondary_sinks.errors import TextError
from secondary_sinks.texts import answer_in, is_right, normalised, read_questions

GOOD = [
    {"id": "a", "prompt": "1 + 1?", "answer": 2},
    {"prompt": "Sky?", "answer": "Blue", "kind": "colour"},
]


def written(folder, *lines):
    file = folder / "q.jsonl"
    file.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines))
    return file


def test_lines_are_questions_with_answers(tmp_path):
    found = read_questions(written(tmp_path, GOOD[0], "", GOOD[1]))
    assert [(one.text.text_id, one.text.plain, one.answer) for one in found] == [
        ("a", "1 + 1?", "2"),
        ("line-3", "Sky?", "Blue"),
    ]


BAD = {
    "no answer": ({"prompt": "Why?"}, "q.jsonl:2: no 'answer'; expected 'prompt' and 'answer'"),
    "no prompt": ({"answer": "x"}, "q.jsonl:2: no 'prompt'"),
    "empty answer": ({"prompt": "Why?", "answer": "  "}, "q.jsonl:2: the answer is '  '"),
    "no letter": ({"prompt": "Why?", "answer": "?!"}, "expected a letter or a digit"),
    "list": ({"prompt": "Why?", "answer": ["x"]}, r"the answer is \['x'\]; expected a string or a"),
    "true": ({"prompt": "Why?", "answer": True}, "the answer is True; expected a string or a"),
    "empty prompt": ({"prompt": " ", "answer": "x"}, "q.jsonl:2: the text is empty"),
    "prompt twice": ('{"prompt": "a", "prompt": "b", "answer": "c"}', "key 'prompt' appears twice"),
    "same id": ({"id": "a", "prompt": "Why?", "answer": "x"}, "q.jsonl:2: id 'a' was used before"),
    "text": ({"prompt": "Why?", "text": "b", "answer": "x"}, "q.jsonl:2: 'text' next to 'prompt'"),
    "unknown": ({"prompt": "a", "system": "b", "answer": "c"}, "q.jsonl:2: unknown key 'system'"),
    "answers": (
        {"prompt": "a", "answers": ["b"], "answer": "c"},
        "q.jsonl:2: unknown key 'answers'",
    ),
    "Answer": ({"prompt": "a", "Answer": "b", "answer": "c"}, "q.jsonl:2: unknown key 'Answer'"),
    "ids": ({"prompt": "a", "stored_ids": {}, "answer": "c"}, "'stored_ids' next to 'prompt'"),
    "broken": ('{"prompt": ', "q.jsonl:2: broken JSON"),
}


@pytest.mark.parametrize(("line", "said"), BAD.values(), ids=BAD)
def test_other_lines_are_refused_with_their_number(tmp_path, line, said):
    with pytest.raises(TextError, match=said):
        read_questions(written(tmp_path, GOOD[0], line))


def test_files_that_hold_no_question_are_refused(tmp_path):
    with pytest.raises(TextError, match="holds no texts"):
        read_questions(written(tmp_path, ""))
    with pytest.raises(
        TextError, match="is not a file; expected JSON lines with prompt and answer"
    ):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(TextError, match="no bundled file has the name 'prompts'"):
        read_questions("bundled:prompts")


def test_columns_of_a_data_set(tmp_path):
    rows = {"ask": ["1 + 1?", "Sky?"], "say": ["2", "Blue"], "odd": ["2", "..."]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    found = read_questions(f"hf:{tmp_path}/set:train:ask,say")
    assert [(one.text.text_id, one.text.plain, one.answer) for one in found] == [
        ("row-0", "1 + 1?", "2"),
        ("row-1", "Sky?", "Blue"),
    ]
    for columns, said in (("ask,odd", "row-1: the answer is '...'"), ("ask", "PROMPT,ANSWER, got")):
        with pytest.raises(TextError, match=said):
            read_questions(f"hf:{tmp_path}/set:train:{columns}")


def test_the_bundled_questions_are_30_and_their_answers_are_right_answers():
    found = read_questions("bundled:questions")
    assert len(found) == 30
    assert all(is_right(one.answer, one.answer) for one in found)
    assert not any(normalised(one.answer) in normalised(answer_in("")) for one in found)


COUNTS = [
    ("Paris", "Paris", True),
    ("**paris**.\n", "Paris", True),
    ("It is Paris.", "Paris", False),
    ("Paris\nLondon", "Paris", False),
    ("London\n\nParis\n\n```", "Paris", True),
    ("Let me think.\nAnswer: 1,200 m\nThat is far.", "1200 m", True),
    ("Answer: 3\nNo. ANSWER:\n\n 4 ", "4", True),
    ("answer: ", "4", False),
    ("", "4", False),
    ("1,2", "12", False),
    ("1,234,567", "1234567", True),
]


@pytest.mark.parametrize(("text", "answer", "right"), COUNTS)
def test_what_counts_as_the_answer(text, answer, right):
    assert is_right(text, answer) == right


@pytest.mark.parametrize("answer", ["", "..", True, None])
def test_an_answer_that_every_text_would_hold_is_refused(answer):
    with pytest.raises(TextError, match="the answer is"):
        inspect.unwrap(is_right)("It is 12.", answer, anywhere=True)


ANYWHERE = [
    ("The capital of France is Paris.", "Paris", True),
    ('It is called "casa."', "casa", True),
    ("Parisian", "Paris", False),
    ("96 divided by 8 is 12 with nothing left.", "12", True),
    ("It is 112, 12.5 or 3.12", "12", False),
    ("It has 1,200 metres", "200", False),
    ("It has 1,200 metres", "1200 metres", True),
    ("(a+b)", "a+b", True),
    ("", "4", False),
]


@pytest.mark.parametrize(("text", "answer", "right"), ANYWHERE)
def test_anywhere_the_right_answer_counts_as_whole_words(text, answer, right):
    assert is_right(text, answer, anywhere=True) == right
