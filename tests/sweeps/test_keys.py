"""Keys of content: code that decides numbers is part of them."""

import shutil
from pathlib import Path

import pytest

import secondary_sinks
from secondary_sinks.sweeps import keys


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("types/thresholds.py", "measures"),
        ("detection/detect.py", "measures"),
        ("sweeps/compute.py", "engine"),
        ("causal/replay.py", "engine"),
        ("report/page.py", None),
    ],
)
def test_a_version_changes_with_the_code_that_decides_numbers(file, changed, tmp_path, monkeypatch):
    package = shutil.copytree(Path(secondary_sinks.__file__).parent, tmp_path / "copy")
    with monkeypatch.context() as patched:
        patched.setattr(secondary_sinks, "__file__", str(package / "__init__.py"))
        patched.setattr(keys, "code_version", keys.code_version.__wrapped__)
        before = keys.versions_of_code()
        with (package / file).open("a") as opened:
            opened.write("# changed\n")
        after = keys.versions_of_code()
    assert {name for name in before if before[name] != after[name]} == {changed} - {None}
