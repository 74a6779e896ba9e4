"""Every experiment: one pass, a table of claims, failures recorded, what is finished skipped."""

import copy
import json
import re
from dataclasses import replace

import pandas as pd
import plotly.io
import pytest
import torch

from experiments import about, norm_dose, norms, shared
from experiments import all as everything
from experiments.made import command_of
from experiments.prices import prices
from experiments.shared import Loaded
from experiments.table import BY_NAME, EXPERIMENTS
from secondary_sinks.errors import RunFolderError, SinkError
from secondary_sinks.questions import QUESTIONS
from tests.experiments.observed import planted
from tests.marks import exhaustive
from tests.questions.gardens import three

NAMES = ("norms", "norm_dose")
QUICK, OTHER = "criterion_check", "sink_tokens"
"""Experiments that take no time, for tests of what is kept and done again."""


@pytest.fixture(scope="module")
def sinks():
    return planted(*three(forming=(3,)), anisotropy=12.0)


@pytest.fixture
def start(sinks, monkeypatch, tmp_path):
    """Start experiments on planted models; gives the claims and the lines that were said."""

    def refuse(*where, **how):
        raise RuntimeError("no browser")

    passes = []
    monkeypatch.setattr(plotly.io, "write_images", refuse)

    def run(names=NAMES, observed=sinks, **options):
        def observe(*asked):
            passes.append(asked)
            return replace(observed, name=asked[0].name)

        def load(name, texts, before, say):
            run.before.append(before)
            return Loaded(model=observed.model, texts=observed.texts, name=name, asked={})

        monkeypatch.setattr(everything, "load_texts", load)
        monkeypatch.setattr(everything, "observe_loaded", observe)
        said = []
        table = everything.run_all("m", None, tmp_path, only=names, say=said.append, **options)
        return table, said

    run.passes, run.before = passes, []
    return run


@exhaustive
def test_claims_are_the_verdicts_on_disk(start, tmp_path):
    table, said = start()
    assert len(start.passes) == 1
    words = "\n".join(said)
    assert re.search(
        r"to come: observing 512 tokens of 8 texts, about \d+ s; .*"
        r"to come: forming MLPs.*"
        r"to come: norm_dose, [\d,]+ replayed tokens, about \d+ s\n"
        r"to come: in all about \d+ s\n"
        r"\[1/2\] norms", words, re.DOTALL)  # fmt: skip
    for row in table.to_dict("records"):
        record = json.loads((tmp_path / row["file"]).read_text())
        verdicts = [record["verdict"], *record["further"]]
        assert row["value"] in [verdict["value"] for verdict in verdicts]
    answers = table[table["role"] == "answer"].set_index("experiment")["outcome"]
    assert answers.to_dict() == {"norms": "supported", "norm_dose": "supported"}
    saved = pd.read_csv(tmp_path / "claims.csv")
    assert saved["outcome"].tolist() == table["outcome"].tolist()
    assert "values of secondary sinks have smaller norms" in (tmp_path / "claims.html").read_text()
    assert "| norms | values of secondary" in (tmp_path / "claims.md").read_text()


def test_a_second_start_skips_what_is_finished(start):
    start((QUICK,))
    _, said = start((QUICK, OTHER))
    assert f"{QUICK}: finished before, skipped" in said
    assert any(line.startswith(f"[1/1] {OTHER}") for line in said)
    assert len(start.passes) == 2
    start((QUICK, OTHER))
    assert len(start.passes) == 2
    start((QUICK, OTHER), seed=1)  # another question: nothing of that is finished
    assert len(start.passes) == 3


def changed(record):
    record["verdict"]["outcome"] = "contradicted"


UNTRUSTED = {
    "a changed verdict": (changed, False, "its content does not match its sha256"),
    "a changed verdict without its hash": (changed, True, ""),
    "no question": (lambda record: record.pop("question"), True, ""),
}


@pytest.mark.parametrize(("change", "unsealed", "told"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_a_changed_verdict_is_neither_skipped_nor_listed(start, tmp_path, change, unsealed, told):
    start((QUICK,))
    path = tmp_path / QUICK / "verdict.json"
    record = json.loads(path.read_text())
    change(record)
    if unsealed:
        del record["sha256"]
    path.write_text(json.dumps(record))
    if told:
        with pytest.raises(SinkError, match=told):
            start((QUICK,))
        return
    table, said = start((QUICK,))
    assert f"{QUICK}: finished before, skipped" not in said
    assert table["outcome"][0] == "supported"


def test_a_record_too_deep_to_read_is_refused(start, tmp_path):
    start((QUICK,))
    (tmp_path / QUICK / "verdict.json").write_text("[" * 100_000)
    with pytest.raises(SinkError, match="nested too deeply"):
        start((QUICK,))


@exhaustive
def test_after_a_quick_start_only_what_that_left_out_is_made(start):
    names = ("norms", "primary_weakening")
    quick, _ = start(names, quick=True)
    whole, said = start(names)
    assert "norms: finished before, skipped" in said
    assert any(line.startswith("[1/1] primary_weakening") for line in said)
    assert len(whole) == len(quick) + 2  # what a removed sink gives back, and where to


@exhaustive
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
    monkeypatch.setattr(plotly.io, "write_images", lambda *where, **how: None)
    table, said = start()
    assert "norm_dose: finished before, skipped" in said
    assert "failed" not in set(table["outcome"])


def changed_weights(sinks):
    model = copy.deepcopy(sinks.model)
    with torch.no_grad():
        model.blocks[0].mlp.W_out[0, 0] += 1e-3
    return replace(sinks, model=model)


def changed_ids(sinks):
    first, *rest = sinks.texts
    tokens = first.tokens.clone()
    tokens[-1] = (tokens[-1] + 1) % 5
    return replace(sinks, texts=(replace(first, tokens=tokens), *rest))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_weights, r"weights: weights was \w{12}, is \w{12}"),
        (changed_ids, r"texts as fed: 't0' was 64 tokens \(raw, sha256 \w{12}\), is 64 tokens"),
        (None, r"code: experiments was \w{16}, is new"),
    ],
)
def test_finished_with_other_weights_ids_or_code_is_neither_skipped_nor_replaced(
    change, named, start, sinks, monkeypatch, tmp_path
):
    start((QUICK,))
    kept = tmp_path / f"{QUICK}.answers.jsonl"
    kept.write_text("finished parts of these inputs\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    other = sinks if change is None else change(sinks)
    if change is None:
        monkeypatch.setattr(about, "_of_code", lambda: {"experiments": "new"})
    with pytest.raises(RunFolderError, match=f"finished experiments of other inputs: {named}"):
        start((QUICK,), observed=other)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    _, said = start((QUICK,), observed=other, force=True)
    assert any(line.startswith(f"[1/1] {QUICK}") for line in said)
    assert not kept.exists()
    assert f"{QUICK}: finished before, skipped" in start((QUICK,), observed=other)[1]


def test_ids_of_the_first_start_are_kept_for_the_next(start, sinks, tmp_path):
    start((QUICK,))
    kept = json.loads((tmp_path / "about.json").read_text())["texts"]
    assert [text["token_ids"] for text in kept] == [text.tokens.tolist() for text in sinks.texts]
    start((QUICK,))
    assert start.before[0] == {}
    assert start.before[1]["t0"]["token_ids"] == sinks.texts[0].tokens.tolist()


def test_no_sinks_give_a_table_that_says_so(start):
    table, _ = start(observed=planted())
    answers = table[table["role"] == "answer"]
    assert set(answers["outcome"]) == {"inconclusive"}
    assert answers["why"].str.contains("no secondary sink").all()


def test_an_experiment_that_there_is_not(start):
    with pytest.raises(SinkError, match="no experiment 'odd'; there are norms"):
        start(("odd",))


def test_every_experiment_has_its_module():
    for experiment in EXPERIMENTS:
        assert experiment.name == experiment.module.NAME
        assert set(experiment.asks) <= {"roles", *(question.name for question in QUESTIONS)}
        assert experiment.observes or experiment.asks or callable(experiment.module.cost)
    assert BY_NAME[norm_dose.NAME].asks == ("norm_dose",)


def test_observing_runs_what_edits_nothing_and_asks_nothing(start, sinks, monkeypatch):
    ran = {}
    monkeypatch.setattr(everything, "_run", lambda asked, *rest: ran.update(asked))
    start((), observing=True)
    assert list(ran) == [one.name for one in EXPERIMENTS if one.observes]
    assert {name: how for name, how in ran.items() if how} == {
        "primary_weakening": {"restore": False}
    }
    assert not re.search("replayed|recomputed", "".join(prices(ran, sinks)))
    with pytest.raises(SinkError, match="'writers' edits activations, which --observing leaves"):
        start(("writers",), observing=True)


def test_tables_and_records_call_the_model_by_its_name(start, tmp_path):
    table, _ = start(("sink_levels",), name="small")
    assert set(table["model"]) == {"small"}
    assert set(pd.read_csv(tmp_path / "sink_levels" / "data.csv")["model"]) == {"small"}
    record = json.loads((tmp_path / "sink_levels" / "verdict.json").read_text())["provenance"]
    assert record["asked"]["model"] == "small"
    assert record["sample"] == {
        "n_texts": 8, "n_tokens": 512, "n_sinks": 24, "n_distinct": 24, "created_at": {"3": 24}
    }  # fmt: skip


def test_code_that_only_reads_results_is_no_other_code():
    here = {path.stem for path in about.PACKAGE.glob("*.py")}
    assert set(about.READERS) <= here
    assert not set(about.READERS) & {*BY_NAME, "shared", "answers", "members", "written"}


def test_every_kth_text_is_taken_and_the_pages_say_so(tmp_path):
    texts = tmp_path / "five.jsonl"
    lines = [json.dumps({"id": f"t{number}", "text": f"Text {number}."}) for number in range(5)]
    texts.write_text("\n".join(lines))
    assert [one.text_id for one in shared.texts_of(str(texts), 2)] == ["t0", "t2", "t4"]
    made = {"asked": {"model": "m", "texts": str(texts), "every": 2}, "texts": []}
    assert command_of(made) == 'make results MODEL=m TEXTS=five.jsonl OPTIONS="--every 2"'
