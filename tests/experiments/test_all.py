"""Every experiment: one pass, a table of claims, failures recorded, what is finished skipped."""

import json
import re

import pandas as pd
import plotly.graph_objects as go
import pytest

from experiments import all as everything
from experiments import norm_dose, norms
from experiments.shared import Loaded
from secondary_sinks.errors import SinkError
from tests.experiments.observed import planted
from tests.questions.gardens import three

NAMES = ("norms", "norm_dose")


@pytest.fixture(scope="module")
def sinks():
    return planted(*three(forming=(3,)))


@pytest.fixture
def start(sinks, monkeypatch, tmp_path):
    """Start experiments on planted models; gives the claims and the lines that were said."""

    def refuse(*where, **how):
        raise RuntimeError("no browser")

    passes = []
    monkeypatch.setattr(go.Figure, "write_image", refuse)

    def run(names=NAMES, observed=sinks, **options):
        def observe(*asked):
            passes.append(asked)
            return observed

        def load(name, texts, before, say):
            return Loaded(model=observed.model, texts=observed.texts, name=name, asked={})

        monkeypatch.setattr(everything, "load_texts", load)
        monkeypatch.setattr(everything, "observe_loaded", observe)
        said = []
        table = everything.run_all("m", None, tmp_path, only=names, say=said.append, **options)
        return table, said

    run.passes = passes
    return run


def test_claims_are_the_verdicts_on_disk(start, tmp_path):
    table, said = start()
    assert len(start.passes) == 1
    assert any(
        re.search(r"to come: norm_dose, [\d,]+ replayed tokens, about \d+ s", line) for line in said
    )
    for row in table.to_dict("records"):
        record = json.loads((tmp_path / row["file"]).read_text())
        verdicts = [record["verdict"], *record["further"]]
        assert row["value"] in [verdict["value"] for verdict in verdicts]
    answers = table[table["role"] == "answer"].set_index("experiment")["outcome"]
    assert answers.to_dict() == {"norms": "supported", "norm_dose": "supported"}
    saved = pd.read_csv(tmp_path / "claims.csv")
    assert saved["outcome"].tolist() == table["outcome"].tolist()
    assert "values of secondary sinks are shorter" in (tmp_path / "claims.html").read_text()
    assert "| norms | values of secondary" in (tmp_path / "claims.md").read_text()


def test_a_second_start_skips_what_is_finished(start):
    start(("norms",))
    _, said = start()
    assert "norms: finished before, skipped" in said
    assert any(line.startswith("[1/1] norm_dose") for line in said)
    assert len(start.passes) == 2
    start()
    assert len(start.passes) == 2
    start(seed=1)  # another question: nothing of that is finished
    assert len(start.passes) == 3


def test_after_a_quick_start_only_what_that_left_out_is_made(start):
    names = ("norms", "primary_weakening")
    quick, _ = start(names, quick=True)
    whole, said = start(names)
    assert "norms: finished before, skipped" in said
    assert any(line.startswith("[1/1] primary_weakening") for line in said)
    assert len(whole) == len(quick) + 1


def test_one_that_fails_is_recorded_and_tried_again(start, monkeypatch, tmp_path):
    def fail(observed):
        raise ValueError("broken | on purpose")

    monkeypatch.setattr(norms, "run", fail)
    table, _ = start()
    outcomes = table[table["role"] == "answer"].set_index("experiment")["outcome"]
    assert outcomes.to_dict() == {"norms": "failed", "norm_dose": "supported"}
    assert "ValueError: broken" in table["why"][0]
    assert r"broken \| on purpose" in (tmp_path / "claims.md").read_text()
    monkeypatch.undo()
    monkeypatch.setattr(go.Figure, "write_image", lambda *where, **how: None)
    table, said = start()
    assert "norm_dose: finished before, skipped" in said
    assert "failed" not in set(table["outcome"])


def test_no_sinks_give_a_table_that_says_so(start):
    table, _ = start(observed=planted())
    answers = table[table["role"] == "answer"]
    assert set(answers["outcome"]) == {"inconclusive"}
    assert answers["why"].str.contains("no secondary sink").all()


def test_an_experiment_that_there_is_not(start):
    with pytest.raises(SinkError, match="no experiment 'odd'; there are norms"):
        start(("odd",))


def test_every_experiment_has_its_module():
    from importlib import import_module

    for name in everything.EXPERIMENTS:
        assert name == import_module(f"experiments.{name}").NAME
    assert norm_dose.NAME in everything.ASKED
