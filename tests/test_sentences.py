"""Facts are fields; sentences are made from fields and never read back."""

import ast
from pathlib import Path

import pytest

from secondary_sinks.errors import (
    MeasureError,
    RunFolderError,
    SinkError,
    SpecialFileError,
)

ROOT = Path(__file__).parents[1]
ROOMS = (ROOT / "secondary_sinks", ROOT / "experiments")
FILES = sorted(file for room in ROOMS for file in room.rglob("*.py"))
SENTENCES = {"claim", "why", "statistic", "controls", "problem", "remedy", "reason", "message"}
"""Fields and keys that hold sentences."""
READING = {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "index"}
READING |= {"removeprefix", "removesuffix", "replace", "fullmatch", "match", "search", "sub"}
FOREIGN = {
    "secondary_sinks/foreign.py",
    "secondary_sinks/models/original/checkpoint.py",
}
"""Modules that must read errors of torch and transformers, which say by words alone what failed."""


def is_sentence(node):
    """Whether an expression is a sentence of ours: a field that holds one, or a whole error."""
    if isinstance(node, ast.Attribute):
        return node.attr in SENTENCES or node.attr == "__doc__"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value in SENTENCES
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if is_call and node.func.id == "str" and len(node.args) == 1:
        return isinstance(node.args[0], ast.Name) and node.args[0].id in {"error", "stopped"}
    return isinstance(node, ast.Name) and node.id in {"claim", "statistic", "controls"}


def read_back(source):
    """Lines on which a sentence is cut, matched or searched; to put it on one line is neither."""
    for node in ast.walk(ast.parse(source)):
        read = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on_one_line = node.func.attr == "split" and not node.args
            if node.func.attr in READING and not on_one_line:
                read = [node.func.value, *node.args]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            read = node.comparators
        if any(map(is_sentence, read)):
            yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        'str(error).partition(";")[0]',
        'verdict["statistic"].startswith("share")',
        're.sub(r"layer \\d+", "one layer", claim)',
        'controls.startswith("none")',
        '"weights" in str(error)',
        'module.__doc__.split("\\n")',
        'answer.why.removeprefix("because")',
    ],
)
def test_what_reads_a_sentence_is_seen(line):
    assert list(read_back(line)) == [1]


def test_no_sentence_is_read_back():
    assert len(FILES) > 200
    read = {file: list(read_back(file.read_text("utf-8"))) for file in FILES}
    found = {str(file.relative_to(ROOT)): lines for file, lines in read.items()}
    assert {name: at for name, at in found.items() if at and name not in FOREIGN} == {}
    assert all(found[name] for name in FOREIGN), "no longer needed"


def test_an_error_is_made_of_its_problem_and_its_remedy():
    whole = RunFolderError("'x' is damaged", "run again with --force")
    assert (whole.problem, whole.remedy) == ("'x' is damaged", "run again with --force")
    assert str(whole) == "'x' is damaged; run again with --force"
    assert str(MeasureError("k is -1; expected 0 or more")) == "k is -1; expected 0 or more"
    assert str(SinkError()) == ""


def test_an_error_about_a_special_file_has_both_too():
    error = SpecialFileError(Path("pipe"), "a pipe")
    assert error.problem == "'pipe' is a pipe"
    assert str(error) == f"{error.problem}; {error.remedy}"
    assert error.errno is not None
