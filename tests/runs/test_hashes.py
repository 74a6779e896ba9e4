"""Versions of code: what decides numbers is part of them, what is said about it is not."""

import ast
import io
import shutil
import textwrap
import tokenize

import pytest

from secondary_sinks.runs import hashes
from secondary_sinks.runs.hashes import PACKAGE, without_comments


def versions_before_and_after(tmp_path, monkeypatch, file, change):
    """What `versions_of_code` says of a copy of the package, before and after a change."""
    package = shutil.copytree(PACKAGE, tmp_path / "copy")
    with monkeypatch.context() as patched:
        patched.setattr(hashes, "PACKAGE", package)
        patched.setattr(hashes, "code_version", hashes.code_version.__wrapped__)
        before = hashes.versions_of_code()
        source = package / file
        source.write_text(change(source.read_text("utf-8")), "utf-8")
        return before, hashes.versions_of_code()


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("types/sinks.py", "measures"),
        ("detection/detect.py", "measures"),
        ("layerwise/chunks.py", "measures"),
        ("sweeps/compute.py", "engine"),
        ("causal/replay.py", "engine"),
        ("report/page.py", None),
    ],
)
def test_a_version_changes_with_the_code_that_decides_numbers(file, changed, tmp_path, monkeypatch):
    before, after = versions_before_and_after(
        tmp_path, monkeypatch, file, lambda source: source + "CHANGED = 1\n"
    )
    assert {name for name in before if before[name] != after[name]} == {changed} - {None}


@pytest.mark.parametrize("file", ["types/sinks.py", "causal/replay.py"])
def test_a_comment_and_a_docstring_leave_the_versions(file, tmp_path, monkeypatch):
    before, after = versions_before_and_after(
        tmp_path,
        monkeypatch,
        file,
        lambda source: source.replace('"""', '"""Reworded. ', 1) + "# new\n",
    )
    assert before == after


def test_only_comments_and_bare_strings_are_left_out():
    source = '''
        """A module."""
        import os  # why


        def f(x):
            """What f does,
            at length."""
            # aside
            s = "# no comment"  # one
            return f"{x!r} # {s}" + """no docstring"""
    '''
    kept = """
        import os
        def f(x):
            s = "# no comment"
            return f"{x!r} # {s}" + \"\"\"no docstring\"\"\"
    """
    assert without_comments(textwrap.dedent(source)) == textwrap.dedent(kept).strip()


def test_every_module_is_read_as_python_reads_it():
    for file in sorted(PACKAGE.rglob("*.py")):
        source = file.read_text("utf-8")
        assert without_comments(source) == plainly_without_comments(source), file


def plainly_without_comments(source):
    """The same with Python's own parser and tokenizer, which take five times as long."""
    lines = [line.encode() for line in source.split("\n")]
    for row, begin, last_row, end in sorted(plainly_said(source), reverse=True):
        lines[row - 1 : last_row] = [lines[row - 1][:begin] + lines[last_row - 1][end:]]
    kept = [line.decode().rstrip() for line in lines]
    return "\n".join(line for line in kept if line)


def plainly_said(source):
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.lineno, text.col_offset, text.end_lineno, text.end_col_offset
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, begin, end = token.start[0], token.line[: token.start[1]], token.string
            begin = len(begin.encode())
            yield row, begin, row, begin + len(end.encode())


@pytest.mark.parametrize("change", [("x + 1", "x + 2"), ('"a"', '"b"'), ("    return", "  return")])
def test_every_other_change_is_seen(change):
    source = 'def f(x):\n    return x + 1, "a"\n'
    assert without_comments(source) != without_comments(source.replace(*change))
