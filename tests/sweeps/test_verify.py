"""`verify` and `status` understand every folder, and complain of what is damaged only."""

import json

import pandas as pd
import pytest

from experiments.recorded import write_record
from secondary_sinks import files, runs
from secondary_sinks.cli.entry import run
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import verify
from secondary_sinks.sweeps.status import status_lines
from tests.cli.test_malformed_runs import write_run
from tests.sweeps.small_sweeps import TEXTS, sweep


@pytest.fixture
def swept(tmp_path):
    sweep(tmp_path / "out", texts=TEXTS[:1])
    return tmp_path / "out"


def test_a_finished_sweep_without_its_record_is_not_whole(swept, capsys):
    (swept / "run.json").unlink()
    assert verify(swept).complaints == ("run.json is missing, though all cells are done",)
    for table in swept.glob("*.parquet"):
        table.unlink()
    assert run(["verify", str(swept)]) == 3
    assert "run.json is missing" in capsys.readouterr().out
    sweep(swept, texts=TEXTS[:1])
    assert verify(swept).complaints == ()


def test_a_sweep_that_is_not_finished_is_sound_and_said_so(swept, capsys):
    for path in [*swept.glob("*.parquet"), swept / "run.json"]:
        path.unlink()
    (swept / "sweep" / "manifest.jsonl").unlink()
    assert run(["verify", str(swept)]) == 0
    assert "the sweep is not finished: the same command resumes it" in capsys.readouterr().out


def test_cells_that_the_tables_have_and_the_manifest_has_not_are_counted(swept):
    (swept / "sweep" / "manifest.jsonl").write_text("")
    complaints = ("2 units of the tables are not in the manifest",)
    assert verify(swept).complaints == complaints


def test_a_run_without_cells_is_checked_by_its_hashes(tmp_path, capsys):
    write_run(tmp_path)
    assert verify(tmp_path).complaints == ()
    assert status_lines(tmp_path)[0] == f"{tmp_path}: finished"
    RunFolder(tmp_path).write_table("sinks", pd.DataFrame({"a": [1]}))
    assert run(["verify", str(tmp_path)]) == 3
    assert "table sinks.parquet is damaged" in capsys.readouterr().out
    RunFolder(tmp_path).write_record(RunFolder(tmp_path).record() | {"tables": {}})
    found = verify(tmp_path)
    assert (found.complaints, "page checksums" in found.note) == ((), True)
    (tmp_path / "sinks.parquet").write_bytes(b"PAR1")
    assert "table sinks.parquet is damaged" in verify(tmp_path).complaints[0]


@pytest.mark.parametrize("sha256", [{}, {"sha256": None}])
def test_a_record_without_its_hash_is_not_believed(sha256, swept, capsys):
    record = json.loads((swept / "run.json").read_text())
    del record["sha256"]
    (swept / "run.json").write_text(json.dumps(record | {"seed": 7} | sha256))
    assert run(["verify", str(swept)]) == 3
    assert "run.json' has no sha256 of its content" in capsys.readouterr().out
    assert run(["report", str(swept)]) == 2
    sweep(swept, texts=TEXTS[:1])
    assert verify(swept).complaints == ()


@pytest.mark.parametrize("command", ["report", "export", "levels"])
def test_tables_of_another_run_are_refused_by_every_reader(command, tmp_path, capsys):
    for name, kept in {"ra": 2, "rb": 1}.items():
        write_run(tmp_path / name)
        own = RunFolder(tmp_path / name)
        own.write_table("sinks", own.table("sinks").head(kept))
        own.write_record(own.record())
    assert len(RunFolder(tmp_path / "rb").table("sinks")) == 1
    place = tmp_path / "ra" / "sinks.parquet"
    place.write_bytes((tmp_path / "rb" / "sinks.parquet").read_bytes())
    with pytest.raises(RunFolderError, match=r"of another run: it is not the table that run"):
        runs.open(tmp_path / "ra").sinks  # noqa: B018
    assert run([command, str(tmp_path / "ra")]) == 2
    assert "is not the table that run.json names" in capsys.readouterr().err


def test_a_table_is_compared_again_only_when_it_changed(tmp_path, monkeypatch):
    write_run(tmp_path)
    folder, asked = RunFolder(tmp_path), []
    whole = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: asked.append(path.name) or whole(path))
    for _ in range(2):
        folder.table("sinks")
    assert asked == ["sinks.parquet"]
    RunFolder(tmp_path).write_table("sinks", pd.DataFrame({"a": [1]}))
    with pytest.raises(RunFolderError, match=r"run\.json names"):
        folder.table("sinks")


def test_a_changed_verdict_is_damaged(tmp_path):
    write_record(tmp_path, {"verdict": {"outcome": "contradicted"}})
    assert verify(tmp_path).complaints == ()
    changed = (tmp_path / "verdict.json").read_text().replace("contradicted", "supported")
    (tmp_path / "verdict.json").write_text(changed)
    with pytest.raises(RunFolderError, match="its content does not match its sha256"):
        verify(tmp_path)


def test_experiments_are_understood(tmp_path):
    folder = RunFolder(tmp_path / "norms")
    folder.path.mkdir()
    folder.write_table("data", pd.DataFrame({"a": [1]}))
    folder.write_text("verdict.json", json.dumps({"verdict": {"outcome": "supported"}}))
    for place in (tmp_path, tmp_path / "norms"):
        assert status_lines(place)[1].split() == ["norms", "supported"]
        assert (verify(place).n_files, verify(place).complaints) == (2, ())
    (tmp_path / "norms" / "data.parquet").write_bytes(b"PAR1")
    assert "table data.parquet is damaged" in verify(tmp_path).complaints[0]


@pytest.mark.parametrize("look", [status_lines, verify])
def test_a_folder_of_nothing_of_ours_is_named_by_what_it_holds(look, tmp_path):
    with pytest.raises(RunFolderError, match="nowhere' does not exist"):
        look(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="is an empty folder; expected the folder of a run"):
        look(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds 'notes\.txt', but nothing that a run wrote"):
        look(tmp_path)
    (tmp_path / "sinks.parquet").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"'sinks\.parquet' but no run\.json"):
        look(tmp_path)
    with pytest.raises(RunFolderError, match="is a file"):
        look(tmp_path / "notes.txt")
