"""What the pages of `docs/` say runs, is complete, and is what the commands print."""

import re
from pathlib import Path

import pytest

import secondary_sinks
from secondary_sinks import measures
from secondary_sinks.cli.reference import reference
from secondary_sinks.measures import cached
from secondary_sinks.runs import columns
from tests.marks import thinned
from tools import plant_scores as plants
from tools import tables

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page.stem: page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))}
MEASURES, PLANTS = PAGES["measures"], PAGES["plants"]
ELSEWHERE = {
    "use-in-your-project": "its examples run in tests/observation, with both TransformerLens lines",
    "models": "its example needs a quantised model of the reader's",
}
README = (DOCS.parent / "README.md").read_text("utf-8")
EXAMPLES = [
    code
    for page in (*(PAGES[name] for name in PAGES if name not in ELSEWHERE), README)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
]
REAL = [code for code in EXAMPLES if re.search(r"= load_model\(", code)]
PLAIN = [code for code in EXAMPLES if code not in REAL]


TEN, TWO = "for _ in range(10)]\ntraces", "for _ in range(2)]\ntraces"
"""How many texts an example observes: whether it runs is told by two."""


def test_an_example_observes_ten_texts():
    assert sum(TEN in code for code in PLAIN) == 1


@pytest.mark.parametrize("code", PLAIN, ids=range(len(PLAIN)))
def test_every_example_runs_by_itself(code):
    exec(compile(code.replace(TEN, TWO), "docs", "exec"), {})


@pytest.mark.real
@pytest.mark.parametrize("code", REAL, ids=range(len(REAL)))
def test_every_example_with_real_weights_runs_by_itself(code, smollm2, monkeypatch):
    monkeypatch.setattr(secondary_sinks, "load_model", {"smollm2-135m": smollm2}.__getitem__)
    exec(compile(code, "docs", "exec"), {})


def test_every_named_file_of_the_repository_is_there():
    pages = [*PAGES.values(), README, (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8")]
    named = r"`((?:tests|tools|experiments|secondary_sinks)/[\w/.]+)`"
    places = {place for page in pages for place in re.findall(named, page)}
    assert len(places) > 20
    assert [place for place in sorted(places) if not (DOCS.parent / place).exists()] == []


def library():
    """Cells of the rows about functions: name -> formula, range, source, what it reads."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in MEASURES.splitlines()]
    rows = [[cell.strip() for cell in cells] for cells in lines if len(cells) == 5]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


def test_every_public_measure_is_in_the_tables():
    rows = library()
    words = set(re.findall(r"`(\w+)`", MEASURES))
    assert set(measures.__all__) - rows.keys() == {"LayerContributions", "from_outputs"}
    assert {"LayerContributions", "from_outputs"} <= words
    assert rows.keys() <= set(measures.__all__)
    assert all(cell for cells in rows.values() for cell in cells), "no empty cell"


def test_the_hook_names_in_the_tables_are_those_that_measures_read():
    """As the docstrings of `cached` have them, which tests hold to what is read."""
    hook, unrotated = r"`((?:attn\.|mlp\.)?hook_\w+)`", {"attn.hook_q", "attn.hook_k"}
    checked = 0
    for name, cells in library().items():
        twin = getattr(cached, name, None)
        if twin is not None:
            checked += 1
            assert set(re.findall(hook, cells[-1])) == (
                set(re.findall(hook, twin.__doc__)) - unrotated
            ), name
    assert checked > 20


def test_the_page_of_commands_is_what_the_code_says():
    """Else: python -m secondary_sinks.cli.reference > docs/cli.md."""
    assert PAGES["cli"] == reference()


def test_every_flag_of_the_command_line_page_is_one_that_is_accepted():
    from typer.main import get_command

    from secondary_sinks.cli.sweep_app import app

    for name, command in get_command(app).commands.items():
        section = PAGES["cli"].split(f"\n## {name}\n")[1].split("\n## ")[0]
        labels = " ".join(re.findall(r"^\| `([^`]*)`", section, re.M))
        written = set(re.findall(r"--[a-z-]+", labels))
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        assert written <= known, name
        assert {flag for flag in known - written if flag.startswith("--")} <= {"--help"}, name


def test_every_public_name_has_its_place_in_the_reference():
    told = set(re.findall(r"^::: ([\w.]+)$", PAGES["api"], re.MULTILINE))
    for name in secondary_sinks.__all__:
        one = getattr(secondary_sinks, name)
        assert f"{one.__module__}.{name}" in told, name
    assert len(told) == PAGES["api"].count(":::")


def test_every_page_is_in_the_contents():
    contents = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert set(re.findall(r"- (?:.+: )?([\w./-]+\.md)$", contents, re.MULTILINE)) == pages


def test_the_columns_in_the_page_of_files_are_those_of_the_tables():
    for name in columns.TABLES:
        assert "\n".join(columns.as_markdown(name)) in PAGES["files"], name


def test_the_tables_of_the_pages_are_those_of_the_code():
    """Else: python -m tools.tables."""
    marked = [name for name, page in PAGES.items() if tables.MARK.search(page)]
    assert set(marked) == {"edits", "experiments", "files", "measures"}
    for name in marked:
        assert tables.fill_tables(PAGES[name]) == PAGES[name], name
    used = {found[2] for page in PAGES.values() for found in tables.MARK.finditer(page)}
    assert used == tables.TABLES.keys()


@pytest.mark.parametrize("n_plants", thinned([5, 100], [5]))
def test_the_margins_and_the_table_of_plants_are_those_of_the_command(n_plants):
    assert " ".join(plants.MARGINS.split()) in " ".join(PLANTS.replace("\n> ", "\n").split())
    rows = [line for line in PLANTS.splitlines() if line.startswith("| ")][1:]
    pairs = [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows]
    assert pairs == [(one, by) for one in plants.CONDITIONS for by in plants.ROWS]
    scores = [plants.measure("plain", n_plants, criterion=by) for by in plants.ROWS]
    printed = plants.table(scores).splitlines()[2:]
    if n_plants == 100:
        assert printed == rows[:3]
    assert printed[0].count("|") == rows[0].count("|")
    assert all(row.endswith("| 1.000 | 1.000 | 1.000 |") for row in [printed[0], *rows[::3]])
