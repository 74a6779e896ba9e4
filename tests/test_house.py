"""The arrows between rooms, and what importing a room costs."""

import ast
import graphlib
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import secondary_sinks

PACKAGE = Path(secondary_sinks.__file__).parent
GROUND = {
    "display",
    "errors",
    "files",
    "foreign",
    "memory",
    "numbers",
    "progress",
    "statistics",
    "types",
}
"""What every room may import."""
ARROWS = {
    "errors": set(),
    "display": set(),
    "progress": set(),
    "files": {"errors"},
    "foreign": {"errors"},
    "memory": {"files"},
    "numbers": {"errors"},
    "statistics": {"display", "errors", "numbers"},
    "types": {"display", "errors", "files", "numbers"},
    "measures": {"errors", "numbers"},
    "texts": GROUND,
    "layerwise": GROUND | {"measures"},
    "models": GROUND | {"measures", "layerwise"},
    "observation": GROUND | {"measures", "texts", "layerwise", "models"},
    "detection": GROUND | {"measures", "observation"},
    "causal": GROUND | {"measures", "layerwise", "observation", "detection"},
    "attribution": GROUND | {"measures", "layerwise", "observation", "detection"},
    "questions": GROUND
    | {"measures", "layerwise", "observation", "detection", "causal", "attribution"},
    "plots": GROUND,
    "testing": GROUND,
}
ARROWS["runs"] = GROUND | {
    *("texts", "layerwise", "models", "observation", "detection", "causal", "questions"),
}
ARROWS["sweeps"] = ARROWS["runs"] | {"runs"}
ARROWS["report"] = GROUND | {"detection", "questions", "plots", "runs"}
ARROWS["notebook"] = ARROWS["runs"] | {"runs", "plots"}
ARROWS["cli"] = ARROWS["sweeps"] | {"sweeps", "report"}
ARROWS["__main__"] = {"cli"}
"""Which rooms each room may import, in the order in which data walks."""


def imports(file):
    """Full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(file):
    parts = file.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


FILES = sorted(
    file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE or file.stem != "__init__"
)


def test_a_room_imports_only_the_rooms_that_its_arrows_reach():
    for file in FILES:
        room = room_of(file)
        allowed = ARROWS[room] | {room}
        ours = [name.split(".") for name in imports(file) if name.startswith("secondary_sinks")]
        reached = {name[1] for name in ours if len(name) > 1}
        assert reached <= allowed, file


MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}


def reached(name):
    """Modules of ours that a module imports, now or when a function of it is called."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (own if own in MODULES else node.module for own in submodules)


def without_circles(arrows):
    """Everything that `arrows` reach, in an order; raises `graphlib.CycleError` for a circle."""
    return list(graphlib.TopologicalSorter(arrows).static_order())


def test_no_module_and_no_room_is_in_a_circle():
    top = secondary_sinks.__name__  # it imports names when they are first used
    modules = {
        name: {other for other in reached(name) if other in MODULES} - {name, top}
        for name in MODULES
        if name != top
    }
    assert len(without_circles(modules)) == len(MODULES) - 1
    rooms = {}
    for name, others in modules.items():
        room = rooms.setdefault(name.split(".")[1], set())
        room |= {other.split(".")[1] for other in others} - {name.split(".")[1]}
    assert len(without_circles(rooms)) == len(ARROWS)


def test_a_newcomer_finds_every_room_after_those_that_it_imports():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.split("| room | purpose |")[1].split("\n\n")[0]
    rooms = [room for row in table.splitlines() for room in re.findall("`([a-z]+)`", row[:60])]
    rooms = [room for room in rooms if room in ARROWS]
    assert sorted(rooms) == sorted(ARROWS.keys() - {"__main__"})
    for place, room in enumerate(rooms):
        assert not ARROWS[room] & set(rooms[place:]), room


def test_a_circle_would_be_seen():
    with pytest.raises(graphlib.CycleError):
        without_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_only_rooms_of_models_import_transformer_lens():
    for file in FILES:
        foreign = {name.split(".")[0] for name in imports(file)}
        makers = {"layerwise", "models", "testing"}
        assert room_of(file) in makers or "transformer_lens" not in foreign, file
        readers = makers | {"foreign", "texts"}
        assert room_of(file) in readers or "transformers" not in foreign, file


EXPERIMENTS = sorted((PACKAGE.parent / "experiments").glob("*.py"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_experiments_import_public_names_only(file):
    """From `secondary_sinks` or a room of it, never from a module of a room."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("secondary_sinks")]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("secondary_sinks"):
            assert node.module.count(".") <= 1, node.module
            room, asked = importlib.import_module(node.module), {one.name for one in node.names}
            public = getattr(room, "__all__", None) or [
                name for name in dir(room) if name[0] != "_"
            ]
            rooms = ARROWS if node.module == "secondary_sinks" else ()
            assert asked <= {*public, *rooms}, node.module


def test_no_two_test_files_have_the_same_name():
    """pytest imports test files of different folders by their names alone."""
    names = Counter(path.name for path in (PACKAGE.parent / "tests").rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []


def test_every_module_has_a_docstring_and_stays_readable():
    assert len(FILES) > 100
    for file in FILES:
        source = file.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(source)), file
        assert len(source.splitlines()) <= 300, file


def modules_after(statement):
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"transformer_lens", "transformers", "plotly", "pandas", "typer", "rich"}
HEAVY |= {"scipy", "pyarrow", "numpy"}


def test_measures_need_torch_einops_and_jaxtyping_only():
    theirs = modules_after("import torch, einops, jaxtyping")
    ours = modules_after("import secondary_sinks.measures, secondary_sinks.measures.cached")
    assert not (ours - theirs) & HEAVY


def test_measures_work_where_nothing_heavy_is_installed():
    code = f"""
import sys
sys.modules |= dict.fromkeys({sorted(HEAVY - {"numpy"})}, None)  # importing them now fails
import torch
from secondary_sinks import measures
from secondary_sinks.measures import cached
pattern = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
assert measures.attention_mass(pattern).tolist() == [0.625, 0.75]
cache = {{"blocks.0.attn.hook_pattern": pattern[None]}}
assert cached.attention_mass(cache, 0).tolist() == [0.625, 0.75]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_of_contents_is_lazy_and_complete():
    assert "torch" not in modules_after("import secondary_sinks")
    for name in secondary_sinks.__all__:
        assert getattr(secondary_sinks, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        getattr(secondary_sinks, "nothing_of_this_name")  # noqa: B009


def test_functions_win_over_rooms_of_the_same_name():
    for room in ARROWS.keys() - {"__main__"}:
        importlib.import_module(f"secondary_sinks.{room}")
    for name in secondary_sinks.__all__:
        assert not isinstance(getattr(secondary_sinks, name), ModuleType), name


def undefined_names(folder):
    """Names that no module defines, but for those in quotes: shapes are names to a linter."""
    words = ["check", "--isolated", "--select", "F821", "--output-format", "json", str(folder)]
    done = subprocess.run([sys.executable, "-m", "ruff", *words], capture_output=True, text=True)
    for one in json.loads(done.stdout):
        lines, at = Path(one["filename"]).read_text(encoding="utf-8").split("\n"), one["location"]
        if lines[at["row"] - 1][: at["column"] - 1].count('"') % 2 == 0:
            yield f"{one['filename']}:{at['row']}: {one['message']}"


def test_every_name_is_defined(tmp_path):
    """Shapes such as "layer pos" keep linters and type checkers from asking this of all code."""
    for folder in ("secondary_sinks", "experiments", "tools", "tests"):
        assert list(undefined_names(PACKAGE.parent / folder)) == []
    (tmp_path / "bad.py").write_text('def f(x: Float[Tensor, "pos"]):\n    return fields(x)\n')
    assert [one.rsplit("`")[1] for one in undefined_names(tmp_path)] == [
        "Float",
        "Tensor",
        "fields",
    ]
