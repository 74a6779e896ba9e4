"""Several files: each id means one text, or both places are named."""

import inspect
from pathlib import Path

import pytest

from secondary_sinks.errors import TextError
from secondary_sinks.texts import Text
from secondary_sinks.texts.many_files import read_many, refuse_same_ids


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files of one name in two folders, and a third."""
    monkeypatch.chdir(tmp_path)
    for place, content in {"a/t": "one", "b/t": "two", "c": "three"}.items():
        path = tmp_path / f"{place}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"text": "{content} of them"}}\n')
    return tmp_path


def test_an_id_of_several_files_is_preceded_by_the_name_of_its_file(files):
    found = read_many(["a/t.jsonl", "c.jsonl"])
    assert [(one.text_id, one.plain) for one in found] == [
        ("t.jsonl:line-1", "one of them"),
        ("c.jsonl:line-1", "three of them"),
    ]


def test_files_of_one_name_are_told_apart_by_their_paths(files):
    found = read_many(["a/t.jsonl", "b/t.jsonl"])
    assert [(one.text_id, one.plain) for one in found] == [
        ("a/t.jsonl:line-1", "one of them"),
        ("b/t.jsonl:line-1", "two of them"),
    ]


@pytest.mark.parametrize("again", ["a/t.jsonl", "./a/t.jsonl", "a/../a/t.jsonl", "link.jsonl"])
def test_a_file_that_is_given_twice_is_refused_with_both_paths(files, again):
    (files / "link.jsonl").symlink_to("a/t.jsonl")
    with pytest.raises(TextError, match="are the same texts; give them once") as caught:
        read_many(["a/t.jsonl", again])
    assert "'a/t.jsonl' and " in str(caught.value)
    assert repr(again) in str(caught.value)


def test_a_copy_of_a_file_is_refused_with_both_places(files):
    (files / "b" / "t.jsonl").write_bytes((files / "a" / "t.jsonl").read_bytes())
    with pytest.raises(TextError, match=r"'a/t.jsonl:1' and 'b/t.jsonl:1' are the same text"):
        read_many(["a/t.jsonl", "b/t.jsonl"])


def test_an_id_that_looks_like_a_name_and_an_id_is_refused(files):
    (files / "c.jsonl").write_text(
        '{"id": "t.jsonl:line-1", "text": "of its own"}\n{"id": "line-1", "text": "c d"}\n'
    )
    with pytest.raises(TextError, match=r"id 't.jsonl:line-1': 'a/t.jsonl:1' and 'c.jsonl:1'"):
        read_many(["a/t.jsonl", "c.jsonl"])


@pytest.mark.parametrize("paths", [None, 0, {}, [3], [None], "c.jsonl"])
def test_what_is_no_list_of_paths_is_refused_and_not_the_default(paths):
    with pytest.raises(TextError, match=r"expected (a list|the path of a file)"):
        inspect.unwrap(read_many)(paths)


def test_paths_may_be_paths(files):
    assert read_many([Path("c.jsonl")]) == read_many(["c.jsonl"])


def test_texts_in_python_need_ids_of_their_own():
    same = [Text(text_id="a", plain="x y"), Text(text_id="a", plain="z")]
    with pytest.raises(TextError, match="two texts have the id 'a'; give each"):
        refuse_same_ids(same)


def test_a_data_set_twice_is_refused():
    with pytest.raises(TextError, match="are the same texts"):
        read_many(["hf:a:train:text", "hf:a:train:text"])


@pytest.mark.parametrize("limit", [-1, 0, True])
def test_a_limit_that_would_drop_other_texts_is_refused(limit):
    with pytest.raises(TextError, match=r"limit is .*; expected a whole number of at least 1"):
        read_many([], limit)


def test_one_path_is_not_a_list_of_letters():
    with pytest.raises(TextError, match=r"one path; expected a list, as in \['a/b'\]"):
        read_many("a/b")
