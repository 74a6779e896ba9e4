"""The commands at work on a tiny model: what they write, say, refuse and leave alone."""

import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import version

import pandas as pd
import pytest

from secondary_sinks.cli import show
from secondary_sinks.cli.entry import run
from secondary_sinks.errors import ModelError, SinkWarning
from secondary_sinks.models import load
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.runs import RunFolder
from tests.marks import exhaustive
from tests.tiny import save_tiny

COMMANDS = ("run", "circuit", "detect", "report", "compare", "view", "levels", "models", "generate")
COMMANDS += ("questions", "edits")
COMMANDS += ("ablate", "patch", "scale", "status", "verify", "merge", "export")
TABLES = {
    "detect": {"sinks", "trace"},
    "ablate": {"sinks", "trace", "effects", "roles"},
    "run": {"sinks", "trace", "effects", "roles"},
}


def contents(path):
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(f.relative_to(path)): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


@pytest.mark.parametrize("command", TABLES)
def test_a_command_writes_its_tables_and_says_nothing_on_the_error_stream(command, call, tmp_path):
    code, printed, error = call(command)
    assert (code, error) == (0, "")
    first = printed.splitlines()[command == "ablate"]  # after the cost of a sweep
    assert first.startswith("Is this the paper's phenomenon? ")
    names = {f"{table}.parquet" for table in TABLES[command]} | {"run.json"}
    names |= {"sweep"} | ({"report.html"} if command == "run" else set())
    assert {item.name for item in (tmp_path / "out").iterdir()} == names
    assert ("report: " in printed) == (command == "run")
    assert ("tables: " in printed) == (command != "run")


@pytest.mark.parametrize("command", TABLES)
def test_the_same_again_changes_no_file(command, call, tmp_path):
    call(command)
    before = contents(tmp_path / "out")
    code, printed, _ = call(command)
    assert code == 0
    assert "already holds this run" in printed
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "options", [("--seed", "1"), ("--edit", "mean"), ("--dtype", "bfloat16"), ("--feed", "chat")]
)
def test_another_option_refuses_and_force_replaces(options, call, tmp_path):
    call("ablate")
    before = contents(tmp_path / "out")
    code, printed, error = call("ablate", *options)
    assert (code, printed) == (2, "")
    assert "a finished run of other inputs" in error
    assert contents(tmp_path / "out") == before
    assert call("ablate", *options, "--force")[0] == 0
    assert RunFolder(tmp_path / "out").record()["command"].endswith("--seed 1") == (
        options == ("--seed", "1")
    )
    assert contents(tmp_path / "out")["run.json"] != before["run.json"]


def test_other_weights_of_the_same_name_refuse(place, tmp_path, capfd):
    arguments = ["--texts", "ok.jsonl", "--out", str(tmp_path / "out")]
    save_tiny(tmp_path / "mine")
    assert run(["detect", str(tmp_path / "mine"), *arguments]) == 0
    save_tiny(tmp_path / "mine", seed=1)
    assert run(["detect", str(tmp_path / "mine"), *arguments]) == 2
    assert "a finished run of other inputs" in capfd.readouterr().err


@pytest.mark.parametrize("options", [(), ("--bridge",)])
def test_another_rope_with_the_same_weights_refuses(options, place, tmp_path, capfd):
    arguments = ["--texts", "ok.jsonl", "--out", str(tmp_path / "out"), *options]
    config = save_tiny(tmp_path / "mine") / "config.json"
    assert run(["detect", str(tmp_path / "mine"), *arguments]) == 0
    changed = json.loads(config.read_text())
    changed["rope_parameters"]["rope_theta"] *= 2
    config.write_text(json.dumps(changed))
    assert run(["detect", str(tmp_path / "mine"), *arguments]) == 2
    assert "a finished run of other inputs" in capfd.readouterr().err


@exhaustive
def test_a_damaged_table_is_made_again_and_force_gives_the_same_tables(call, tmp_path):
    call("run")
    before = {table: RunFolder(tmp_path / "out").table(table) for table in TABLES["run"]}
    (tmp_path / "out" / "sinks.parquet").write_bytes(b"damaged")
    for options in ((), ("--force",)):
        code, printed, error = call("run", *options)
        assert code == 0
        assert ("sinks.parquet is damaged or missing; it is written again" in error) != bool(
            options
        )
        assert "already" not in printed
        for table, frame in before.items():
            pd.testing.assert_frame_equal(RunFolder(tmp_path / "out").table(table), frame)


def results(path):
    """What a run found: its files, without the cells that it keeps to go on from."""
    return {name: one for name, one in contents(path).items() if not name.startswith("sweep")}


def test_a_failed_force_keeps_the_old_run(call, tmp_path, monkeypatch):
    call("detect")
    before = results(tmp_path / "out")
    assert call("detect", "--force", texts="long.txt")[0] == 2
    with monkeypatch.context() as patch:
        patch.setattr("secondary_sinks.sweeps.compute.observe", interrupt)
        patch.setattr("secondary_sinks.sweeps.output.SweepOutput.write", interrupt)
        assert call("detect", "--force", "--seed", "2")[0] == 130
    assert results(tmp_path / "out") == before
    assert "already holds this run" in call("detect")[1]


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("secondary_sinks.sweeps.worker.load_model", False),
        ("secondary_sinks.sweeps.output.write_table", True),
        ("secondary_sinks.runs.RunFolder.write_record", True),
    ],
)
def test_an_interrupted_run_says_how_to_go_on_and_does(where, kept, call, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(where, interrupt)
        code, printed, error = call("run")
    assert (code, printed) == (130, "")
    assert error.startswith("interrupted")
    assert error.endswith(f"rerun the same command to resume: {tmp_path / 'out'} keeps the work\n")
    assert (tmp_path / "out").exists() == kept
    if kept:
        monkeypatch.setattr("secondary_sinks.sweeps.compute.observe", None)  # no calling it
        monkeypatch.setattr("secondary_sinks.sweeps.compute.replay", None)
        assert call("run")[0] == 0


@pytest.mark.parametrize(
    "module", ["threading", "secondary_sinks.cli", "secondary_sinks.errors", "typer"]
)
def test_an_interrupt_while_modules_are_loaded_is_one_line(module):
    """As Ctrl-C in the first moments: the import of a module raises what Python raises then."""
    code = f"""
import runpy, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            raise KeyboardInterrupt
sys.modules.pop("{module}", None)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["secondary-sinks", "models"]
runpy.run_module("secondary_sinks", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr == "interrupted; run the same command to start again\n"


SWALLOWED = """
import signal, sys, time, types, weakref

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start us with it ignored

class Module:
    pass

def run():
    held = Module()
    def callback(dead):  # as the import system has one for each module
        raise KeyboardInterrupt
    known = weakref.ref(held, callback)
    del held
    for _ in range(200):
        time.sleep(0.05)

sys.modules["secondary_sinks.cli"] = types.SimpleNamespace(main=run)
from secondary_sinks.__main__ import main
main()
"""


def test_an_interrupt_that_python_ignores_in_a_callback_is_repeated():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "interrupted; run the same command to start again\n"
    assert time.monotonic() - start < 9


def test_a_run_that_was_interrupted_before_its_report_gets_it(call, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("secondary_sinks.cli.work.write_report", interrupt)
        assert call("run")[0] == 130
    assert RunFolder(tmp_path / "out").has_record()
    assert call("run")[0] == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_two_runs_into_one_folder_at_once_are_refused(call, tmp_path):
    with RunFolder(tmp_path / "out").claim():
        code, _, error = call("detect")
    assert code == 2
    assert "another run is writing" in error
    assert not (tmp_path / "out").exists()


def test_report_writes_the_page_again(call, tmp_path, capfd):
    call("run")
    page = tmp_path / "out" / "report.html"
    first = page.read_text("utf-8")
    page.unlink()
    assert run(["report", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().out == f"{page}\n"
    assert page.read_text("utf-8") == first


@exhaustive
def test_a_bridge_is_recorded_and_gives_the_same_tables(call, tmp_path):
    call("run")
    hooked, expected = RunFolder(tmp_path / "out").record(), tables(tmp_path / "out")
    assert hooked["model"]["class"] == "HookedTransformer"
    assert call("run", "--bridge")[0] == 2
    assert call("run", "--bridge", "--force")[0] == 0
    record = RunFolder(tmp_path / "out").record()
    assert record["model"]["class"] == "TransformerBridge"
    assert record["model"]["architecture"] == hooked["model"]["architecture"] == "LlamaForCausalLM"
    assert record["versions"]["transformer-lens"] == version("transformer-lens")
    assert "--bridge" in record["command"]
    assert "TransformerBridge" in (tmp_path / "out" / "report.html").read_text("utf-8")
    for name, frame in tables(tmp_path / "out").items():
        pd.testing.assert_frame_equal(frame, expected[name], rtol=1e-4, atol=1e-4, obj=name)


def test_half_precision_says_what_its_rounding_leaves_open(call, tmp_path):
    _, printed, _ = call("detect")
    assert "rounding" not in printed
    _, printed, _ = call("detect", "--dtype", "bfloat16", "--force")
    said = " ".join(printed.split())
    assert (
        "Within the rounding of bfloat16: 0 of 0 sinks, and 0 tokens just below a threshold" in said
    )
    assert RunFolder(tmp_path / "out").record()["near_sinks"] == []


def test_the_line_of_rounding_counts_what_is_marked():
    sinks = pd.DataFrame({"within_rounding": [True, False, True]})
    line = show.rounding_line({"dtype": "float16", "near_sinks": [{}]}, sinks)
    assert line.startswith("Within the rounding of float16: 2 of 3 sinks, and 1 token just")


def tables(folder):
    return {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def test_checks_at_load_are_left_out_by_name(call, tmp_path, monkeypatch):
    skipped = []
    plain = load.prove
    monkeypatch.setattr(load, "prove", lambda *given: skipped.append(given[2]) or plain(*given))
    assert call("detect", "--skip-check", "chunks", "--skip-check", "causality")[0] == 0
    assert skipped == [("chunks", "causality")]
    record = RunFolder(tmp_path / "out").record()
    assert record["model"]["skipped_checks"] == ["causality", "chunks"]
    assert "--skip-check chunks --skip-check causality" in record["command"]


def test_a_mistyped_check_lists_them_before_anything_is_loaded(call):
    code, _, error = call("detect", "--skip-check", "chunk", texts="missing.jsonl")
    assert code == 2
    assert all(name in error for name in ("'chunk'", *CHECKS))


def test_the_recorded_command_asks_for_the_same(call, tmp_path, capfd):
    call("ablate", "--edit", "mean", "--feed", "raw")
    import shlex

    words = shlex.split(RunFolder(tmp_path / "out").record()["command"])
    assert words[0] == "secondary-sinks"
    assert run(words[1:]) == 0
    assert "already holds this run" in capfd.readouterr().out


def test_models_lists_names_and_architectures(capsys):
    assert run(["models"]) == 0
    printed = capsys.readouterr().out
    assert "smollm2-135m" in printed
    assert "Qwen3ForCausalLM" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_every_command_is_listed(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"Example: secondary-sinks {command}" in capsys.readouterr().out
    assert run([]) == run(["--help"]) == 0
    assert f"  {command} " in capsys.readouterr().out


def test_the_list_of_commands_begins_with_run_and_cuts_no_summary(capsys):
    assert run([]) == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1].split("\n\n")[0]
    assert listed.split()[0] == "run"
    assert len(listed.splitlines()) == len(COMMANDS)
    assert "..." not in listed


def test_help_and_version_import_nothing_heavy():
    """In a fresh interpreter: whatever makes them slow is one of these modules."""
    code = (
        "import sys; from secondary_sinks.cli.entry import run\n"
        f"for c in {COMMANDS}: assert run([c, '--help']) == 0\n"
        "assert run(['--version']) == run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'numpy', 'plotly'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs():
    command = [sys.executable, "-m", "secondary_sinks", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("secondary-sinks 0.")
    assert (done.returncode, done.stderr) == (0, "")


@exhaustive
def test_a_closed_output_is_no_error():
    code = f"""
import os, sys
os.close(1)
os.execv({sys.executable!r}, [{sys.executable!r}, "-m", "secondary_sinks", "questions"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_of_sinks_shows_tokens_as_they_are_and_runs_no_markup(capsys):
    sink = {
        "kind": "secondary",
        "token": "[red]\x1b[31m",
        "token_id": 5,
        "text_id": "a",
        "l_start": 2,
    }
    sink |= {"lifetime": 7, "lifetime_attention": 9.0, "norm_ratio_max": 5.5, "mass_max": 0.25}
    frame = pd.DataFrame([sink, sink | {"text_id": "b", "lifetime": 9}])
    show.Console(width=100).print(show.sink_table(frame, "Sinks in 2 texts"))
    printed = capsys.readouterr().out
    assert "\x1b[31m" not in printed
    row = next(line for line in printed.splitlines() if "secondary" in line)
    assert "[red]" in row
    assert [cell.strip() for cell in row.strip("│").split("│")][2:] == [
        *("2", "2", "2", "7-9", "9", "5.5 x", "25.0%")
    ]


def test_tokens_of_different_ids_have_rows_of_their_own(capsys):
    sink = {"kind": "secondary", "token": "A", "token_id": 5, "text_id": "a", "l_start": 2}
    sink |= {"lifetime": 7, "lifetime_attention": 9.0, "norm_ratio_max": 5.5, "mass_max": 0.25}
    frame = pd.DataFrame([sink, sink | {"token_id": 6}, sink | {"token": "B", "token_id": 7}])
    show.Console(width=100).print(show.sink_table(frame, "Sinks in 2 texts"))
    rows = [line for line in capsys.readouterr().out.splitlines() if "secondary" in line]
    assert [row.split("│")[2].strip() for row in rows] == ["'A' [5]", "'A' [6]", "'B'"]


def test_the_most_frequent_tokens_come_first_and_the_rarest_share_a_row(capsys):
    sink = {"kind": "primary", "text_id": "a", "l_start": 2, "lifetime": 7}
    sink |= {"lifetime_attention": 9.0, "norm_ratio_max": 5.5, "mass_max": 0.25}
    ids = [*range(9), 8, 8]
    rows = [sink | {"token": f"w{id}", "token_id": id, "l_start": id} for id in ids]
    other = sink | {"kind": "secondary", "token": ".", "token_id": 20}
    show.Console(width=100).print(show.sink_table(pd.DataFrame([other, *rows]), "Sinks"))
    printed = [line for line in capsys.readouterr().out.splitlines() if "ary" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed]
    assert [row[1] for row in cells] == [
        *("'w8'", *(f"'w{n}'" for n in range(6)), "2 more tokens"),
        "'.'",
    ]
    assert cells[0][2:5] == ["3", "1", "8"]
    assert cells[7][2:5] == ["2", "1", "6-7"]


@pytest.mark.parametrize(
    ("unit", "low", "numbers"),
    [
        ("share", 0.5, "70% [50%, 90%]"),
        ("share", float("nan"), "70%"),
        ("rank correlation", 0.5, "0.70 [0.50, 0.90]"),
        ("", 0.5, "0.70 [0.50, 0.90]"),
        ("share", -0.004, "70% [0%, 90%]"),
    ],
)
def test_a_verdict_is_one_line(unit, low, numbers):
    statistic = "share lost"  # its words decide nothing
    verdict = {"claim": "the [b]MLP", "outcome": "supported", "why": "so", "statistic": statistic}
    verdict |= {"unit": unit, "value": 0.7, "low": low, "high": 0.9, "n_sinks": 6, "n_texts": 3}
    line = show.verdict_line(verdict)
    assert line == (
        f"[green]supported[/green]  the \\[b]MLP: so ({statistic}: {numbers}; 6 sinks, 3 texts)"
    )


def test_what_taking_writers_away_does_to_the_prediction_is_said_after_them(capsys):
    from rich.console import Console

    from secondary_sinks.cli import show
    from tests.plots.frames import sinks
    from tests.report.pages import record, verdict

    row = {"role": "writer", "layer": 2, "n_sinks": 9}
    damage = [
        row | {"edit": edit, "kl_at_token": kl}
        for edit, kl in (("zero", 3.184), ("mean:twins", 0.0092))
    ]
    told = record(
        writers=[verdict(claim="MLP 2 writes")],
        verdicts=[verdict(claim="MLP 2 is needed")],
        damage=damage,
    )
    show._show_one(Console(width=200), told, sinks())
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert "MLP 2 writes" in lines[0]
    assert lines[1].rstrip() == (
        "KL at the sink (nats, median): MLP 2 (writer, alone or not, of 9 sinks) zero 3.2, "
        "mean:twins 0.0092"
    )
    assert "MLP 2 is needed" in lines[2]


def test_the_source_of_a_model_is_recorded_and_asked_for_again(call, tmp_path):
    call("detect", "--trust-remote-code")
    record = RunFolder(tmp_path / "out").record()
    assert record["command"].endswith(" --trust-remote-code")
    assert record["model"]["source"]["kind"] == "folder"


def test_the_commit_of_a_hub_model_is_recorded(place, tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    cache, commit = tmp_path / "hub", "c" * 40
    repository = cache / "models--owner--model"
    shutil.copytree(place / "tiny", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    arguments = ["--texts", "ok.jsonl", "--out", str(tmp_path / "out")]
    assert run(["detect", "owner/model", "--revision", "v1", *arguments]) == 0
    record = RunFolder(tmp_path / "out").record()
    expected = {"kind": "hub", "repository": "owner/model", "revision": "v1", "commit": commit}
    assert record["model"]["source"] == expected
    assert record["command"].endswith("--revision v1")
    assert capfd.readouterr().err == ""
    assert run(["detect", f"owner/model@{commit}", *arguments]) == 0
    assert "already holds this run" in capfd.readouterr().out


@pytest.mark.filterwarnings("default::secondary_sinks.errors.SinkWarning")
def test_a_warning_of_ours_is_one_line(call, monkeypatch):
    def load(*arguments, **options):
        warnings.warn("dense\x1b[2J\nnow", SinkWarning, stacklevel=1)
        raise ModelError("and not loaded")

    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", load)
    assert call("detect") == (2, "", "warning: dense\\x1b[2J now\nerror: and not loaded\n")
