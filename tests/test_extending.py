"""docs/extending.md, followed to the letter: its blocks applied to a copy of the package."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCK = re.compile(r'```(?:python|markdown) title="([^:"]+): ([^"]+)"\n(.*?)```', re.DOTALL)
CHECKS = """
import math, sys
from pathlib import Path
import torch
from experiments.table import BY_NAME
from experiments import prices
from secondary_sinks import Edit, detect, measures, observe, recompute, replay
from secondary_sinks.cli.entry import run
from secondary_sinks.errors import EditError
from secondary_sinks.questions import QUESTIONS, costs, n_claims_of
from secondary_sinks.report.claims import TITLES
from secondary_sinks.report.figures import answer_panels
from secondary_sinks.questions import Shown
from secondary_sinks.runs import columns, parse_questions
from secondary_sinks.runs.folder import OWN
from secondary_sinks.testing import Plant, plant
from tools import tables

# the measure
assert abs(float(measures.mass_entropy(torch.tensor([1.0, 1.0]))) - math.log(2)) < 1e-6
assert "mass_entropy" in measures.__all__
assert "`mass_entropy`" in Path("docs/measures.md").read_text("utf-8")

# the field of a trace
planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
model, trace = planted.model, observe(planted.model, planted.tokens)
assert torch.equal(trace.mlp_share, trace.mlp_norm / trace.norm)
frame = trace.to_frame()
assert "mlp_share" in frame and columns.TRACE["mlp_share"].unit == "1"
older = columns.check_columns("trace", frame.drop(columns="mlp_share"), "m")
assert older["mlp_share"].isna().all()

# the edit
edit = Edit.of_label("clip:0.5", pos=20, layer=3)
assert (edit.value, edit.label) == (0.5, "clip:0.5")
nothing = Edit(pos=20, layer=3, kind="clip", value=1e9)
states = replay(model, trace, [edit, nothing])
assert states.norm[3, 0] < trace.norm[3, 20]
assert torch.equal(states.norm[:, 1], trace.norm[:, 20])
assert recompute(model, trace, [edit]).norm.shape[1] == 1
for wrong in ({"value": -1.0}, {}, {"value": 1.0, "site": "post"}):
    try:
        replay(model, trace, [Edit(pos=20, layer=3, kind="clip", **wrong)])
    except EditError as error:
        assert "clip" in str(error)
    else:
        raise AssertionError(wrong)

# the question
sinks = detect(trace)
question = QUESTIONS[-1]
answer = question.ask(model, [trace], sinks)
assert len(answer.cells) == 2 and answer.verdicts[0].outcome == "inconclusive"
assert parse_questions("all")[-1] == list(TITLES)[-1] == question.name == "halving"
assert n_claims_of(["halving"], sinks) == 1
(cost,) = costs(["halving"], [trace], sinks, model.cfg.d_mlp)
assert cost.replayed == len(answer.cells)
assert {"halving.cells.parquet", "halving.effects.parquet"} <= OWN
panels = answer_panels(question, answer, Shown(sinks.to_frame(), 8))
assert [panel.name for panel in panels] == ["halving"]

# the experiment
assert BY_NAME["half_as_much"].said()["QUESTION"].endswith("?")
assert BY_NAME["half_as_much"].module.NAME == "half_as_much"

# what the pages and the commands say
tables.main()
pages = {name: Path(f"docs/{name}.md").read_text("utf-8") for name in
         ("edits", "measures", "files", "experiments")}
assert "| `clip:VALUE` |" in pages["edits"]
assert "| `mlp_share` |" in pages["measures"] and "| `mlp_share` | float |" in pages["files"]
assert "| `halving` |" in pages["files"] and "| `half_as_much` |" in pages["experiments"]
assert run(["questions"]) == run(["edits"]) == 0
"""


def place_of(lines, where):
    """The line before which a block goes: before a line that begins so, or in what NAME assigns.

    `in NAME` is before the last line of the statement or function of that name.
    """
    word, _, name = where.partition(" ")
    if word == "before":
        (found,) = [n for n, line in enumerate(lines) if line.strip().startswith(name)]
        return found
    assert word == "in", where
    for node in ast.parse("\n".join(lines)).body:
        names = [node.name] if isinstance(node, ast.FunctionDef) else []
        names += [one.id for one in getattr(node, "targets", ()) if isinstance(one, ast.Name)]
        if name in names:
            return node.end_lineno - 1
    raise AssertionError(where)


def apply(root, file, where, content):
    """Put a block where the page says."""
    path = root / file
    if where == "a new file":
        assert not path.exists(), file
        path.write_text(content, "utf-8")
        return
    _, shown, rows = content.partition("    ...,\n")
    content = rows.rstrip().rpartition("\n")[0] if shown else content  # without the last bracket
    lines = path.read_text("utf-8").split("\n")
    at = place_of(lines, where)
    lines[at:at] = content.rstrip("\n").split("\n") if content.strip() else []
    path.write_text("\n".join(lines), "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package with all that the page adds."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("secondary_sinks", "experiments", "tools", "docs"):
        unneeded = shutil.ignore_patterns("__pycache__", "results", "images")
        shutil.copytree(ROOT / folder, root / folder, ignore=unneeded)
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 14
    for file, where, content in blocks:
        apply(root, file, where, content)
    return root


def test_the_page_followed_to_the_letter_gives_what_it_says(copy):
    done = subprocess.run(
        [sys.executable, "-c", CHECKS], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Does a sink end when its forming MLPs write half as much?" in done.stdout
    assert "clip:VALUE" in done.stdout


def test_what_the_page_adds_is_clean(copy):
    """As the page says: imports and `__all__` are sorted by ruff, and nothing else is wrong."""
    shutil.copy(ROOT / "pyproject.toml", copy)
    command = [sys.executable, "-m", "ruff", "check", "--fix", "--no-cache", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
