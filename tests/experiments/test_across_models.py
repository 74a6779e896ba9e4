"""Claims of several models side by side."""

import json
import shutil

import pandas as pd
import pytest

from experiments.across_models import judge, main, read_claims, run, side_by_side
from experiments.all import COLUMNS, write_claims
from secondary_sinks.errors import RunFolderError

OUTCOMES = {
    "a": ["supported", "supported", "inconclusive"],
    "b": ["supported", "contradicted", "supported"],
}


@pytest.fixture
def folders(tmp_path):
    for model, outcomes in OUTCOMES.items():
        (tmp_path / model).mkdir()
        table = pd.DataFrame({"experiment": ["x", "y", "z"], "model": model, "outcome": outcomes})
        further = table.assign(role="further", outcome="failed")
        both = pd.concat([table.assign(role="answer"), further])
        both.to_csv(tmp_path / model / "claims.csv", index=False)
    return [tmp_path / model for model in OUTCOMES]


def test_what_models_say_and_whether_they_agree(folders):
    table = side_by_side(read_claims(folders)).set_index("experiment")
    assert table["a"].tolist() == OUTCOMES["a"]
    assert table["b"].tolist() == OUTCOMES["b"]
    assert table["agreement"].tolist() == ["agree", "disagree", "open"]


def test_the_command(folders, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 0
    assert pd.read_csv(tmp_path / "out" / "data.csv")["agreement"][1] == "disagree"
    record = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert record["verdict"]["outcome"] == "inconclusive"
    assert (tmp_path / "out" / "figure.html").is_file()
    assert "inconclusive: what holds in one model" in capsys.readouterr().out


def test_the_verdict(folders):
    finding = run(folders)
    counted = "models agree in 1 experiment and disagree in 1 (y); 1 open; counts are a description"
    assert finding.verdict.why.startswith(counted)
    parts = [finding.frame.query(f"experiment {which}") for which in ("!= 'y'", "== 'z'")]
    verdicts = [finding.verdict, *map(judge, parts), run(folders[:1]).verdict]
    assert {one.outcome for one in verdicts} == {"inconclusive"}
    assert verdicts[1].why.startswith("models agree in 1 experiment and disagree in 0; 1 open")
    assert "no experiment has a decided outcome" in verdicts[2].why


def test_the_map_says_what_was_found(folders):
    (heat,) = run(folders).figure.data
    assert list(heat.x) == ["a", "b"]
    assert list(heat.y) == ["x", "y", "z"]
    assert [list(row) for row in heat.z] == [[1, 1], [1, -1], [0, 1]]
    assert heat.text[1][1] == "contradicted"


def test_a_model_keeps_its_name_whatever_it_is(tmp_path):
    name = "-C:\\new\rmodel"
    row = dict.fromkeys(COLUMNS, 1) | {"experiment": "x", "model": name, "outcome": "supported"}
    write_claims(pd.DataFrame([row | {"role": "answer"}]), tmp_path)
    assert read_claims([tmp_path])["model"].tolist() == [name]
    assert (tmp_path / "claims.csv").read_bytes().count(b"\n") == 2
    assert b"\r" not in (tmp_path / "claims.csv").read_bytes()


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("", "it has no answers"),
        ("answer,x,m,proven\n", "outcome is 'proven'; expected contradicted, failed"),
        ("answer,x,m,supported\nanswer,x,m,failed\n", "experiment 'x' appears twice"),
    ],
)
def test_claims_that_nothing_can_be_made_of(rows, named, tmp_path):
    (tmp_path / "claims.csv").write_text("role,experiment,model,outcome\n" + rows)
    with pytest.raises(RunFolderError, match=r"has no readable claims\.csv") as error:
        read_claims([tmp_path])
    assert named in str(error.value)


def test_folders_without_claims_and_a_model_twice(folders, tmp_path):
    with pytest.raises(RunFolderError, match=r"has no readable claims.csv"):
        read_claims([tmp_path])
    again = shutil.copytree(folders[0], tmp_path / "again")
    with pytest.raises(RunFolderError, match="'a' is in two folders"):
        read_claims([folders[0], again])
    with pytest.raises(RunFolderError, match=r"the list of folders has .* twice"):
        read_claims([folders[0], folders[0]])


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "claims.csv").write_text("role,role,experiment,model,outcome\nanswer,b,x,m,failed")
    with pytest.raises(RunFolderError, match=r"header of .*claims\.csv' has 'role' twice"):
        read_claims([tmp_path])
