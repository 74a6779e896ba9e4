"""Claims of several models side by side."""

import pandas as pd
import pytest

from experiments.across_models import main, read_claims, side_by_side
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
    assert pd.read_csv(tmp_path / "out" / "across.csv")["agreement"][1] == "disagree"
    assert "disagree" in capsys.readouterr().out


def test_folders_without_claims_and_a_model_twice(folders, tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no claims.csv"):
        read_claims([tmp_path])
    with pytest.raises(RunFolderError, match="'a' stands in two folders"):
        read_claims([folders[0], folders[0]])
