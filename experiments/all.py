"""Every experiment on one model, from one observation pass, and a table of claims.

    python -m experiments.all --model smollm2-135m --texts my.jsonl --out results

Each experiment has its folder in `--out` (docs/experiments.md). claims.csv, claims.md and
claims.html say what came of each claim. What it will cost is said first, and on the way how far it
is. An experiment that fails is recorded in the table and does not stop the others; one that is
finished is skipped when the command is started again with the same model, texts and options. Exits
with 1 where one failed.
"""

import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.prices import ASKED, QUICK, prices
from experiments.shared import Finding, Observed, observe_texts
from experiments.written import RECORD, in_words, without_nan, write
from secondary_sinks import bundled_corpus, read_texts
from secondary_sinks.cli import run_app, say
from secondary_sinks.errors import SinkError
from secondary_sinks.runs import RunFolder
from secondary_sinks.runs.as_csv import escape_text

OBSERVED = [
    "norms",
    "sink_levels",
    "criterion_check",
    "sink_tokens",
    "mlp_anatomy",
    "mlp_directions",
    "separability",
    "norm_and_score",
    "primary_weakening",
    "prefix_entropy",
]
EXPERIMENTS = tuple(dict.fromkeys([*OBSERVED, *ASKED]))
FAILED = "failed"
COLUMNS = [
    "model",
    "experiment",
    "role",
    "question",
    "claim",
    "outcome",
    "why",
    "statistic",
    "value",
    "low",
    "high",
    "confidence",
    "controls",
    "n_sinks",
    "n_texts",
    "file",
]
Say = Callable[[str], None]


def run_all(
    model: str,
    texts: str | None,
    out: Path,
    *,
    only: Sequence[str] = EXPERIMENTS,
    quick: bool = False,
    say: Say = print,
    **options: Any,
) -> pd.DataFrame:
    """Run what is not finished yet, write the claims table, and give it.

    `options` are those of `observe_texts`. Raises `SinkError` for an experiment that there is not,
    and whatever `observe_texts` raises; what an experiment raises is in the table.
    """
    for name in only:
        if name not in EXPERIMENTS:
            raise SinkError(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    asked = {name: QUICK.get(name, {}) if quick else {} for name in only}
    keys = {name: _key(model, texts, options | one) for name, one in asked.items()}
    missing = {name: one for name, one in asked.items() if not is_finished(out / name, keys[name])}
    for name in only:
        if name not in missing:
            say(f"{name}: finished before, skipped")
    if missing:
        _run(missing, observed_for(model, texts, options, say), out, keys, say)
    table = claims_of(out, model, only)
    write_claims(table, out)
    return table


def observed_for(model: str, texts: str | None, options: Mapping[str, Any], say: Say) -> Observed:
    """Observe, with what that is said before, and how long it took after."""
    found = bundled_corpus() if texts is None else read_texts(texts)
    say(f"observing {len(found)} texts, {sum(len(text.raw) for text in found):,} characters")
    start = time.perf_counter()
    observed = observe_texts(model, texts, **options, say=say)
    n_tokens = sum(len(text.tokens) for text in observed.texts)
    say(f"observed {n_tokens:,} tokens in {time.perf_counter() - start:.0f} s (with the loading)")
    return observed


def is_finished(folder: Path, key: str) -> bool:
    """Whether an experiment with this key was written as a whole."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(record["provenance"]["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def claims_of(out: Path, model: str, names: Sequence[str] = EXPERIMENTS) -> pd.DataFrame:
    """One row per verdict of the experiments in a folder, or per experiment that failed."""
    rows: list[dict[str, Any]] = []
    for name in names:
        path = out / name / RECORD
        if not path.is_file():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        told = {"model": model, "experiment": name, "question": record["question"]}
        for role, verdict in _roles(record):
            rows.append(told | {"role": role, "file": f"{name}/{RECORD}"} | verdict)
    return pd.DataFrame(rows, columns=COLUMNS)


def write_claims(table: pd.DataFrame, out: Path) -> None:
    """claims.csv, claims.md and claims.html: the last two for the eye."""
    files = RunFolder(out)
    files.write_text("claims.csv", escape_text(table).to_csv(index=False))
    shown = table[["experiment", "claim", "outcome", "why", "value", "low", "high", "n_sinks"]]
    html = shown.to_html(index=False, na_rep="", float_format="{:.3g}".format)
    style = "<style>body{font-family:sans-serif}td{text-align:left;padding:.3em}</style>"
    page = f'<!doctype html><meta charset="utf-8"><title>Claims</title>{style}{html}'
    files.write_text("claims.html", page)
    lines = ["| experiment | claim | outcome | why |", "|---|---|---|---|"]
    for row in table.to_dict("records"):
        cells = [str(row[name]) for name in ("experiment", "claim", "outcome", "why")]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    files.write_text("claims.md", "\n".join(lines) + "\n")


def _run(
    asked: Mapping[str, Mapping[str, Any]],
    observed: Observed,
    out: Path,
    keys: Mapping[str, str],
    say: Say,
) -> None:
    """Experiments with their options, one after the other."""
    for line in prices(asked, observed):
        say(line)
    for number, name in enumerate(asked, start=1):
        start = time.perf_counter()
        try:
            finding: Finding = import_module(f"experiments.{name}").run(observed, **asked[name])
            made = {"key": keys[name], "options": dict(asked[name])}
            write(finding, out / name, observed.record() | made)
            told = in_words(finding.verdict)
        except Exception as error:  # recorded, so that one that fails doesn't stop the others
            told = _record_failure(out / name, name, error)
        say(f"[{number}/{len(asked)}] {name}: {time.perf_counter() - start:.0f} s: {told}")


def _record_failure(folder: Path, name: str, error: Exception) -> str:
    """A record without a key, so that a second start tries again."""
    folder.mkdir(parents=True, exist_ok=True)
    why = f"{type(error).__name__}: {error}"
    record = {"name": name, "question": "", "failed": why, "traceback": traceback.format_exc()}
    content = json.dumps(without_nan(record), indent=2)
    (folder / RECORD).write_text(content + "\n", encoding="utf-8")
    return f"{FAILED}: {why}"


def _roles(record: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if "failed" in record:
        return [("answer", {"outcome": FAILED, "why": record["failed"], "claim": ""})]
    return [("answer", record["verdict"]), *(("further", one) for one in record["further"])]


def _key(model: str, texts: str | None, options: Mapping[str, Any]) -> str:
    """A digest of the model's name, the texts and all options of an experiment."""
    found = bundled_corpus() if texts is None else read_texts(texts)
    asked = [model, [asdict(text) for text in found], dict(options)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")


def _command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for all results.")],
    model: Annotated[str, typer.Option(help="As for `secondary-sinks run`.")] = "smollm2-135m",
    texts: Annotated[str | None, typer.Option(help="As for `secondary-sinks run`.")] = None,
    only: Annotated[str, typer.Option(help="Names of experiments, with commas.")] = "",
    quick: Annotated[bool, typer.Option(help="Recompute no texts: leaves out who gains.")] = False,
    feed: Annotated[str, typer.Option(help="chat, raw, or auto.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is left to chance.")] = 0,
) -> None:
    """Every experiment on one model, from one observation pass, and a table of claims."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(EXPERIMENTS)
    options = {"feed": feed, "device": device, "dtype": dtype, "seed": seed}
    with RunFolder(out).claim():
        table = run_all(model, texts, out, only=names, quick=quick, say=say, **options)
    say(f"claims: {out / 'claims.html'}")
    if (table["outcome"] == FAILED).any():
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, 1 (an experiment failed), 2 (bad input) or 130."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(_command)
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_app(app, words or ["--help"], "python -m experiments.all"))


if __name__ == "__main__":
    main()
