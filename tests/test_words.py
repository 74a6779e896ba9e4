"""Docstrings, comments and messages avoid phrases that readers stumble over."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import secondary_sinks

PACKAGE = Path(secondary_sinks.__file__).parent
ROOT = Path(__file__).parents[1]
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


PRINTED = re.compile(
    r"\bbeside\b|\b(?:is|are) none\b|(?<!here )\bis no (?!longer|better)\w|\bof what\b"
    r"|\bso many\b|\bnobody\b|^Of (?:all|what|the)\b|\btold\b|\banew\b|\bcommonest\b|\bstood\b"
    r"|\bstands? twice\b|\bheld against\b|\bput to the test\b|\bless (?:the|that|those)\b"
    r"|\band do not with\b|[a-z]\(s\)"
    r"|\bwhat (?:the|an?|its)\b[\w'{} ]*\b(?:writes?|wrote)\b"
)
"""Constructions that a reader must read twice; each was once in a message, a claim or a caption."""
NOT_READ = {"experiments/claims.py", "experiments/pages.py"}
"""Modules whose words were not read yet; take one out when it was."""
FOLDERS = ("secondary_sinks", "experiments", "tools")


def printed(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each string with a space, docstrings left out; "{}" for what is filled in."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts: set[int] = set()
    for node in ast.walk(tree):  # a format string comes before its parts
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values if isinstance(part, ast.Constant)}
            texts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            text = "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and id(node) not in bare | parts:
            text = str(node.value)
        else:
            continue
        if " " in text:
            yield node.lineno, text


def test_strings_that_users_see_avoid_riddles():
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    files = [file for file in files if file.relative_to(ROOT).as_posix() not in NOT_READ]
    texts = [(file, *text) for file in files for text in printed(file.read_text(encoding="utf-8"))]
    pages = sorted(PACKAGE.rglob("*.html"))
    texts += [(page, 0, page.read_text(encoding="utf-8")) for page in pages]
    assert len(files) > 200
    assert len(pages) > 2
    assert len(texts) > 2_000
    riddles = [f"{file.relative_to(ROOT)}:{line}: {PRINTED.search(text).group()}"
               for file, line, text in texts if PRINTED.search(text)]  # fmt: skip
    assert riddles == []


@pytest.mark.parametrize(
    "line",
    [
        'Option(help="Of all that is left to chance.")',
        'raise Error(f"{path} is no run folder")',
        'caption = f"what the {mlp}" " writes"',
        'claim = "what the forming MLPs write makes a token a sink"',
        'why = f"{n} tokens that are none"',
        'left_out = {"stood in an earlier text": 3}',
        'say(f"{n} files are made anew")',
    ],
)
def test_a_riddle_in_a_string_would_be_found(line):
    assert any(PRINTED.search(text) for _, text in printed(line))


def test_docstrings_and_what_is_filled_in_are_not_strings_that_users_see():
    source = 'def f(told):\n    """As told."""\n    return f"{told} texts"\n'
    assert [text for _, text in printed(source)] == ["{} texts"]
