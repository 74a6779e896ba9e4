"""The same call again: noticed from the files alone, and never where one of them has changed."""

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

from secondary_sinks.cli.again import note_done, show_again
from secondary_sinks.cli.app import detect
from secondary_sinks.cli.entry import run
from tests.tiny import save_tiny

WITHOUT_TORCH = """
import sys
sys.modules |= dict.fromkeys(["torch", "transformers", "transformer_lens", "pandas"], None)
from secondary_sinks.cli.entry import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def finished(tmp_path, monkeypatch, capfd):
    """A finished `detect` in a folder of its own: its arguments, and what it printed."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "mine")
    (tmp_path / "mine.txt").write_text("The mill stood by the river. " * 3)
    arguments = ["detect", "mine", "--texts", "mine.txt", "--out", "out"]
    assert run(arguments) == 0
    return arguments, capfd.readouterr().out


def test_it_needs_neither_torch_nor_a_model_and_prints_the_same(finished):
    arguments, printed = finished
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    first, rest = done.stdout.split("\n", 1)
    assert first == "out already holds this run (same inputs); nothing to do"
    assert rest == printed


def touch(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def swap(path):
    """Another file of the same size and time."""
    stat, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def change_in_place(path):
    """Another content of the same size, under the same name, time and inode."""
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


DEEP = "[" * 100_000
CHANGES = {
    "a text in place": lambda place: change_in_place(place / "mine.txt"),
    "weights in place": lambda place: change_in_place(place / "mine" / "model.safetensors"),
    "a deep note": lambda place: (place / "out" / "sweep" / "again.json").write_text(DEEP),
    "weights touched": lambda place: touch(place / "mine" / "model.safetensors"),
    "weights swapped": lambda place: swap(place / "mine" / "model.safetensors"),
    "a further file of the model": lambda place: (place / "mine" / "new.json").write_text("{}"),
    "another text": lambda place: (place / "mine.txt").write_text("The mill ran. " * 3),
    "a table touched": lambda place: touch(place / "out" / "sinks.parquet"),
    "a table removed": lambda place: (place / "out" / "trace.parquet").unlink(),
    "no note": lambda place: (place / "out" / "sweep" / "again.json").unlink(),
    "a damaged note": lambda place: (place / "out" / "sweep" / "again.json").write_text("[]"),
}


def test_a_text_is_known_by_its_content(finished, tmp_path, monkeypatch):
    options = {one: parameter.default for one, parameter in signature(detect).parameters.items()}
    options |= {"models": ["mine"], "texts": ["mine.txt"], "out": Path("out")}
    monkeypatch.setattr("secondary_sinks.cli.again._stats", lambda places: {})
    note_done("detect", options, "shown")
    assert show_again("detect", options)
    change_in_place(tmp_path / "mine.txt")
    assert not show_again("detect", options)


def test_whatever_changes_is_looked_at_the_long_way(finished, tmp_path):
    options = {one: parameter.default for one, parameter in signature(detect).parameters.items()}
    options |= {"models": ["mine"], "texts": ["mine.txt"], "out": Path("out")}
    assert show_again("detect", options)
    assert not show_again("run", options)
    others = {"force": True, "seed": 1, "dtype": "bfloat16", "out": tmp_path}
    for name, value in others.items():
        assert not show_again("detect", {**options, name: value}), name
    for name, change in CHANGES.items():
        change(tmp_path)
        assert not show_again("detect", options), name
        note_done("detect", options, "shown")  # as the long way does at its end
        assert show_again("detect", options), name
