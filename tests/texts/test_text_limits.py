"""Files and texts that are too large are refused at once, with their size and the limit."""

import json
import os

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.errors import TextError
from secondary_sinks.runs.generate import read_prompts
from secondary_sinks.texts import parse_jsonl, read_texts
from secondary_sinks.texts.limits import LONGEST_LINE, LONGEST_TEXT, MOST_LINES

LINE = '{"text": "a b"}\n'


def written(path, content):
    path.write_text(content)
    return path


def messages(*contents):
    return json.dumps({"messages": [{"role": "user", "content": one} for one in contents]})


TOO_LARGE = {
    "tiny lines": ("a.jsonl", LINE * 1_000_000, "has 1,000,000 lines; expected at most 20,000"),
    "blank lines": ("a.jsonl", "\n" * 30_000 + LINE, "has 30,001 lines; expected at most 20,000"),
    "one line": ("a.jsonl", json.dumps({"text": "word " * 2_000_100}), "has 10,000,512 characters"),
    "one text": ("a.jsonl", json.dumps({"text": "word " * 200_100}), "'line-1' has 1,000,500 char"),
    "a text file": ("a.txt", "word " * 200_100, "text 'a' has 1,000,500 characters; expected at"),
    "an id": (
        "a.jsonl",
        json.dumps({"id": "x" * 9999, "text": "a b"}),
        "has 9,999 characters; exp",
    ),
    "messages": ("a.jsonl", messages("x" * 600_000, "y" * 600_000), "'line-1' has 1,200,002 char"),
}


@pytest.mark.parametrize(("name", "content", "named"), TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("read", [read_texts, read_prompts])
def test_what_is_too_large_is_refused_with_its_size(read, name, content, named, tmp_path):
    with pytest.raises(TextError) as error:
        read(written(tmp_path / name, content))
    assert named in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_file_is_refused_by_its_size_before_it_is_read(name, tmp_path):
    path = tmp_path / name
    path.touch()
    os.truncate(path, 10**9)  # the file system stores nothing of it
    with pytest.raises(TextError, match="has 1,000,000,000 bytes; expected at most 200,000,000"):
        read_texts(path)


def test_detections_have_the_same_limits(tmp_path, capfd):
    path = written(tmp_path / "released.jsonl", LINE * 30_000)
    assert run(["levels", str(path)]) == 2
    assert "has 30,000 lines; expected at most 20,000" in capfd.readouterr().err


def test_what_is_just_small_enough_is_read():
    assert len(parse_jsonl(LINE * MOST_LINES + "\n" * 99, "mine")) == MOST_LINES
    escaped = json.dumps({"text": "\u4e2d" * LONGEST_TEXT})
    assert len(escaped) <= LONGEST_LINE
    (text,) = parse_jsonl(escaped, "mine")
    assert len(text.raw) == LONGEST_TEXT
