"""What a folder is about: ids that were fed first are fed again; a difference is said by name."""

import json

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder, about
from secondary_sinks.sweeps import compute
from tests.sweeps.children import PLANTED, found_as_planted
from tests.sweeps.small_sweeps import TEXTS, garden, sweep

DATED = (
    "{% for digit in strftime_now('%f') %}{{ digit }} {% endfor %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)
WORDS = " ".join(map(str, PLANTED.tokens.tolist()[:40]))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Run commands on the planted model, whose chat template writes the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PLANTED.model.tokenizer, "chat_template", DATED)
    monkeypatch.setattr(PLANTED.model.cfg, "model_name", "planted")
    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", lambda *_, **__: PLANTED.model)
    monkeypatch.setattr("secondary_sinks.sweeps.config.resolve", found_as_planted)
    write(WORDS)
    return tmp_path


def write(*texts):
    with open("texts.jsonl", "w") as file:  # noqa: PTH123
        for number, text in enumerate(texts):
            line = {"id": f"t{number}", "messages": [{"role": "user", "content": text}]}
            file.write(json.dumps(line) + "\n")


def asked(command, *options):
    return run([command, "planted", "--texts", "texts.jsonl", "--out", "out", *options])


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


@pytest.mark.parametrize("command", ["detect", "ablate"])
def test_a_template_that_writes_the_time_is_fed_as_it_was_first(command, work, capfd):
    assert asked(command) == 0
    before = files_of(work / "out")
    capfd.readouterr()
    assert asked(command) == 0
    printed, error = capfd.readouterr()
    assert "text 't0' is fed with its stored token ids" in printed + error
    assert files_of(work / "out") == before
    assert asked(command, "--force") == 0
    assert files_of(work / "out") != before


def test_a_table_of_a_run_that_cannot_be_read_is_made_of_the_ids_of_the_first_time(work, capfd):
    assert asked("detect") == 0
    before = (work / "out" / "trace.parquet").read_bytes()
    (work / "out" / "trace.parquet").write_bytes(b"PAR1")
    assert asked("detect") == 0
    assert "trace.parquet is damaged or missing; it is written again" in capfd.readouterr().err
    assert (work / "out" / "trace.parquet").read_bytes() == before


@pytest.mark.parametrize("texts", [3, [{}], [{"text_id": 7}]])
def test_a_record_that_cannot_be_compared_is_made_again_and_said(texts, work, capfd):
    assert asked("detect") == 0
    folder = RunFolder("out")
    whole = folder.record()
    folder.write_record(whole | {"texts": texts})
    assert asked("detect") == 0
    assert "run.json' is not a complete record: texts" in capfd.readouterr().err
    assert folder.record() == whole


@pytest.mark.parametrize("command", ["detect", "ablate"])
def test_another_text_is_refused_by_name(command, work, capfd):
    assert asked(command) == 0
    before = files_of(work / "out")
    write(WORDS + " 3 4")
    assert asked(command) == 2
    assert "'t0' was " in capfd.readouterr().err
    assert files_of(work / "out") == before


def test_other_weights_and_code_of_a_run_are_named_with_both_values(work, capfd, monkeypatch):
    assert asked("detect") == 0
    old = json.loads((work / "out" / "run.json").read_text())
    plain = compute.describe

    def other(*given):
        found = plain(*given)
        return found | {"model": found["model"] | {"weights_sha256": "f" * 64}}

    with monkeypatch.context() as patch:
        patch.setattr(compute, "describe", other)
        assert asked("detect") == 2
    was = old["model"]["weights_sha256"][:12]
    assert f"weights: weights was {was}, is ffffffffffff" in capfd.readouterr().err
    code = old["versions_of_code"]
    monkeypatch.setattr(about, "versions_of_code", lambda: code | {"measures": "new"})
    assert asked("detect") == 2
    assert f"other code: measures was {code['measures']}, is new" in capfd.readouterr().err


def test_a_finished_sweep_of_other_code_is_refused(tmp_path, monkeypatch):
    sweep(tmp_path, texts=TEXTS[:1])
    monkeypatch.setattr(about, "versions_of_code", lambda: {"measures": "a", "engine": "b"})
    with pytest.raises(RunFolderError, match=r"other code: measures was \w{16}, is a; .*--force"):
        sweep(tmp_path, texts=TEXTS[:1])


def test_a_sweep_that_was_cut_short_says_what_it_goes_on_without(tmp_path):
    sweep(tmp_path, texts=TEXTS[:1])
    (tmp_path / "run.json").unlink()
    said = []
    models = {"planted": garden(seed=1).model}
    sweep(tmp_path, texts=TEXTS[:1], models=models, tell=lambda event, **facts: said.append(facts))
    (note,) = [facts["what"] for facts in said if "what" in facts]
    assert note.startswith("planted: weights: weights was ")
    assert note.endswith("cells of the earlier inputs are not used")


def test_a_text_that_is_there_no_more_is_named():
    old = [{"text_id": "a", "feed": "raw", "n_tokens": 3, "tokens_sha256": "1" * 64}]
    assert list(about.in_texts(old, old)) == []
    assert list(about.in_texts(old, [])) == [
        "texts as fed: 'a' was 3 tokens (raw, sha256 111111111111), is not there"
    ]
