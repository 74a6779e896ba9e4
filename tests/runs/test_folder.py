"""Run folders: nothing is overwritten silently, nothing damaged or half-written is believed."""

import json
import math

import pandas as pd
import pyarrow.parquet as pq
import pytest

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder

FRAME = pd.DataFrame({"text_id": ["a", "b"] * 500, "mass": [i / 1000 for i in range(1000)]})


def fill(path, key="k"):
    """A small complete run."""
    folder = RunFolder(path)
    folder.prepare()
    folder.write_table("sinks", FRAME)
    folder.write_record({"key": key, "verdicts": []})
    return folder


def claim_and_fail(path, error, *, finished):
    """Write into a claimed folder, then fail."""
    with RunFolder(path).claim() as folder:
        folder.write_table("sinks", FRAME)
        if finished:
            folder.write_record({"key": "k", "verdicts": []})
        raise error


def contents(path):
    return {item.name: item.read_bytes() for item in path.iterdir()}


def test_what_is_written_comes_back(tmp_path):
    folder = fill(tmp_path / "new" / "run")
    pd.testing.assert_frame_equal(folder.table("sinks"), FRAME)
    assert folder.record()["key"] == "k"
    assert folder.has_record()
    assert folder.record()["key"] == "k"
    assert sorted(contents(folder.path)) == ["run.json", "sinks.parquet"]


def test_a_finished_run_is_replaced_by_force_only(tmp_path):
    folder = fill(tmp_path / "run")
    before = contents(folder.path)
    for refuses in (folder.check, folder.prepare):
        with pytest.raises(RunFolderError, match="a finished run of other inputs"):
            refuses()
    assert contents(folder.path) == before
    with pytest.raises(RunFolderError, match="force is 'no'; expected True or False"):
        folder.prepare(force="no")
    folder.check(force=True)
    assert contents(folder.path) == before, "a check removes nothing"
    folder.prepare(force=True)
    assert contents(folder.path) == {}


def test_an_unfinished_run_is_no_run_and_is_replaced_by_force_only(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_table("sinks", FRAME)
    assert not folder.has_record()
    with pytest.raises(RunFolderError, match=r"'sinks\.parquet'.*--force"):
        folder.prepare()
    with pytest.raises(RunFolderError, match=r"no readable run\.json"):
        folder.record()
    folder.prepare(force=True)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "sinks.csv"])
def test_files_of_others_are_never_removed(name, force, tmp_path):
    fill(tmp_path)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(RunFolderError):
        RunFolder(tmp_path).prepare(force=force)
    assert contents(tmp_path) == before


def test_a_folder_with_the_name_of_a_result_is_not_removed(tmp_path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match=r"'report\.html', which no run wrote"):
        RunFolder(tmp_path).prepare(force=True)
    assert (tmp_path / "report.html" / "thesis.tex").read_text() == "mine"


def test_force_through_a_symbolic_link_removes_run_files_and_keeps_the_link(tmp_path):
    real, link, precious = tmp_path / "real", tmp_path / "link", tmp_path / "precious"
    fill(real)
    precious.write_text("not ours")
    (real / "report.html").symlink_to(precious)
    link.symlink_to(real)
    RunFolder(link).prepare(force=True)
    assert link.is_symlink()
    assert contents(real) == {}
    assert precious.read_text() == "not ours", "a linked file is unlinked, not emptied"


def test_a_file_in_the_way_is_named(tmp_path):
    path = tmp_path / "results"
    path.write_text("mine")
    with pytest.raises(RunFolderError, match=f"{path}"), RunFolder(path).claim():
        pass
    assert path.read_text() == "mine"


@pytest.mark.parametrize("where", ["file/below", "n" * 300, "dangling"])
def test_what_cannot_be_written_is_one_error(where, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "where")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(RunFolderError, match="cannot be written"):
        RunFolder(tmp_path / where).claim().__enter__()
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_without_write_permission_is_one_error():
    # /proc is closed to root too.
    with (
        pytest.raises(RunFolderError, match="'/proc' cannot be written"),
        RunFolder("/proc").claim(),
    ):
        pass


def test_every_flipped_byte_of_a_column_is_noticed(tmp_path):
    folder = fill(tmp_path)
    path = tmp_path / "sinks.parquet"
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    start, size = column.dictionary_page_offset, column.total_compressed_size
    for place in range(start + 40, start + size, size // 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"sinks\.parquet' is damaged"):
            folder.table("sinks")


@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
def test_a_truncated_table_is_noticed(keep, tmp_path):
    folder = fill(tmp_path)
    path = tmp_path / "sinks.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(RunFolderError, match="damaged"):
        folder.table("sinks")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"has no effects\.parquet"):
        fill(tmp_path).table("effects")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"key": "k"}', '{"schema": 99}', b"\xff"]
)
def test_a_damaged_record_is_noticed(content, tmp_path):
    folder = fill(tmp_path)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "run.json").write_bytes(raw)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        folder.record()


def test_half_written_files_are_no_results(tmp_path):
    for name in (".part-77-run.json", ".part-77-sinks.parquet"):
        (tmp_path / name).write_text('{"schema": 1, "key": "k"}')
    folder = RunFolder(tmp_path)
    assert not folder.has_record()
    with pytest.raises(RunFolderError):
        folder.table("sinks")
    folder.prepare()
    assert contents(tmp_path) == {}, "what a killed run left is in nobody's way"


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path):
    folder = fill(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(TypeError):
        folder._write("run.json", lambda part: (part.write_text("{"), json.dumps(folder)))
    assert contents(tmp_path) == before


def test_the_record_is_strict_json_and_keeps_missing_numbers(tmp_path):
    verdict = {"claim": "c", "value": math.nan, "low": 0.5, "high": math.nan}
    folder = RunFolder(tmp_path)
    folder.write_record({"key": "k", "path": "not utf-8 \udcff", "verdicts": [verdict]})

    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    json.loads((tmp_path / "run.json").read_text("utf-8"), parse_constant=refuse)
    back = folder.record()["verdicts"][0]
    assert math.isnan(back["value"])
    assert back["low"] == 0.5
    assert folder.record()["path"] == "not utf-8 \udcff"


def test_a_claim_that_comes_to_nothing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        claim_and_fail(tmp_path / "a" / "b", KeyboardInterrupt, finished=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_beside_one_that_has_to_be_made_can_be_read(tmp_path):
    place = tmp_path / "new" / ".." / "run"
    with RunFolder(place).claim() as folder:
        fill(folder.path)
    assert RunFolder(place).has_record()


def test_a_claim_keeps_a_finished_run_when_what_follows_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        claim_and_fail(tmp_path / "run", ZeroDivisionError, finished=True)
    assert sorted(contents(tmp_path / "run")) == ["run.json", "sinks.parquet"]


def test_a_failed_claim_keeps_what_was_there(tmp_path):
    fill(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(RunFolderError), RunFolder(tmp_path).claim() as folder:
        folder.check()
    assert contents(tmp_path) == before


def test_two_claims_of_one_folder_are_refused(tmp_path):
    with RunFolder(tmp_path / "run").claim():
        with (
            pytest.raises(RunFolderError, match="another run is writing"),
            RunFolder(tmp_path / "run").claim(),
        ):
            pass
        assert (tmp_path / "run").is_dir()
    with RunFolder(tmp_path / "run").claim():
        pass
    assert not (tmp_path / "run").exists()
