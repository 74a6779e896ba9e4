"""Pipes and devices in the places of a run's files: refused at once and by name, never replaced."""

import os
import signal

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.errors import RunFolderError, SpecialFileError
from secondary_sinks.report.compare import write_comparison
from secondary_sinks.runs import RunFolder, durable
from secondary_sinks.sweeps import sweep_status, verify
from tests.cli.test_malformed_runs import write_run
from tests.sweeps.small_sweeps import TEXTS, sweep

pytestmark = pytest.mark.usefixtures("soon")


@pytest.fixture
def soon():
    """Whoever waits for the other end of a pipe is interrupted."""

    def late(*_):
        raise AssertionError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path):
    """Put a pipe in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["run.json", "sinks.parquet", "trace.parquet"])
def test_a_report_of_a_run_with_a_pipe_in_it(name, tmp_path, capfd):
    write_run(tmp_path / "run")
    path = pipe(tmp_path / "run" / name)
    assert run(["report", str(tmp_path / "run")]) == 2
    error = capfd.readouterr().err
    assert name in error
    assert "is a FIFO (named pipe)" in error
    assert path.is_fifo()


def test_a_comparison_does_not_replace_a_pipe_or_device_even_by_force(tmp_path):
    folders = [write_run(tmp_path / name) for name in "ab"]
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (pipe(tmp_path / "page.html"), tmp_path / "null"):
        with pytest.raises(SpecialFileError, match=rf"{path.name}' is a .*; expected a regular"):
            write_comparison(folders, path, force=True)
    assert (tmp_path / "page.html").is_fifo()
    assert (tmp_path / "null").is_char_device()


@pytest.mark.parametrize("name", ["run.json", "sinks.parquet"])
def test_a_run_does_not_replace_a_pipe_even_by_force(name, tmp_path):
    write_run(tmp_path / "run")
    path, folder = pipe(tmp_path / "run" / name), RunFolder(tmp_path / "run")
    with pytest.raises((RunFolderError, SpecialFileError), match=rf"'{name}', which no run wrote"):
        folder.prepare(force=True)
    with pytest.raises(SpecialFileError, match=rf"{name}' is a FIFO"):
        durable.write(path, b"{}")
    assert path.is_fifo()


def test_a_lock_that_is_a_pipe_stays_one(tmp_path):
    path = pipe(tmp_path / durable.LOCK)
    with pytest.raises(SpecialFileError, match="lock' is a FIFO"):
        RunFolder(tmp_path).claim().__enter__()
    assert path.is_fifo()


def shard(work):
    return next((work / "shards").iterdir())


PLACES = {
    "run.json": lambda work: work.parent / "run.json",
    "manifest": lambda work: work / "manifest.jsonl",
    "config": lambda work: work / "config.json",
    "shard": shard,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_sweep_with_a_pipe_in_it_is_refused_by_whoever_opens_it(place, tmp_path):
    out = tmp_path / "out"
    sweep(out, texts=TEXTS[:1])
    path = pipe(place(out / "sweep"))
    for look in (sweep_status, verify, lambda folder: sweep(folder, texts=TEXTS[:1])):
        try:
            said = look(out).complaints[0]
        except (RunFolderError, SpecialFileError) as error:
            said = str(error)
        assert path.name in said
        assert "is a FIFO (named pipe)" in said
    assert path.is_fifo()
