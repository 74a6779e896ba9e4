"""What is opened or renamed over is a regular file: pipes and devices are refused, by name."""

import ast
import os
import socket
from pathlib import Path

import pytest

import experiments
import secondary_sinks
import tools
from secondary_sinks import files
from secondary_sinks.errors import LargeFileError, SinkError, SpecialFileError

ROOTS = [Path(room.__file__).parent for room in (secondary_sinks, experiments, tools)]
SOURCES = sorted(
    file for root in ROOTS for file in root.rglob("*.py") if file != Path(files.__file__)
)
OPENING = {
    *("open", "fdopen", "read_text", "read_bytes", "write_bytes", "safe_open", "load_file"),
    *("read_csv", "read_parquet", "read_table", "ParquetFile", "memmap", "fromfile"),
    *("ParquetWriter", "to_parquet", "to_feather", "write_html"),
}
MOVING = {"renames", "move", "copy2", "copyfile", "copytree", "link_to", "hardlink_to"}
ALLOWED = {
    "cli/entry.py": {"os.open", "os.fdopen"},  # os.devnull
    "models/original/checkpoint.py": {"safe_open"},  # of what was opened the line before
    "models/gguf/cache.py": {"building.rename", "(building / SEAL).write_text"},  # made here
    "models/gguf/compare.py": {"np.fromfile"},  # of a file whose header was read by `files`
    "tools/peak_memory.py": {
        "STATUS.read_text",
        "STATUS.with_name('clear_refs').write_text",
    },  # /proc
    "texts/read_files.py": {"resource.read_text"},  # of the package
    "plots/ablation.py": {
        "sinks.set_index(['text_id', 'sink_pos'])['mass_clean'].rename"
    },  # pandas
    "experiments/writers.py": {"drawn.groupby(['layer', 'role']).size().rename"},
    "experiments/their_steering.py": {"tokens.groupby(['reason', 'found']).size().rename"},
    "experiments/criterion_check.py": {"fresh.groupby(['reason', 'found']).size().rename"},
    "runs/as_csv.py": {"pd.read_csv"},
    "runs/durable.py": {"part.write_bytes", "os.open"},  # its own new file; a folder
    "runs/export.py": {"part.write_bytes", "path.open"},
    "runs/folder.py": {"part.write_bytes", "part.write_text"},
    "runs/parquet.py": {"pq.read_table"},  # of an open file
    "sweeps/assemble.py": {"pq.ParquetWriter"},  # to an open file
    "experiments/looked_at.py": {"pd.read_csv"},
    "experiments/pages.py": {"pd.read_csv"},
}
"""Calls whose argument was opened by `files`, or which are given a new file of our own."""
PARSING = {
    "files.py",
    *("texts/template_process.py", "texts/template_worker.py", "runs/generate.py"),  # our own line
    *("notebook/figures.py", "experiments/about.py"),  # data made here
    "tools/loading.py",
}
"""Files that may call `json.loads`: what they parse was written by the same program."""


@pytest.mark.parametrize("read", [files.read_bytes, files.read_text])
def test_a_file_that_would_take_all_memory_is_refused(read, tmp_path):
    path = tmp_path / "run.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no place on the disk
    with pytest.raises(LargeFileError, match=r"run.json' has 1,099,511,627,776 bytes; expected at"):
        read(path)
    path.write_bytes(b"12345")
    assert len(read(path, most=5)) == 5
    with pytest.raises(OSError, match="has 5 bytes; expected at most 4"):
        read(path, most=4)


def special(path, kind):
    """Make something at a path that is no regular file."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path.with_name("nowhere"))
    return path


def unread(path):
    """What the file system says of a place, but for when it was last read."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


KINDS = ("FIFO", "folder", "socket", "link to a device", "link to nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_neither_opened_nor_replaced(kind, tmp_path):
    source, path = tmp_path / "source", special(tmp_path / "there", kind)
    source.write_text("new")
    before = unread(path)
    for act in (
        lambda: files.read_bytes(path),
        lambda: files.read_text(path),
        lambda: files.open_file(path, "ab"),
        lambda: files.copy(path, tmp_path / "copy"),
        lambda: files.copy(source, path),
        lambda: files.replace(source, path),
        lambda: files.replace(path, tmp_path / "moved"),
    ):
        with pytest.raises(SpecialFileError, match=r"there' is a .*; expected a regular file"):
            act()
    assert unread(path) == before
    assert {item.name for item in tmp_path.iterdir()} <= {"source", "there"}


def test_a_pipe_that_comes_between_the_look_and_the_opening_is_refused(tmp_path, monkeypatch):
    path = special(tmp_path / "pipe", "FIFO")
    monkeypatch.setattr(files, "refuse_special", lambda path: None)
    with pytest.raises(SpecialFileError, match="pipe' is a FIFO"):
        files.read_bytes(path)


def test_files_and_links_to_files_are_as_they_were(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes("é\r\n".encode())
    link.symlink_to(path)
    assert files.read_text(link) == "é\n"
    files.replace(path, tmp_path / "moved")
    files.copy(tmp_path / "moved", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == "é\r\n".encode()
    with pytest.raises(FileNotFoundError):
        files.read_bytes(path)
    assert issubclass(SpecialFileError, SinkError | OSError)


def opening(tree):
    """Source of the calls that open or rename a file by its path."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = getattr(called, "attr", getattr(called, "id", ""))
        ours = isinstance(called, ast.Attribute) and ast.unparse(called.value) in {"files", "runs"}
        by_path = name in OPENING | MOVING or (name == "write_text" and len(node.args) == 1)
        if name in {"replace", "rename"} and isinstance(called, ast.Attribute):
            of_pandas = [ast.Dict] if name == "replace" else []
            by_path = len(node.args) == 1 and type(node.args[0]) not in of_pandas
        if by_path and not ours:
            yield ast.unparse(called)


def named(file):
    return file.relative_to(next(root for root in ROOTS if root in file.parents).parent).as_posix()


def test_nothing_else_opens_or_renames():
    for file in SOURCES:
        found = set(opening(ast.parse(file.read_text(encoding="utf-8"))))
        assert found <= ALLOWED.get(named(file).removeprefix("secondary_sinks/"), set()), file


def test_json_of_others_is_parsed_by_files_alone():
    """`json.loads` keeps the last of repeated keys and lets deep lists end the program."""
    for file in SOURCES:
        if "json.loads(" in file.read_text(encoding="utf-8"):
            assert named(file).removeprefix("secondary_sinks/") in PARSING, file


def test_the_search_knows_an_opening_when_it_sees_one():
    source = """
path.open(); open(p); a.read_text(); p.replace(q); shutil.copyfile(a, b); p.write_text(t)
frame.replace({1: 2}); "a".replace("b", "c"); files.read_text(p); folder.write_text("n", t)
"""
    assert list(opening(ast.parse(source))) == [
        *("path.open", "open", "a.read_text", "p.replace", "shutil.copyfile", "p.write_text")
    ]
