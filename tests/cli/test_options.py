"""The same options of all commands that compute, and what a terminal adds: completion, colour."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from secondary_sinks import runs
from secondary_sinks.causal.recipes import check_recipe
from secondary_sinks.cli import complete, show
from secondary_sinks.cli.entry import run
from secondary_sinks.models.original.catalogue import EMBEDDED, ENTRIES
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.report.claims import next_step
from secondary_sinks.runs.export import FORMATS
from secondary_sinks.sweeps.executors import EXECUTORS
from secondary_sinks.types import SITES, Thresholds

COMPUTING = ("run", "detect", "ablate", "patch", "scale")
EVERYWHERE = (
    *("--out", "--config", "--texts", "--text", "--limit", "--max-tokens", "--feed", "--threshold"),
    *("--device", "--dtype", "--n-devices", "--revision", "--trust-remote-code", "--bridge"),
    *("--skip-check", "--seed", "--dry-run", "--log-format", "--json", "--quiet", "--force"),
)
FOX = "The quick brown fox jumps over the lazy dog, again and again and again."


@pytest.fixture
def call(place, tmp_path, capfd):
    """Run a command: code, output, errors. `{out}` is a folder that is not there yet."""

    def call(*words):
        code = run([word.format(out=tmp_path / "out") for word in words])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize("command", COMPUTING)
def test_commands_that_compute_share_their_options(command, capsys):
    assert run([command, "-h"]) == 0
    listed = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.M))
    own = {"--layers", "--site"} - ({"--layers", "--site"} if command == "detect" else set())
    assert {*EVERYWHERE, *own} <= listed
    assert ("--criterion" in listed) == (command == "detect"), "edits need the joint criterion"


def test_a_text_of_the_command_line_is_fed_unchanged(call, tmp_path):
    given = ("--text", f"{FOX}//two", "--text", f" {FOX}")
    assert call("detect", "tiny", *given, "--out", "{out}")[0] == 0
    record = runs.RunFolder(tmp_path / "out").record()
    fed = {text["text_id"]: text["fed"] for text in record["texts"]}
    assert fed == {"text 1": f"{FOX}//two", "text 2": f" {FOX}"}
    again = call("detect", "tiny", *given, "--out", "{out}")
    assert "already holds this run" in again[1]


@pytest.mark.parametrize("name", ["s3:x", "file:x", "~/x"])
def test_a_folder_is_never_read_as_an_address_or_a_home(name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    given = [str(place / "tiny"), "--text", FOX, "--out", name]
    assert run(["detect", *given]) == 0
    assert run(["export", name]) == 0
    found = {path.relative_to(name).as_posix() for path in Path(name).rglob("*.*")}
    assert {"run.json", "sinks.parquet", "trace.parquet", "export/sinks.csv"} <= found
    assert not list((tmp_path / "home").iterdir())


def test_limit_takes_the_first_texts_and_a_sweep_grows_by_it(call, tmp_path):
    files = tmp_path / "three.jsonl"
    files.write_text("".join(json.dumps({"id": n, "text": f"{n}: {FOX}"}) + "\n" for n in "abc"))
    words = ("ablate", "tiny", "--texts", str(files), "--edit", "zero", "--out", "{out}")
    assert call(*words, "--limit", "2")[0] == 0
    assert set(runs.open(tmp_path / "out").trace["text_id"]) == {"a", "b"}
    assert call(*words)[0] == 0
    assert set(runs.open(tmp_path / "out").trace["text_id"]) == {"a", "b", "c"}
    assert call(*words, "--limit", "2")[0] == 2


def test_max_tokens_takes_the_first_tokens_and_says_so(call, tmp_path):
    words = ("detect", "tiny", "--text", FOX, "--out", "{out}")
    assert call(*words, "--max-tokens", "40")[0] == 0
    (text,) = runs.RunFolder(tmp_path / "out").record()["texts"]
    assert (text["n_tokens"], text["feed"]) == (40, "raw, first 40 tokens")
    assert FOX.startswith(text["fed"].removeprefix("<s>").strip()[:30])
    code, _, error = call(*words)
    assert code == 2
    assert "max_tokens" in error, "a longer text is another input"


def test_the_paper_s_criterion_finds_the_sinks_of_the_table(call, tmp_path):
    words = ("detect", "tiny", "--text", FOX, "--out", "{out}")
    assert call(*words, "--criterion", "paper")[0] == 0
    assert set(runs.open(tmp_path / "out").sinks["criterion"]) <= {"paper"}
    assert call(*words)[0] == 2, "the joint criterion is another input"
    code, _, error = call(*words, "--criterion", "papers", "--force")
    assert (code, "joint or paper" in error) == (2, True)


def test_a_config_of_a_run_says_the_same_as_options(call, tmp_path):
    config = tmp_path / "mine.toml"
    config.write_text(
        f'models = ["tiny"]\ntexts = ["ok.jsonl"]\nout = {json.dumps(str(tmp_path / "filed"))}\n'
        'edits = ["mean"]\nlayers = "1"\nask = "harm"\nmax_tokens = 50\n'
    )
    assert call("run", "--config", str(config))[0] == 0
    record = runs.RunFolder(tmp_path / "filed").record()
    assert (record["edit"], record["asked"]) == ("mean", ["harm"])
    assert record["texts"][0]["n_tokens"] == 50
    words = ("--edit", "mean", "--layers", "1", "--ask", "harm", "--max-tokens", "50")
    more = ("--texts", "ok.jsonl", "--out", str(tmp_path / "filed"))
    assert "already holds this run" in call("run", "tiny", *words, *more)[1]
    code, _, error = call("detect", "--config", str(config))
    assert (code, "ask is not for detect" in error) == (2, True)


def test_a_dry_run_of_a_run_loads_and_writes_nothing(call, tmp_path, monkeypatch):
    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", None)
    code, printed, _ = call("run", "tiny", "--text", FOX, "--out", "{out}", "--dry-run")
    assert (code, (tmp_path / "out").exists()) == (0, False)
    assert printed.startswith("tiny: 1 text, 4 units ")
    assert "not in that time" not in printed
    asked = ("--ask", "harm,circuit", "--dry-run")
    code, printed, _ = call("run", "tiny", "--text", FOX, "--out", "{out}", *asked)
    assert code == 0
    assert "  not in that time  the answers to harm, trigger, writer, " in printed


def test_a_dry_run_of_a_finished_run_knows_that_it_is_done(call):
    words = ("run", "tiny", "--text", FOX, "--out", "{out}", "--edit", "zero")
    assert call(*words, "--quiet")[0] == 0
    assert "done already      2 of 2 units" in call(*words, "--dry-run")[1]


@pytest.mark.parametrize("command", ["detect", "ablate"])
def test_json_holds_the_sinks_and_quiet_only_the_place(command, call, tmp_path):
    words = (command, "tiny", "--text", FOX, "--out", "{out}")
    code, printed, error = call(*words, "--json")
    assert (code, error) == (0, "")
    (model,) = json.loads(printed)["models"]
    assert (model["n_texts"], model["model"]) == (1, "tiny")
    assert {"verdicts", "sinks", "phenomenon"} <= model.keys()
    assert call(*words, "--quiet") == (0, f"tables: {tmp_path / 'out'}\n", "")


@pytest.mark.parametrize("words", [("questions",), ("edits",), ("status",), ("verify",)])
def test_lists_and_folders_as_json(words, call):
    if words[0] in ("status", "verify"):
        call("detect", "tiny", "--text", FOX, "--out", "{out}")
        words = (*words, "{out}")
    code, printed, _ = call(*words, "--json")
    assert code == 0
    assert json.loads(printed)


def test_an_export_has_a_status_and_is_verified(call, tmp_path):
    call("detect", "tiny", "--text", FOX, "--out", "{out}")
    call("export", "{out}")
    code, printed, _ = call("status", "{out}/export")
    assert (code, "an export of 2 tables" in printed) == (0, True)
    assert call("verify", "{out}/export")[1].startswith("3 files: all intact\n")
    (tmp_path / "out" / "export" / "sinks.csv").write_text("broken\n")
    assert call("verify", "{out}/export")[0] == 2


def test_a_shell_completes_commands_options_and_values(place):
    def offered(line):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        code = (
            "import os, sys; heavy = {'torch', 'pandas'}; from secondary_sinks.cli import main\n"
            "import atexit; atexit.register(lambda: os.write(2, str(heavy & set(sys.modules))"
            ".encode()))\nmain()"
        )
        environment = {**os.environ, **words, "_SECONDARY_SINKS_COMPLETE": "complete_bash"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.stderr == "set()", "a key press loads no library"
        return done.stdout.split()

    assert offered("secondary-sinks st") == ["status"]
    assert "--max-tokens" in offered("secondary-sinks run --m")
    assert offered("secondary-sinks run --ask harm,ne") == ["harm,necessity"]
    assert offered("secondary-sinks run ti") == ["tiny/"]


def test_completed_words_are_those_that_the_package_takes():
    assert list(complete.MODELS) == [EMBEDDED, *(entry.alias for entry in ENTRIES)]
    assert list(complete.QUESTIONS) == [
        "all",
        "none",
        "circuit",
        *(question.name for question in QUESTIONS),
    ]
    assert list(complete.SITES) == [site.name for site in SITES]
    assert list(complete.THRESHOLDS) == [f"{item.name}=" for item in fields(Thresholds)]
    assert (complete.CHECKS, complete.FORMATS, complete.EXECUTORS) == (CHECKS, FORMATS, EXECUTORS)
    for edit in complete.EDITS:
        check_recipe(edit + "1" * edit.endswith(":"))


@pytest.mark.parametrize("plain", [False, True])
def test_outcomes_are_coloured_unless_no_color_is_set(plain, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1") if plain else monkeypatch.delenv("NO_COLOR", raising=False)
    show.print_lines(["folder: 1 experiment", "  norms      supported"])
    printed = capsys.readouterr().out
    assert ("\x1b[32msupported" in printed) != plain
    assert "supported" in printed


def test_a_legend_says_what_mass_norm_and_lifetime_are(capsys):
    from tests.plots.frames import sinks
    from tests.report.pages import record

    show._show_one(Console(width=200), record(), sinks())
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: " in printed for name in ("lifetime", "norm", "mass"))


def test_what_to_run_next_is_said_after_inconclusive_verdicts(capsys):
    from tests.plots.frames import sinks
    from tests.report.pages import record, verdict

    few = verdict(outcome="inconclusive", n_texts=1, n_sinks=2)
    show._show_one(Console(width=500), record(verdicts=[few]), sinks())
    assert capsys.readouterr().out.splitlines()[-1] == f"what next  {next_step([few])}"
    show._show_one(Console(width=500), record(), sinks())
    assert "what next" not in capsys.readouterr().out


def test_what_several_verdicts_lack_is_said_once_above_their_claims(capsys):
    from tests.plots.frames import sinks
    from tests.report.pages import record, verdict

    lacks = "only 2 sinks in 1 text"
    few = [
        verdict(outcome="inconclusive", claim=f"claim {n}", why="both")
        | {"found": f"found {n}", "lacks": lacks}
        for n in range(2)
    ]
    show._show_one(Console(width=500), record(verdicts=few), sinks())
    printed = capsys.readouterr().out
    assert f"inconclusive  Necessity, 2 claims: {lacks}\n" in printed
    assert printed.count(lacks) == 1
    assert [f"claim {n}: found {n} (" in printed for n in range(2)] == [True, True]


def test_numbers_of_singular_and_plural():
    row = {"claim": "c", "outcome": "supported", "why": "so", "statistic": "s", "unit": ""}
    row |= {"value": 1.0, "low": float("nan"), "high": float("nan"), "n_sinks": 1, "n_texts": 1}
    assert "1 sink, 1 text)" in show.verdict_line(row)
    line = show.rounding_line({"dtype": "float16"}, pd.DataFrame({"within_rounding": [True]}))
    assert line.startswith("Within the rounding of float16: 1 of 1 sink, and 0 tokens")
