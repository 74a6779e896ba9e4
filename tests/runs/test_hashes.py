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


def said(source):
    """Where Python's own parser and tokenizer see comments and strings that are statements."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.lineno, text.col_offset, text.end_lineno, text.end_col_offset
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            begin = len(token.line[:column].encode())
            yield row, begin, row, begin + len(token.string.encode())


def without_comments_parsed(source):
    """The slow way, with a parser."""
    lines = [line.encode() for line in source.split("\n")]
    for row, begin, last_row, end in sorted(said(source), reverse=True):
        tail = lines[last_row - 1][end:]
        lines[row - 1 : last_row] = [lines[row - 1][:begin] + tail]
    return "\n".join(line for line in (one.decode().rstrip() for one in lines) if line)


def test_what_is_left_out_is_what_python_sees():
    rooms = (PACKAGE, PACKAGE.parent / "experiments")
    paths = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    assert len(paths) > 200
    for path in paths:
        source = path.read_text("utf-8")
        assert without_comments(source) == without_comments_parsed(source), path


HARD = r"""
r'''raw \\''' # why
b"bytes are no docstring"
f"{1} is none"
x = [
    "in brackets", # first
    "(", '#',
]
y = (1,
"still in brackets")
z = "a" \
  "continued"
'it\'s "one"'  # and a comment
def f(): return "#", "''' no end"
# no comment "
'''two
lines # of text'''
"""


def test_strings_that_look_like_comments_and_brackets_in_strings():
    assert without_comments(HARD) == without_comments_parsed(HARD)


@pytest.mark.parametrize("change", [("x + 1", "x + 2"), ('"a"', '"b"'), ("    return", "  return")])
def test_every_other_change_is_seen(change):
    source = 'def f(x):\n    return x + 1, "a"\n'
    assert without_comments(source) != without_comments(source.replace(*change))
