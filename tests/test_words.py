"""Docstrings, comments and messages avoid phrases that readers stumble over."""

import re
from pathlib import Path

import secondary_sinks

PACKAGE = Path(secondary_sinks.__file__).parent
ROOMS = (
    *("errors.py", "files.py", "foreign.py", "types", "statistics", "measures", "texts"),
    *("observation", "causal", "attribution", "plots", "notebook", "testing"),
    *("runs", "sweeps"),
)
"""Rooms that were read once with this ear; add one when it was."""
PAGES = (
    *("measures", "concepts", "detection", "edits", "causality", "use-in-your-project"),
    *("notebook", "plants", "formation", "faq"),
    *("experiments", "tutorial", "models", "extending", "conformance"),
)
RIDDLES = re.compile(
    r"\bbeside\b|\b(?:is|are) none\b|^\s*(?:\"\"\")?[Oo]f what\b|\bthere (?:is|are) not\b"
    r"|\bwhat there (?:is|are)\b|\bnobody\b|\bso many\b|\bof its own affair\b",
    re.MULTILINE,
)


def sources():
    for room in ROOMS:
        path = PACKAGE / room
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))
    yield from (PACKAGE.parent / "docs" / f"{page}.md" for page in PAGES)


def test_no_riddles():
    found = {path: RIDDLES.findall(path.read_text(encoding="utf-8")) for path in sources()}
    assert len(found) > 90
    assert {path.as_posix(): words for path, words in found.items() if words} == {}


def test_a_riddle_would_be_found():
    before = ['"""Of what is drawn."""', "a layer that is none", "beside its control"]
    assert all(RIDDLES.search(line) for line in before)
    assert not RIDDLES.search('"""Random seed for sampling."""')
