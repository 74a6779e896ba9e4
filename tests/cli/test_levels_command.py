"""`levels`: released detections and runs in, tables or JSON out; bad input is one line."""

import json

import pandas as pd
import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.runs import RunFolder
from secondary_sinks.types import SinkTable
from tests.cli.test_malformed_runs import seal
from tests.detection.test_authors import entry, line
from tests.detection.traces import sink


@pytest.fixture
def released(tmp_path):
    """Twenty texts with a sink each at layer 22, two of them in a shared prompt."""
    lines = [line(i, 100, 5000 + i, _900=entry(22 + i % 2)) for i in range(20)]
    lines += [line(20 + i, 90, 4000 + i, _25=entry(23)) for i in range(2)]
    path = tmp_path / "released.jsonl"
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    return path


def told(capfd):
    printed, error = capfd.readouterr()
    assert error == ""
    return printed


def test_levels_of_released_detections(released, capfd):
    assert run(["levels", str(released)]) == 0
    printed = told(capfd)
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in printed.splitlines()]
    assert ["secondary", "secondary", "22", "1", "22", "22-23"] in rows
    assert ["primary", "bos_sink", "22", "0", "22", "43"] not in rows, "position 0 is in a prompt"
    level = next(row for row in rows if row and row[0] == "0")
    assert level[:4] == ["0", "22 (22)", "23 (22-23)", "21"]
    assert "22 texts with 108,191 tokens: 21 secondary sinks" in printed
    assert (
        "1 level, the same number in 100% of 200 resamples of the texts; 0 sinks in no" in printed
    )
    assert "not counted again: 1 copy of secondary sinks in earlier texts" in printed
    assert "1 repeated line left out" in printed


def test_json_says_the_same(released, capfd):
    assert run(["levels", str(released), "--json", "--layers", "48"]) == 0
    found = json.loads(told(capfd))
    assert (found["n_texts"], found["n_sinks"], found["n_copies"]) == (22, 21, 1)
    assert [(level["l_start"], level["lifetime"]) for level in found["levels"]] == [(22, 23)]
    assert found["per_10k_tokens"] == pytest.approx(21 / 10.8191)
    assert sum(cell["count"] for cell in found["cells"]) == 21


def test_layers_label_anew(released, capfd):
    assert run(["levels", str(released), "--layers", "47", "--json"]) == 0
    labels = {row["label"] for row in json.loads(told(capfd))["labels"]}
    assert labels == {"bos_sink", "secondary"}
    assert run(["levels", str(released), "--layers", "36", "--json"]) == 2


def test_missing_numbers_are_null(tmp_path, capfd):
    (tmp_path / "one.jsonl").write_text(line(0, _900=entry()))
    assert run(["levels", str(tmp_path / "one.jsonl"), "--json"]) == 0
    found = json.loads(told(capfd))
    assert (found["low"], found["cells"][0]["level"]) == (None, None)
    assert run(["levels", str(tmp_path / "one.jsonl")]) == 0
    assert "fewer than 5 texts" in told(capfd)


@pytest.fixture
def folder(tmp_path):
    """A run of eight texts, of which two are the same."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    sinks = [sink(i, 9, 4, 3, copy_of="6" if i == 7 else "") for i in range(8)]
    folder.write_table("sinks", SinkTable(sinks=tuple(sinks)).to_frame())
    texts = [{"tokens_sha256": str(min(i, 6)), "n_tokens": 100} for i in range(8)]
    folder.write_record({"texts": texts})
    return folder.path


@pytest.mark.parametrize("name", ["", "sinks.parquet"])
def test_levels_of_a_run(folder, name, capfd):
    assert run(["levels", str(folder / name), "--json"]) == 0
    found = json.loads(told(capfd))
    assert (found["n_texts"], found["n_tokens"], found["n_sinks"]) == (7, 700, 7)
    assert [(level["l_start"], level["lifetime"]) for level in found["levels"]] == [(4, 3)]
    assert found["labels"][0]["criterion"] == "joint"


BAD = {
    "missing": ("none.jsonl", [], "'none.jsonl' is not a file"),
    "broken": ("broken.jsonl", [], "broken.jsonl:2: broken JSON"),
    "empty": ("empty.jsonl", [], "holds no detections"),
    "not UTF-8": ("latin.jsonl", [], "is not UTF-8 text"),
    "layers a word": ("ok.jsonl", ["--layers", "many"], "'many'"),
    "too few layers": ("ok.jsonl", ["--layers", "20"], "ok.jsonl:1: position 0: layer 46"),
    "no run": ("full", [], "is not a run folder"),
    "layers of a run": ("run", ["--layers", "20"], "--layers is for the authors' JSON lines"),
    "another table": ("run/trace.parquet", [], "is not the sinks.parquet"),
    "older table": ("old", [], "has no column 'copy_of'"),
    "damaged table": ("damaged", [], "is damaged"),
}


@pytest.mark.parametrize(("name", "options", "named"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(name, options, named, folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_bad(tmp_path, folder)
    assert run(["levels", name, *options]) == 2
    printed, error = capfd.readouterr()
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error


def write_bad(place, folder):
    (place / "ok.jsonl").write_text(line(0, _900=entry()))
    (place / "broken.jsonl").write_text(line(0) + "\n{")
    (place / "empty.jsonl").write_text("\n")
    (place / "latin.jsonl").write_bytes(b"caf\xe9")
    (place / "full").mkdir()
    for name in ("old", "damaged"):
        (place / name).mkdir()
        (place / name / "run.json").write_bytes((folder / "run.json").read_bytes())
    old = pd.read_parquet(folder / "sinks.parquet").drop(columns="copy_of")
    RunFolder(place / "old").write_table("sinks", old)
    seal(place / "old")
    (place / "damaged" / "sinks.parquet").write_bytes(b"PAR1")
