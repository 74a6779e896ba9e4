"""Versions of code: what decides numbers is part of them, what is said about it is not."""

import shutil
import textwrap

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


@pytest.mark.parametrize("change", [("x + 1", "x + 2"), ('"a"', '"b"'), ("    return", "  return")])
def test_every_other_change_is_seen(change):
    source = 'def f(x):\n    return x + 1, "a"\n'
    assert without_comments(source) != without_comments(source.replace(*change))
