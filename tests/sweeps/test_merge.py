"""Sweeps that were divided come together, whole or not at all."""

import os
import sys
from dataclasses import replace

import pytest

from secondary_sinks import sweeps
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder, about, hashes
from secondary_sinks.sweeps import output, stored_config, tasks
from secondary_sinks.sweeps.output import SweepOutput
from tests.marks import exhaustive
from tests.sweeps.small_sweeps import TEXTS, ZERO, sweep, tables


def test_merging_parts_gives_the_whole(tmp_path):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "b", texts=TEXTS[1:])
    sweep(tmp_path / "whole")
    found = sweeps.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert (found.n_tasks, found.n_cells, found.n_missing) == (3, 12, 0)
    assert tables(tmp_path / "both") == tables(tmp_path / "whole")
    assert sweep(tmp_path / "both").n_computed == 0
    sweep(tmp_path / "c", replace(ZERO, edits=("mean",)), texts=TEXTS[:1])
    assert sweeps.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "ac").n_missing == 2
    assert sweeps.sweep_status(tmp_path / "ac").n_missing == 2


def killed(call, owner, name):
    """Make a call in a forked child that dies, like one that is killed, where `name` is called."""
    child = os.fork()
    if not child:
        try:
            setattr(owner, name, lambda *given, **more: os._exit(9))
            call()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "at", [(sys.modules[sweeps.merge.__module__], "_copy"), (SweepOutput, "write")]
)
def test_a_merge_that_was_killed_goes_on_and_no_other_takes_its_place(tmp_path, at):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "b", texts=TEXTS[1:])
    folders, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "both"
    assert killed(lambda: sweeps.merge(folders, out), *at) == 9
    with pytest.raises(RunFolderError, match=r"holds 'sweep'; expected a new or empty folder, or"):
        sweeps.merge(folders[:1], out)
    assert sweeps.merge(folders, out).n_missing == 0
    sweep(tmp_path / "whole")
    assert tables(out) == tables(tmp_path / "whole")
    with pytest.raises(RunFolderError, match="expected a new or empty folder"):
        sweeps.merge(folders, out)


def test_what_cannot_be_merged_is_named(tmp_path):
    sweep(tmp_path / "a")
    sweep(tmp_path / "b", replace(ZERO, ordinary=1))
    with pytest.raises(RunFolderError, match="other ordinary"):
        sweeps.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    sweep(tmp_path / "c", texts=[replace(TEXTS[1], text_id="t0")])
    with pytest.raises(RunFolderError, match="another text 't0'"):
        sweeps.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "both")
    next((tmp_path / "a" / "sweep" / "shards").iterdir()).write_bytes(b"")
    with pytest.raises(RunFolderError, match="is damaged"):
        sweeps.merge([tmp_path / "a"], tmp_path / "both")
    with pytest.raises(RunFolderError, match="is not a sweep folder"):
        sweeps.merge([tmp_path], tmp_path / "both")
    assert not (tmp_path / "both").exists()


@exhaustive
def test_a_merge_that_lacks_cells_is_whole_all_the_same(tmp_path):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "c", replace(ZERO, edits=("mean",)), texts=TEXTS[:1])
    assert sweeps.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "ac").n_missing == 2
    assert sweeps.verify(tmp_path / "ac").complaints == ()


def test_cells_that_several_parts_have_are_there_once(tmp_path):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "b", texts=TEXTS[1:])
    sweeps.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert sweeps.sweep_status(tmp_path / "both").n_cells == 12


def by_other_code(monkeypatch, **versions):
    known = hashes.versions_of_code() | versions
    for module in (tasks, stored_config, output, about):
        monkeypatch.setattr(module, "versions_of_code", lambda: known)


@exhaustive
def test_parts_of_other_code_keep_their_cells_or_are_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        by_other_code(patch, engine="an older one")
        sweep(tmp_path / "a", texts=TEXTS[:1])
        sweep(tmp_path / "b", texts=TEXTS[1:2])
        sweep(tmp_path / "both-then", texts=TEXTS[:2])
    assert sweeps.sweep_status(tmp_path / "a").n_missing == 0
    assert sweeps.verify(tmp_path / "a").complaints == ()
    found = sweeps.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert (found.n_cells, found.n_missing) == (8, 0)
    assert tables(tmp_path / "both") == tables(tmp_path / "both-then")
    told = RunFolder(tmp_path / "both").record()["versions_of_code"]
    assert told["engine"] == "an older one"
    sweep(tmp_path / "c", texts=TEXTS[2:])
    with pytest.raises(RunFolderError, match=r"c' was computed by other code than .*a' \(engine"):
        sweeps.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_cells_of_code_before_the_last_are_counted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        by_other_code(patch, engine="an older one")
        sweep(tmp_path / "a", texts=TEXTS[:1])
    sweep(tmp_path / "a", texts=TEXTS[:1], force=True)
    found = sweeps.merge([tmp_path / "a"], tmp_path / "one")
    assert (found.n_cells, found.n_missing, found.n_unused) == (4, 0, 2)


@exhaustive
def test_what_a_killed_merge_left_half_written_is_no_table(tmp_path):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "b", texts=TEXTS[1:])
    folders, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "both"
    assert killed(lambda: sweeps.merge(folders, out), SweepOutput, "_model") == 9
    (out / ".part-99-sinks.parquet").write_bytes(b"half")
    (out / "sweep" / "shards" / ".part-99-0.sinks.parquet").write_bytes(b"half")
    sweeps.merge(folders, out)
    assert set(RunFolder(out).record()["tables"]) == {"sinks", "effects", "trace"}
    assert not list(out.rglob(".part-*"))
    assert sweeps.verify(out).complaints == ()
    assert sweeps.sweep_status(out).n_cells == 12
