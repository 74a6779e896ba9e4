"""Data sets in folders, and clear words where there is no hub."""

import pickle

import datasets
import pytest

from secondary_sinks import read_texts
from secondary_sinks.errors import TextError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    rows = datasets.Dataset.from_dict(
        {"question": ["What?", "Why?", "How?"], "number": [1, 2, 3], "gap": ["a", None, "b"]}
    )
    rows.save_to_disk(root / "one")
    datasets.DatasetDict({"train": rows, "test": rows.select([2])}).save_to_disk(root / "two")
    return root


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one:train:question", ["What?", "Why?", "How?"]),
        ("two:train:question", ["What?", "Why?", "How?"]),
        ("two:test:question", ["How?"]),
        ("two:train[1:]:question", ["Why?", "How?"]),
        ("two:train[:2]:question", ["What?", "Why?"]),
        ("one:train[:99]:question", ["What?", "Why?", "How?"]),
    ],
)
def test_a_column_of_a_split(folder, name, expected):
    texts = read_texts(f"hf:{folder}/{name}")
    assert [text.plain for text in texts] == expected
    assert texts[0].text_id == "row-0"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("one:train", "expected hf:NAME:split:column"),
        ("one:train:answer", "no column 'answer'; expected one of 'question', 'number'"),
        ("two:dev:question", "no split 'dev'; expected one of 'train', 'test'"),
        ("one:train:number", "row 0: the text is empty; expected a string"),
        ("one:train:gap", "row 1: the text is empty"),
        ("one:train[x]:question", "is not understood"),
        ("one:train[:\u0662]:question", "is not understood"),
        ("one:train[3:]:question", "holds no rows"),
    ],
)
def test_what_is_not_there_is_told(folder, name, told):
    with pytest.raises(TextError) as refused:
        read_texts(f"hf:{folder}/{name}")
    assert told in str(refused.value)


class Trap:
    """What must never be unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_a_folder_of_something_else_is_not_tried(tmp_path):
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(TextError, match="expected a folder of save_to_disk"):
        read_texts(f"hf:{tmp_path}:train:text")


def test_without_a_hub_it_is_said_what_to_do():
    with pytest.raises(TextError, match=r"save_to_disk\('folder'\), then use --texts hf:folder:"):
        read_texts("hf:nobody/nothing:train:text")
