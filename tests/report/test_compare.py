"""Several runs on one page: each number is that of its run."""

import functools

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.errors import RunFolderError
from secondary_sinks.report import write_comparison
from secondary_sinks.report.compare import compared, comparison
from secondary_sinks.runs import RunFolder
from tests.plots import frames
from tests.plots.frames import HOSTILE
from tests.report.pages import Html, phenomenon_of, record, verdict

CLAIM = "secondary sinks need the MLP of layer 3"
GENERAL = "secondary sinks need the MLP of one layer"
TWO = frames.sinks(frames.sink(pos=0, kind="primary"), frames.sink(), frames.sink(pos=2, l_start=2))


def model(name="tiny", sinks=TWO, **changes):
    told = record(**changes)
    told["model"]["name"] = name
    return compared(told, sinks, {})


def rows(html):
    """Cells of the tables, row by row."""
    cells = [data for tag, data in html.texts if tag in {"td", "th"}]
    start = cells.index("claim")
    return cells[:start], cells[start:]


def test_numbers_and_claims_stand_by_model():
    other = [
        verdict(claim=CLAIM, general=GENERAL, layer=3),
        verdict(claim="x", value=None, low=None, high=None),
    ]
    pair = [
        model("one", **phenomenon_of(record(), TWO)),
        model("two", frames.no_sinks(), verdicts=other),
    ]
    html = Html(comparison(pair))
    numbers, told = rows(html)
    assert numbers[12:24] == [
        *("one", "no", "4", "1", "12", "2", "1,667", "\u2013", "0"),
        *("1 (1) and 2 (1)", "2 (2)", "25%"),
    ]
    assert numbers[24:31] == ["two", "\u2013", "4", "1", "12", "0", "0"]
    assert told == [
        *("claim", "one", "two"),
        "Secondary sinks need the MLP of one layer",
        "supported (layer 0): 95%, 95% interval 90% to 99%",
        "supported (layer 3): 95%, 95% interval 90% to 99%",
        *("X", "not asked", "supported"),
    ]


def test_two_runs_of_one_model_are_told_apart():
    words = Html(comparison([model("same"), model("same"), model("other")])).words
    assert "same (1)" in words
    assert "same (2)" in words
    assert "other (" not in words


def test_a_model_of_a_sweep_has_its_name_there():
    words = Html(comparison([model("same", label="same (bfloat16)"), model("same")])).words
    assert "same (bfloat16)" in words
    assert "same (1)" not in words


def test_what_else_differs_is_said():
    same = "The runs differ in more than the model"
    assert same not in Html(comparison([model("a"), model("b")])).words
    words = Html(comparison([model("a"), model("b", edit="mean", dtype="bfloat16")])).words
    assert f"{same}: they have different edits." in words
    assert f"{same}: they have different dtypes." in words
    assert "different thresholds" not in words


def test_maps_come_three_in_a_row_and_not_where_there_is_no_sink():
    names = [model(name) for name in "abcd"] + [model("e", frames.no_sinks())]
    ids = {a["id"] for a in Html(comparison(names)).of("div") if a.get("class") == "figure"}
    assert ids == {"rates", "levels-0", "levels-3"}
    none = Html(comparison([model("e", frames.no_sinks(), verdicts=[])]))
    assert {a["id"] for a in none.of("div") if a.get("class") == "figure"} == {"rates"}
    assert "No claim was tested." in none.words


@functools.cache
def shape_with(word):
    """Elements of a page on which every free text is a word, with the names of attributes."""
    one = model(word, command=word, verdicts=[verdict(claim=word)])
    page = Html(comparison([one, model("b")]))
    return [(tag, sorted(attrs)) for tag, attrs in page.elements]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_commands_are_inert(text):
    assert shape_with(text) == shape_with("plain")


def a_run(path, name):
    folder = RunFolder(path)
    path.mkdir()
    folder.write_table("sinks", frames.sinks())
    told = record()
    told["model"]["name"] = name
    folder.write_record(told)
    return folder


def test_folders_become_a_page_that_is_not_replaced_by_accident(tmp_path, capsys):
    folders = [str(a_run(tmp_path / name, name).path) for name in ("one", "two")]
    out = tmp_path / "made" / "compare.html"
    assert run(["compare", *folders, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert "one" in Html(out.read_text(encoding="utf-8")).words
    out.write_text("mine")
    assert run(["compare", *folders, "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert run(["compare", *folders, "--out", str(out), "--force"]) == 0
    assert out.read_text(encoding="utf-8").startswith("\n<!DOCTYPE html>"[1:])


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run folder"):
        write_comparison([RunFolder(tmp_path)], tmp_path / "out.html")
    with pytest.raises(RunFolderError, match="already exists"):
        write_comparison([], tmp_path, force=True)
