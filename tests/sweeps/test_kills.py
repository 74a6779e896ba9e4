"""Sweeps that are killed, damaged, starved of disk and run twice end as if nothing had happened.

Children are real processes that run `secondary-sinks ablate`; see `children`.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from secondary_sinks import runs
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder, durable, export
from secondary_sinks.sweeps import merge, sweep_status, verify
from secondary_sinks.sweeps.manifest import Manifest
from tests.marks import exhaustive, thinned
from tests.sweeps import children

TABLES = ("sinks", "effects", "trace")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
KILLS = [2, 31]
GO_ON = "rerun the same command to resume"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder with texts, and `whole`, a sweep of them; and the seconds that the sweep took."""
    place = tmp_path_factory.mktemp("sweeps")
    children.write_texts(place / "texts.jsonl")
    children.start_server()
    begin = time.monotonic()
    code, computed, said = finish(place, place / "whole")
    took = time.monotonic() - begin
    assert code == 0, said
    assert len(computed) == len(set(computed)) == 72
    return place, took


@pytest.fixture(scope="module")
def place(undisturbed):
    return undisturbed[0]


@pytest.fixture
def copy(place, tmp_path):
    """A finished sweep that may be damaged."""
    return shutil.copytree(place / "whole", tmp_path / "copy")


def finish(place, out, number=0, **options):
    """Run a sweep to its end: exit code, keys of the units it computed, what it said."""
    child, log, said = children.start(place, out, number, **options)
    child.join(60)
    assert child.exitcode is not None, "it hangs"
    return child.exitcode, log.read_text().split(), said.read_text()


def tables(folder):
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}


def done(folder):
    """Keys of the units that are finished; the manifest and its shards must be sound."""
    manifest = Manifest(folder)
    assert manifest.check() == [], "what is finished is whole"
    return {key for keys in manifest.done().values() for key in keys}


def kill(child, number, after):
    """Send a signal after some seconds; how long the child then lived, None if it was over."""
    child.join(after)
    if child.exitcode is not None:
        return None
    os.kill(child.pid, number)
    begin = time.monotonic()
    child.join(10)
    assert child.exitcode is not None, f"{number!r} was not heard"
    return time.monotonic() - begin


@pytest.mark.parametrize("least", thinned(KILLS, [2]))
def test_a_sweep_killed_at_any_moment_ends_as_if_it_had_not_been(least, undisturbed, tmp_path):
    (place, seconds), chance = undisturbed, random.Random(2024)
    kills, rounds, finished = 0, 0, 0
    while kills < least or not finished:
        out, ended = tmp_path / f"out-{rounds}", False
        while not ended:
            before, number = done(out), chance.choice(SIGNALS)
            child, log, said = children.start(place, out, kills)
            took = kill(child, number, chance.uniform(0.0, 1.1 * seconds))
            computed = log.read_text().split()
            assert not before & set(computed), "a finished unit was computed again"
            assert len(computed) == len(set(computed))
            assert before <= done(out), "something finished was lost"
            ended = took is None or child.exitcode == 0
            if not ended:
                kills += 1
                assert_stopped(child.exitcode, number, took, said.read_text())
            if RunFolder(out).has_record():
                assert tables(out) == tables(place / "whole"), "a record means complete tables"
            if kills >= least and not ended:
                assert finish(place, out, number=999)[0] == 0
                ended = True
        assert tables(out) == tables(place / "whole")
        assert verify(out).complaints == ()
        assert not list(out.rglob(".part-*-*")), "nothing half-written is left"
        rounds, finished = rounds + 1, finished + 1
    assert kills >= least


def assert_stopped(code, number, took, said):
    """An interrupt ends within two seconds and says how to go on, once the command has begun."""
    assert took < 2.0
    if number != signal.SIGKILL and GO_ON in said:
        assert code == CODES[number]
    elif number != signal.SIGKILL:
        assert code in (CODES[number], -number, 1), "before the command was there to hear it"
    else:
        assert code == -9


def test_an_interrupt_says_how_to_go_on(place, tmp_path):
    child, _, said = children.start(place, tmp_path / "out")
    while not done(tmp_path / "out"):
        time.sleep(0.02)
    assert kill(child, signal.SIGINT, 0) < 2.0
    assert child.exitcode == 130
    assert f"{GO_ON}: {tmp_path / 'out'} keeps the work" in said.read_text()


def test_an_interrupt_is_heard_in_the_middle_of_a_long_computation(place, tmp_path):
    child, log, said = children.start(place, tmp_path / "out", busy=True)
    while "busy" not in log.read_text():
        time.sleep(0.02)
    assert kill(child, signal.SIGINT, 0.3) < 2.0
    assert child.exitcode == 130
    assert GO_ON in said.read_text()


def damage(path, chance):
    """Flip a bit, cut the end off, or remove a file."""
    content = bytearray(path.read_bytes())
    how = chance.choice(("flip", "flip", "cut", "remove"))
    if how == "flip":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)
    if how == "remove":
        path.unlink()
    return how


@pytest.mark.parametrize("seed", thinned(range(8), [0]))
def test_what_is_damaged_is_noticed_said_and_done_again(seed, place, copy, tmp_path):
    chance, original = random.Random(seed), done(place / "whole")
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    shards = [file for file in files if file.parent.name == "shards"]
    for file in {chance.choice(files), chance.choice(shards)}:
        damage(file, chance)
    assert verify(copy).complaints or not (copy / "run.json").is_file()
    left = still_good(copy)
    code, computed, said = finish(place, copy, number=seed)
    assert code == 0
    assert "warning:" in said or not left, said
    assert not left & set(computed), "only what is damaged is done again"
    assert original - left == set(computed)
    assert tables(copy) == tables(place / "whole")
    assert verify(copy).complaints == ()


def still_good(folder):
    manifest = Manifest(folder)
    manifest.check()
    return {key for keys in manifest.done().values() for key in keys}


def test_a_damaged_shard_is_set_aside_and_kept(place, copy):
    shard = sorted((copy / "sweep" / "shards").glob("*.effects.parquet"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    code, computed, said = finish(place, copy)
    assert code == 0
    assert f"shard {shard.name} is damaged" in said
    assert len(computed) == 12, "one text, and no other"
    assert [p.read_bytes() for p in (copy / "sweep" / "damaged").glob("*effects*")] == [content]


@exhaustive
def test_a_file_size_limit_is_one_line_and_the_sweep_goes_on_later(place, tmp_path):
    out = tmp_path / "out"
    code, _, said = finish(place, out, limit=12_000)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "cannot be written" in said
    assert finish(place, out)[0] == 0
    assert tables(out) == tables(place / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    found = subprocess.run(mount, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no file system can be mounted here: {found.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_the_sweep_goes_on_when_there_is_room(place, small_disk):
    out = small_disk / "out"
    code, _, said = finish(place, out)
    assert code == 2
    assert "No space left on device" in said
    before = done(out)
    assert 0 < len(before) < 72
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    code, again, _ = finish(place, out)
    assert code == 0
    assert not before & set(again)
    assert tables(out) == tables(place / "whole")


def test_a_full_disk_leaves_no_half_of_a_merge_or_an_export(place, small_disk):
    subprocess.run(["mount", "-o", "remount,size=60k", str(small_disk)], check=True)
    with pytest.raises(RunFolderError, match="No space left on device"):
        merge([place / "whole"], small_disk / "merged")
    assert not list(small_disk.iterdir()), "so that the same command can be run again"
    with pytest.raises(RunFolderError, match="No space left on device"):
        export(place / "whole", "csv", small_disk / "export")
    assert not list(small_disk.rglob(".part-*")), "files are whole"
    shutil.rmtree(small_disk / "export")
    (small_disk / "fill").write_bytes(b"0" * 60_000)
    with pytest.raises(RunFolderError, match="No space left on device"):
        durable.append(small_disk / "lines", b"0" * 9000)
    assert not (small_disk / "lines").exists()


def test_a_read_only_folder_is_one_line_and_stays_as_it_is(place, small_disk):
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    copy = Path(shutil.copytree(place / "whole", small_disk / "copy"))
    (copy / "effects.parquet").unlink()
    before = {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, computed, said = finish(place, copy)
    assert (code, computed) == (2, [])
    assert "cannot be written: Read-only file system" in said
    assert said.count("\n") == 1
    assert {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()} == before


def test_a_second_sweep_in_the_folder_is_refused_and_the_first_is_not_disturbed(place, tmp_path):
    out = tmp_path / "out"
    first, _, _ = children.start(place, out, 1)
    while not done(out):
        time.sleep(0.02)
    code, computed, error = finish(place, out, number=2)
    assert (code, computed) == (2, [])
    assert "another run is writing" in error
    first.join(60)
    assert first.exitcode == 0
    assert tables(out) == tables(place / "whole")


def test_a_killed_sweep_has_a_status_and_no_tables(place, tmp_path):
    out = tmp_path / "out"
    child, _, _ = children.start(place, out)
    while not done(out):
        time.sleep(0.02)
    kill(child, signal.SIGKILL, 0)
    found = sweep_status(out)
    assert 0 < found.n_units - found.n_missing < 72
    assert not found.finished
    assert "secondary-sinks ablate planted" in found.lines()[-1]
    with pytest.raises(RunFolderError, match="is an unfinished sweep"):
        runs.open(out)
