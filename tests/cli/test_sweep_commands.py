"""`ablate`, `patch`, `scale`, `status`, `verify`, `merge` and `export` at work on a tiny model."""

import io
import json
import shlex
import sys

import pandas as pd
import pytest

from secondary_sinks import runs, sweeps
from secondary_sinks.cli.entry import run
from secondary_sinks.cli.watch import Watch
from secondary_sinks.runs import RunFolder

TEXTS = ["--texts", "ok.jsonl"]


@pytest.fixture
def call(place, tmp_path, capfd):
    """Run a command: code, output, errors. `{out}` is a folder that is not there yet."""

    def call(*words):
        code = run([word.format(out=tmp_path / "out") for word in words])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def swept(call, tmp_path):
    """The folder of a finished sweep."""
    assert call("ablate", "tiny", *TEXTS, "--out", "{out}")[0] == 0
    return tmp_path / "out"


def config_of(folder):
    return json.loads((folder / "sweep" / "config.json").read_text())["asked"]["config"]


@pytest.mark.parametrize(
    ("words", "edits"),
    [
        (("ablate",), ["zero", "twins"]),
        (("ablate", "--edit", "mean", "--edit", "resample:3"), ["mean", "resample:3"]),
        (("patch",), ["patch:twin"]),
        (("patch", "--donor", "sink", "--donor", "4"), ["patch:sink", "patch:4"]),
        (("scale", "--by", "0,0.5"), ["scale:0", "scale:0.5"]),
        (("scale", "--by", "2", "--norm", "10"), ["scale:2", "set_norm:10"]),
    ],
)
def test_commands_come_down_to_edits_and_record_a_command_that_does_the_same(
    words, edits, call, tmp_path
):
    more = ("--layers", "0-1", "--site", "attn_out", "--ordinary", "2", "--seed", "3")
    assert call(words[0], "tiny", *TEXTS, "--out", "{out}", *words[1:], *more)[0] == 0
    asked = config_of(tmp_path / "out")
    assert asked["edits"] == edits
    assert (asked["layers"], asked["sites"], asked["ordinary"]) == ("0-1", ["attn_out"], 2)
    again = shlex.split(RunFolder(tmp_path / "out").record()["command"])
    code, printed, _ = call(*again[1:])
    assert code == 0
    assert "already holds this run" in printed


def test_a_knockout_is_said_with_its_key_and_its_site(call, tmp_path):
    knockout = ("--site", "attn_scores", "--edit", "knockout:0")
    assert call("ablate", "tiny", *TEXTS, "--out", "{out}", *knockout)[0] == 0
    asked = config_of(tmp_path / "out")
    assert (asked["edits"], asked["sites"]) == (["knockout:0"], ["attn_scores"])
    code, _, error = call("ablate", "tiny", *TEXTS, "--out", "{out}2", "--edit", "knockout:0")
    assert code == 2
    assert error.count("\n") == 1
    assert "or 'knockout' at attn_scores" in error


def test_a_config_says_the_same_as_flags(call, tmp_path):
    config = tmp_path / "sweep.toml"
    config.write_text(
        'models = ["tiny"]\ntexts = ["ok.jsonl"]\nedits = ["zero", "mean"]\nlayers = "1"\n'
        f"out = {json.dumps(str(tmp_path / 'filed'))}\ntrace = false\nn_devices = 1\n"
        "thresholds = {outlying = 4, min_queries = 9}\n"
    )
    assert call("ablate", "--config", str(config))[0] == 0
    flags = ("--edit", "zero", "--edit", "mean", "--layers", "1", "--no-trace", "--n-devices", "1")
    flags += ("--threshold", "outlying=4", "--threshold", "min_queries=9")
    assert call("ablate", "tiny", *TEXTS, *flags, "--out", "{out}")[0] == 0
    assert config_of(tmp_path / "filed") == config_of(tmp_path / "out")
    assert not (tmp_path / "filed" / "trace.parquet").exists()
    flags = ("--edit", "mean", "--threshold", "outlying=5")
    assert call("ablate", "--config", str(config), *flags, "--out", "{out}2")[0] == 0
    assert config_of(tmp_path / "out2")["edits"] == ["mean"], "flags win"
    limits = config_of(tmp_path / "out2")["thresholds"]
    assert (limits["outlying"], limits["min_queries"]) == (5.0, 9), "each by itself"


def test_a_dry_run_says_what_there_is_to_do_and_loads_and_writes_nothing(
    call, tmp_path, monkeypatch
):
    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", None)  # no calling it
    words = ("ablate", "tiny", "no-template", *TEXTS, "--edit", "zero", "--edit", "mean")
    code, printed, error = call(*words, "--out", "{out}", "--dry-run")
    assert (code, error) == (0, "")
    assert "tiny: 1 text, 4 units" in printed
    assert "no-template: 1 text, 4 units" in printed
    assert "done already      0 of 4 units" in printed
    assert "forward passes    2\n" in printed
    assert "tokens            122\n" in printed
    assert "4 per sink (with its control)" not in printed
    assert "8 per sink (with its control)" in printed
    assert "expected time" in printed
    assert not (tmp_path / "out").exists()


def test_a_dry_run_knows_what_is_done(swept, call):
    words = ("ablate", "tiny", *TEXTS, "--edit", "zero", "--edit", "mean", "--out", "{out}")
    code, printed, _ = call(*words, "--dry-run")
    assert code == 0
    assert "done already      2 of 4 units" in printed
    assert "so about 0 for 0 sinks expected" in printed
    assert "(measured on the finished texts)" in printed
    assert "forward passes    2\n" in printed


def test_a_dry_run_counts_the_pass_that_observes_also_without_an_edit(call):
    code, printed, _ = call("detect", "tiny", *TEXTS, "--out", "{out}", "--dry-run")
    assert code == 0
    assert "tiny: 1 text, 0 units" in printed
    assert "forward passes    1\n" in printed
    assert "tokens            61\n" in printed


def test_a_dry_run_counts_cells_per_sink(call):
    edits = ("--donor", "twin", "--donor", "sink", "--ordinary", "3")
    code, printed, _ = call("patch", "tiny", *TEXTS, *edits, "--out", "{out}", "--dry-run")
    assert code == 0
    assert "18 per sink" in printed, "two layers, of one sink, its control (twice) and 3 others"


def test_a_bad_text_is_skipped_said_and_in_the_exit_code(call, tmp_path):
    (tmp_path / "mixed.jsonl").write_text(
        json.dumps({"id": "short", "text": "x y"}) + "\n" + json.dumps({"text": "long " * 9})
    )
    words = ("ablate", "tiny", "--texts", str(tmp_path / "mixed.jsonl"), "--out", "{out}")
    code, printed, error = call(*words)
    assert code == 3
    assert error.startswith("warning: skipped text 'short': ")
    assert error.count("\n") == 1
    assert "1 skipped, such as text 'short'" in printed
    code, printed, _ = call(*words)
    assert code == 3, "the same again says so again"
    code, printed, _ = call("status", "{out}")
    assert "skipped   text 'short'" in printed


def test_events_are_json_for_machines_and_the_standard_output_is_the_summary(call):
    code, printed, error = call("ablate", "tiny", *TEXTS, "--out", "{out}", "--log-format", "json")
    assert code == 0
    events = [json.loads(line) for line in error.splitlines()]
    assert [event["event"] for event in events] == ["load", "plan", "task", "tables"]
    assert {"units", "cells_per_s", "seconds_left", "sinks"} <= events[2].keys()
    summary = json.loads(printed)
    assert (summary["event"], summary["n_units"], summary["complete"]) == ("summary", 5, True)


def test_a_damaged_table_is_made_again_and_said(swept, call):
    whole = (swept / "sinks.parquet").read_bytes()
    (swept / "sinks.parquet").write_bytes(b"damaged")
    code, printed, error = call("verify", "{out}")
    assert code == 3
    assert "table sinks.parquet is damaged" in printed
    assert "rerun the command of this folder" in error
    code, printed, error = call("ablate", "tiny", *TEXTS, "--out", "{out}")
    assert code == 0
    assert "sinks.parquet is damaged" in error
    assert (swept / "sinks.parquet").read_bytes() == whole
    assert call("verify", "{out}")[0] == 0


def test_an_interrupt_before_anything_is_done_leaves_nothing(call, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", interrupt)
    code, printed, error = call("ablate", "tiny", *TEXTS, "--out", "{out}")
    assert (code, printed) == (130, "")
    assert error.startswith("interrupted; rerun the same command to resume")
    assert not (tmp_path / "out").exists()


def test_status_merge_and_export(swept, call, tmp_path):
    code, printed, _ = call("status", "{out}")
    assert code == 0
    assert "units     5 of 5 done" in printed
    assert call("ablate", "tiny", *TEXTS, "--edit", "mean", "--out", "{out}2")[0] == 0
    code, printed, _ = call("merge", "{out}", "{out}2", "--out", "{out}3")
    assert code == 0
    assert "from 2 folders" in printed
    assert sweeps.sweep_status(tmp_path / "out3").n_units == 7
    for format in ("csv", "parquet", "jsonl"):
        code, printed, _ = call("export", "{out}3", "--format", format, "--out", "{out}-" + format)
        assert code == 0
        place = tmp_path / f"out-{format}"
        assert printed.split() == [
            *(str(place / f"{name}.{format}") for name in ("sinks", "effects", "trace", "roles")),
            str(place / "schema.json"),
        ]
    frames = (
        pd.read_csv(tmp_path / "out-csv" / "trace.csv", keep_default_na=False),
        pd.read_parquet(tmp_path / "out-parquet" / "trace.parquet"),
        pd.read_json(tmp_path / "out-jsonl" / "trace.jsonl", lines=True),
    )
    assert {len(frame) for frame in frames} == {2 * 61}
    assert {tuple(frame) for frame in frames} == {tuple(runs.open(tmp_path / "out3").trace)}
    assert "interrupted" not in printed


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("ablate", "tiny", *TEXTS), "--out"),
        (("ablate", *TEXTS, "--out", "{out}"), "needs models"),
        (("ablate", "tiny", "tiny", *TEXTS, "--out", "{out}"), "'tiny' twice"),
        (("ablate", "tiny", *TEXTS, "--out", "{out}", "--layers", "0-x"), "'0-x'"),
        (("ablate", "tiny", *TEXTS, "--out", "{out}", "--layers", "2"), "layer 2 is out of range"),
        (("ablate", "tiny", *TEXTS, "--out", "{out}", "--site", "mpl"), "'mpl'"),
        (("ablate", "tiny", *TEXTS, "--out", "{out}", "--log-format", "xml"), "'xml'"),
        (("ablate", "tiny", *TEXTS, "--out", "{out}", "--executor", "slurm"), "'slurm'"),
        (("ablate", "--config", "none.yaml", "--out", "{out}"), "'none.yaml'"),
        (("patch", "tiny", *TEXTS, "--out", "{out}", "--donor", "twins"), "--donor is 'twins'"),
        (("scale", "tiny", *TEXTS, "--out", "{out}"), "--by"),
        (("scale", "tiny", *TEXTS, "--out", "{out}", "--by", "half"), "'scale:half'"),
        (("scale", "tiny", *TEXTS, "--out", "{out}", "--norm", "-1"), "-1"),
        (("ablate", "tiny", "--texts", "short.txt", "--out", "{out}"), "'short' has 8 tokens"),
        (("status", "nowhere"), "'nowhere'"),
        (("verify", "full"), "'full'"),
        (("merge", "full", "--out", "{out}"), "'full'"),
        (("export", "full"), "'full'"),
        (("export", "full", "--format", "xlsx"), "'xlsx'"),
    ],
)
def test_one_line_names_what_is_wrong(words, named, call, tmp_path):
    code, printed, error = call(*words)
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error
    assert not (tmp_path / "out").exists()


def test_progress_and_names_of_texts_are_printable(capsys, tmp_path):
    with Watch("text", tmp_path) as watch:
        watch.tell("load", model="a\x1b[2J", number=1, models=1)
        watch.tell("failed", text_id="\x1b[31m", reason="two\nlines")
    assert capsys.readouterr().err == "warning: skipped text '\\x1b[31m': two lines\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_rates_on_a_terminal_only(monkeypatch, tmp_path):
    facts = {"model": "m", "units": 2, "units_missing": 2, "cells_per_s": 3.0, "sinks": 7}
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Watch("text", tmp_path) as watch:
            watch.tell("plan", model="m", missing=4, units=8, layers=4, texts=2)
            watch.tell("task", seconds_left=61.0, **facts)
        assert ("3.0 cells/s, 0:01:01 left, 7 sinks" in stream.getvalue()) == shown
        assert ("m: 4 layers, 2 texts; 4 of 8 units are missing" in stream.getvalue()) == shown
        assert bool(stream.getvalue()) == shown
    assert "2 units done, 2 left" in watch.how_to_go_on()


def test_a_stage_is_shown_as_it_is_called_on_a_terminal_only(monkeypatch, tmp_path):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Watch("text", tmp_path) as watch:
            watch.tell("stage", stage="ro[red]les\x1b[2J", done=3, total=10)
        assert ("ro[red]les\\x1b[2J" in stream.getvalue()) == shown
        assert "\x1b[2J" not in stream.getvalue()


def test_one_model_in_two_dtypes_has_two_names(call, tmp_path):
    config = tmp_path / "two.yaml"
    config.write_text("models: [tiny, {name: tiny, dtype: bfloat16}]\ntexts: [ok.jsonl]\n")
    assert call("ablate", "--config", str(config), "--out", "{out}")[0] == 0
    names = [model["label"] for model in runs.open(tmp_path / "out").models]
    assert names == ["tiny (float32)", "tiny (bfloat16)"]
    code, printed, _ = call("report", "{out}", "--model", "tiny (bfloat16)")
    assert code == 0
    assert printed.endswith("report.html\n")


def test_ids_that_two_files_share_are_told_apart_by_the_files(call, tmp_path):
    for name in ("a", "b"):
        line = json.dumps({"text": f"one text of {name}, and no other"})
        (tmp_path / f"{name}.jsonl").write_text(line)
    files = [word for name in "ab" for word in ("--texts", str(tmp_path / f"{name}.jsonl"))]
    assert call("ablate", "tiny", *files, "--out", "{out}")[0] == 0
    assert set(runs.open(tmp_path / "out").trace["text_id"]) == {"a.jsonl:line-1", "b.jsonl:line-1"}
