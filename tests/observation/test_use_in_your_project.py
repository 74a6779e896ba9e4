"""The page about other projects: its examples run, with both lines of TransformerLens."""

import re
import runpy
from pathlib import Path

import pytest

from secondary_sinks import trace_from_cache
from secondary_sinks.measures import cached
from tests.marks import OLD

PAGE = (Path(__file__).parents[2] / "docs" / "use-in-your-project.md").read_text("utf-8")
EXAMPLES = re.findall(r"## ([^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_the_example_runs_by_itself(title, code, tmp_path, capsys):
    if ("HookedTransformer" in code or "secondary_sinks.testing" in code) and not OLD:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    if "nnsight" in code:
        pytest.importorskip("nnsight", reason="nnsight is not installed")
    file = tmp_path / "example.py"  # nnsight reads the source of what is traced
    file.write_text(code, encoding="utf-8")
    runpy.run_path(str(file))
    assert "tensor(" in capsys.readouterr().out


def test_there_is_one_example_for_each_kind_of_cache():
    titles = " ".join(title for title, _ in EXAMPLES)
    for word in ("HookedTransformer", "TransformerBridge", "Hugging Face", "nnsight"):
        assert word in titles


def rows():
    """Function -> hook points, as the table has them."""
    cells = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = [
        (re.findall(r"`([\w.]+)`", row[0]), set(re.findall(r"`([\w.]+)`", row[1]))) for row in cells
    ]
    return {name: hooks for functions, hooks in names for name in functions}


def test_the_table_names_every_function_of_cached_and_the_hooks_that_its_docstring_names():
    table = rows()
    own = {
        name
        for name, one in vars(cached).items()
        if getattr(one, "__module__", "") == cached.__name__
    }
    own = {name for name in own if not name.startswith("_")}
    assert table.keys() == own | {"trace_from_cache"}
    hook = r"`((?:attn\.|mlp\.)?hook_\w+)`"
    for name in own:
        named = set(re.findall(hook, getattr(cached, name).__doc__))
        instead = set() if name == "raw_key_norms" else {"attn.hook_q", "attn.hook_k"}
        assert table[name] == named - instead, name
    needed = set(re.findall(hook, trace_from_cache.__doc__.split("Further hooks")[0]))
    assert table["trace_from_cache"] == needed
