"""Statistics over texts have one home and are imported from there by their public names."""

import ast
import importlib
from pathlib import Path

import secondary_sinks
from secondary_sinks import statistics

PACKAGE = Path(secondary_sinks.__file__).parent
ROOT = PACKAGE.parent
SOURCES = [
    file
    for folder in (PACKAGE, ROOT / "experiments", ROOT / "tools")
    for file in sorted(folder.rglob("*.py"))
    if PACKAGE / "statistics" not in file.parents
]
OTHER_DISTRIBUTIONS = {"roles.py"}
"""Modules with a distribution that is not over texts: the cosine of random directions."""


def imports(file):
    """(module, name) of everything that a file imports by name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def test_no_other_room_computes_intervals_or_p_values():
    found = {file.name for file in SOURCES if ("scipy", "stats") in set(imports(file))}
    assert found <= OTHER_DISTRIBUTIONS


def test_everyone_imports_public_names():
    for file in SOURCES:
        ours = [pair for pair in imports(file) if pair[0].startswith(statistics.__name__)]
        assert all(module == statistics.__name__ for module, _ in ours), file
        assert {name for _, name in ours} <= set(statistics.__all__), file


def test_every_public_function_says_what_it_computes():
    """With shape or unit of the result, source or exactness: more than one sentence."""
    for name in statistics.__all__:
        one = getattr(statistics, name)
        if callable(one):
            assert one.__module__.startswith(statistics.__name__), name
            assert len(one.__doc__.split()) >= 8, name


def test_the_modules_of_the_room_have_distinct_names_for_functions():
    """No two functions of one name, such as two means over texts with different weights."""
    modules = [
        importlib.import_module(f"{statistics.__name__}.{file.stem}")
        for file in (PACKAGE / "statistics").glob("*.py")
        if file.stem != "__init__"
    ]
    names = [
        name
        for module in modules
        for name, one in vars(module).items()
        if callable(one) and getattr(one, "__module__", "") == module.__name__
    ]
    assert len(names) == len(set(names)) > 20
