"""What every experiment is given, what it gives back, its files and its command line."""

import json
import math
import re
import runpy
import shutil
import sys
from dataclasses import replace

import pandas as pd
import plotly.io
import pytest
from safetensors.torch import load_file, save_file

from experiments import all as everything
from experiments import neurons, norms, shared, written
from experiments.command import main_of
from experiments.recorded import read_record, write_record
from experiments.shared import observe_texts, unanswered
from experiments.written import in_words, write
from secondary_sinks.errors import RunFolderError
from secondary_sinks.questions import judge
from secondary_sinks.statistics import Interval
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.experiments.records import record_of
from tests.marks import exhaustive
from tests.questions.gardens import three
from tests.tiny import save_tiny

FOX = "The quick brown fox jumps over the lazy dog, again and again. "
WORDS = {"statistic": "share", "controls": "twins"}


@pytest.fixture(autouse=True)
def _no_browser(monkeypatch):
    """Drawing a picture takes seconds, so one test does it."""

    def refuse(*where, **how):
        raise RuntimeError("\n\nThere is no browser.\n\nGet one.")

    monkeypatch.setattr(plotly.io, "write_images", refuse)


@pytest.fixture(scope="module")
def observed():
    return planted(*three(forming=(3,)))


@pytest.fixture(scope="module")
def finding(observed):
    return norms.run(observed)


def test_a_figure_beside_the_verdicts_draws_their_numbers(observed, finding, tmp_path):
    for one in (finding, several_verdicts(observed)):
        write(one, tmp_path / one.name, {})
        (figure,) = written.verdict_figure(one).values()
        dots, lines = figure.data
        known = [verdict for verdict in one.verdicts if verdict.value == verdict.value]
        assert known
        assert list(dots.x) == [verdict.value for verdict in known]
        assert list(lines.x) == [verdict.line for verdict in known]
        ends = zip(dots.x, dots.error_x.array, dots.error_x.arrayminus, strict=True)
        for verdict, (x, up, down) in zip(known, ends, strict=True):
            assert (x + up, x - down) == pytest.approx((verdict.high, verdict.low), nan_ok=True)
        assert (tmp_path / one.name / "judged.html").is_file()
        record = json.loads((tmp_path / one.name / "verdict.json").read_text())
        assert record["captions"]["judged"].startswith("Statistic of each verdict")


def several_verdicts(observed):
    """A finding of several verdicts."""
    return neurons.run(observed)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny model without sinks, and texts for it."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder / "model")
    lines = [json.dumps({"id": f"t{n}", "text": FOX + "x" * n}) for n in range(3)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return folder


def test_cases_are_the_secondary_sinks_with_controls(observed):
    assert len(observed.pairs()) == 24
    for trace, case in observed.pairs():
        assert trace.text_id == case.sink.text_id
        assert int(trace.tokens[case.control]) == case.sink.token_id
    assert observed.left_out == {
        "copies of sinks in earlier texts": 0,
        "present only at the last layer, which no later attention reads": 0,
        "without a control": 0,
    }


def test_progress_is_said_now_and_then_and_never_at_the_end(monkeypatch, observed):
    lines = []
    told = replace(observed, say=lines.append)
    told.progress("slow")(1, 3)
    assert not lines, "it has just begun"
    monkeypatch.setattr(shared, "SECONDS", 0.0)
    neurons.run(told)
    assert lines[:8] == [f"forming MLPs: {done} of 8 texts" for done in range(8)]
    assert lines[8:] == [f"neurons: {done} of 8 texts" for done in range(8)]


def interval(low, high, n=15, n_texts=6):
    return Interval(value=(low + high) / 2, low=low, high=high, n=n, n_texts=n_texts)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (interval(0.6, 0.9), "supported"),
        (interval(0.1, 0.4), "contradicted"),
        (interval(0.4, 0.6), "inconclusive"),
        (interval(0.6, 0.9, n=4), "inconclusive"),
        (interval(0.6, 0.9, n_texts=5), "inconclusive"),
    ],
)
def test_a_verdict_says_no_more_than_the_interval(found, outcome):
    verdict = judge("claim", found, "because", **WORDS)
    assert verdict.outcome == outcome
    few = found.n < 5 or found.n_texts < 6
    assert verdict.why.startswith("because") != few


def test_another_line_and_what_was_left_out():
    verdict = judge("c", interval(0.1, 0.4), "w", line=0.0, left_out={"odd": 2}, **WORDS)
    assert (verdict.outcome, verdict.controls) == ("supported", "twins; left out: 2 odd")


def test_what_is_written_is_what_was_found(tmp_path, finding, observed):
    lines = write(finding, tmp_path / "new" / "out", observed.record() | {"command": "mine"})
    out = tmp_path / "new" / "out"
    assert lines[0] == f"norms: {out}"
    pd.testing.assert_frame_equal(pd.read_parquet(out / "data.parquet"), finding.frame)
    assert len(pd.read_csv(out / "ratios.csv")) == 24
    record = json.loads((out / "verdict.json").read_text())
    assert record["verdict"]["outcome"] == finding.verdict.outcome == "supported"
    assert record["verdict"]["value"] == pytest.approx(finding.verdict.value)
    assert record["provenance"]["command"] == "mine"
    assert len(record["provenance"]["texts"]) == 8
    assert {"weights_sha256", "n_layers"} <= record["provenance"]["model"].keys()
    assert record["columns"].keys() == set(finding.frame.columns)
    page = (out / "figure.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", page)
    assert "Plotly.newPlot" in page
    assert f"<h1>{finding.question}</h1>" in page
    assert f"<p>{finding.captions['figure']}</p>" in page
    assert record["captions"] == {**finding.captions, "judged": written.CAPTION}
    assert lines[1:] == ["no pictures (.png) of the figures: There is no browser."]
    assert not (out / "figure.png").exists()


@exhaustive
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_a_picture_where_there_is_a_browser(tmp_path, monkeypatch, finding):
    monkeypatch.undo()
    assert write(finding, tmp_path, {}) == [f"norms: {tmp_path}"]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_of_an_earlier_finding_is_taken_for_this_one(tmp_path, finding, observed):
    write(finding, tmp_path, {})
    unwritable = unanswered("norms", "q", "c", "w", {})
    unwritable.tables["../nowhere/x"] = finding.frame  # type: ignore[index]
    assert (tmp_path / "ratios.csv").is_file()
    with pytest.raises(RunFolderError, match="nowhere"):
        write(unwritable, tmp_path, {})
    assert "interrupted" in read_record(tmp_path / "verdict.json")["failed"]
    write(unanswered("norms", "q", "c", "w", {}), tmp_path, {})
    assert "failed" not in read_record(tmp_path / "verdict.json")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"data.csv", "data.parquet", "figure.html", "verdict.json"}


FOREIGN = {
    "notes in the place of the record": ("verdict.json", "my own notes"),
    "a record of another program": ("verdict.json", '{"answer": 42}'),
    "a finding of another experiment": ("verdict.json", json.dumps(record_of("writers"))),
    "a table": ("data.csv", "a,b"),
    "a run": ("run.json", "{}"),
}


@pytest.mark.parametrize(("name", "content"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "forced"])
def test_what_another_program_wrote_is_not_replaced(tiny, tmp_path, capsys, name, content, force):
    for main, place in ((norms.main, tmp_path / "a"), (everything.main, tmp_path / "b" / "norms")):
        place.mkdir(parents=True)
        (place / name).write_text(content)
        only = ["--only", "norms"] if main is everything.main else []
        out = place.parent if only else place
        words = ["--model", tiny / "model", "--texts", tiny / "texts.jsonl", "--out", out]
        assert run(main, *words, *only, *force) == 2
        error = capsys.readouterr().err
        wrong = f"holds {name!r}, which norms did not write", f"{name}' is damaged, or was changed"
        assert any(one in error for one in wrong), error
        assert "move it away" in error
        assert [path.name for path in place.iterdir()] == [name]
        assert (place / name).read_text() == content


def test_other_files_in_the_folder_of_an_experiment_are_left_alone(tiny, tmp_path):
    out = tmp_path / "a"
    words = ["--model", tiny / "model", "--texts", tiny / "texts.jsonl", "--out", out]
    out.mkdir()
    (out / "log.txt").write_text("mine")
    for _ in range(2):
        assert run(norms.main, *words) == 0
    assert (out / "log.txt").read_text() == "mine"


def test_a_table_of_claims_of_somebody_else_is_not_replaced(tiny, tmp_path, capsys):
    (tmp_path / "claims.csv").write_text("mine")
    words = ["--model", tiny / "model", "--texts", tiny / "texts.jsonl", "--out", tmp_path]
    assert run(everything.main, *words, "--only", "norms", "--force") == 2
    assert "holds 'claims.csv', which experiments.all did not write" in capsys.readouterr().err
    assert (tmp_path / "claims.csv").read_text() == "mine"


def test_a_finding_of_other_texts_is_replaced_by_force_only(tiny, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "t0", "text": FOX * 2}))
    words = ["--model", tiny / "model", "--out", out, "--texts"]
    assert run(norms.main, *words, tiny / "texts.jsonl") == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert run(norms.main, *words, other) == 2
    error = capsys.readouterr().err
    assert "holds a finding of other inputs: texts as fed: 't0' was" in error
    assert "use --force to replace it" in error
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert run(norms.main, *words, tiny / "texts.jsonl") == 0  # the same inputs
    assert run(norms.main, *words, other, "--force") == 0
    assert len(read_record(out / "verdict.json")["provenance"]["texts"]) == 1


def test_no_name_in_a_changed_record_leads_out_of_its_folder(tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    folder = tmp_path / "norms"
    folder.mkdir()
    write_record(folder, record_of("norms") | {"files": ["../mine.csv"]})
    write(unanswered("norms", "q", "c", "w", {}), folder, {})
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_missing_numbers_are_null(tmp_path):
    write(unanswered("norms", "q", "claim", "nothing there", {"layer": "0-based"}), tmp_path, {})
    record = json.loads((tmp_path / "verdict.json").read_text())
    assert record["verdict"]["value"] is None
    assert record["verdict"]["why"] == "nothing there"
    assert "nothing there" in (tmp_path / "figure.html").read_text()
    assert list(pd.read_parquet(tmp_path / "data.parquet").columns) == ["layer"]


def test_a_verdict_in_one_line(finding):
    line = in_words(finding.verdict)
    assert line.startswith("supported: values of secondary sinks have smaller norms")
    assert f"{finding.verdict.value:.3g} [" in line
    assert in_words(unanswered("n", "q", "c", "why", {}).verdict) == "inconclusive: c: why"


def run(main, *words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


def test_a_model_without_sinks_is_told_so_and_all_files_are_there(tiny, tmp_path, capsys):
    words = ("--model", tiny / "model", "--texts", tiny / "texts.jsonl", "--out", tmp_path / "o")
    assert run(norms.main, *words) == 0
    assert capsys.readouterr().out.startswith("inconclusive: values of secondary sinks")
    record = json.loads((tmp_path / "o" / "verdict.json").read_text())
    assert "no secondary sink" in record["verdict"]["why"]
    assert record["provenance"]["command"].startswith("python -m experiments.norms --model ")
    assert record["provenance"]["asked"]["texts"] == str(tiny / "texts.jsonl")
    assert "no secondary sink" in (tmp_path / "o" / "figure.html").read_text()


def test_own_options_of_an_experiment_and_their_defaults(tiny, tmp_path, capsys):
    def experiment(observed, *, layer: int = 4, often: bool = False):
        return unanswered("test_contract", "q", f"{layer} {often} {observed.seed}", "w", {})

    words = ["--model", tiny / "model", "--texts", tiny / "texts.jsonl", "--out", tmp_path]
    assert run(main_of(experiment), *words, "--layer", 7, "--often", "--seed", 3) == 0
    assert "7 True 3" in capsys.readouterr().out
    record = json.loads((tmp_path / "verdict.json").read_text())
    assert record["provenance"]["options"] == {"layer": 7, "often": True}
    assert run(main_of(experiment), *words) == 2
    told = capsys.readouterr().err
    assert "seed was 3, is not there; options was {'layer': 7, 'often': True}, is not there" in told
    assert run(main_of(experiment), *words, "--force") == 0
    assert "4 False 0" in capsys.readouterr().out


BAD = [
    (["--model", "nowhere/none"], "no"),
    (["--texts", "missing.jsonl"], "'missing.jsonl' is not a file"),
    (["--feed", "odd"], "unknown feed 'odd'"),
    (["--dtype", "int3"], "int3"),
    (["--device", "abacus"], "abacus"),
    (["--seed", "-1"], "--seed"),
    (["--layer", "3"], "layer"),
]


@pytest.mark.parametrize(("words", "told"), BAD, ids=lambda part: str(part)[:20])
def test_bad_input_is_one_line_and_exit_code_2(tiny, tmp_path, capsys, words, told, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = {"--model": tiny / "model", "--texts": tiny / "texts.jsonl", "--out": tmp_path}
    given |= dict([words])
    assert run(norms.main, *[word for pair in given.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert told in error


OVERFLOWING = [
    (math.nan, "holds NaN or infinite values"),
    (1e38, "NaN or infinite values first at"),
]


@pytest.mark.parametrize("main", [norms.main, everything.main], ids=["norms", "all"])
@pytest.mark.parametrize(("weight", "told"), OVERFLOWING, ids=["nan", "overflow"])
def test_a_model_that_computes_nan_is_one_line(tmp_path, tiny, capsys, main, weight, told):
    save_tiny(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"].fill_(weight)
    weights["model.layers.1.mlp.up_proj.weight"].mul_(1000)
    save_file(weights, file, metadata={"format": "pt"})
    capsys.readouterr()
    words = (
        "--model",
        tmp_path / "model",
        "--texts",
        tiny / "texts.jsonl",
        "--out",
        tmp_path / "o",
    )
    assert run(main, *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


def test_a_folder_that_cannot_be(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(norms.main, "--model", tiny / "model", "--out", tmp_path / "file") == 2
    assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_observing_the_same_texts_with_another_model(tiny):
    texts = str(tiny / "texts.jsonl")
    one = observe_texts(str(tiny / "model"), texts, feed="raw", seed=4)
    other = one.again(str(tiny / "model"))
    assert [trace.tokens.tolist() for trace in one.traces] == [
        trace.tokens.tolist() for trace in other.traces
    ]
    assert (other.seed, other.asked) == (4, one.asked)


def test_numbers_that_are_none_are_refused_in_clear_words():
    def break_it(model):
        model.blocks[4].mlp.W_out.data[0, 0] = float("nan")

    with pytest.raises(Exception, match="layer 4") as refused:
        planted(Plant(pos=20, forming=(3,)), change=break_it)
    assert "ModelError" in {kind.__name__ for kind in type(refused.value).__mro__}


def test_python_dash_m_shows_the_question_and_the_options(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "experiments.norms")
    monkeypatch.setattr(sys, "argv", ["norms.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("experiments.norms", run_name="__main__", alter_sys=True)
    shown = capsys.readouterr().out
    assert "What would refute it" in shown
    assert "  python -m experiments.norms --model smollm2-135m --out results/norms\n" in shown
    assert "--texts" in shown
