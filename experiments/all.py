"""Every experiment on one model, from one observation pass, and a table of claims.

    python -m experiments.all --model smollm2-135m --texts my.jsonl --out results

Each experiment has its folder in `--out` (docs/experiments.md). claims.csv, claims.md and
claims.html list the outcome of each claim. What all of it costs is printed first, and progress on
the way. `--observing` leaves out what edits: for a model too large for the causal experiments. A
failing experiment is recorded in the table, and the others still run. When the command is started
again, experiments finished with the same weights, texts, code and options are skipped; about.json
stores these inputs. Exits with 1 if an experiment failed.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.about import ABOUT, about_of, key_of, read_about, refuse_other, write_about
from experiments.command import (
    DeviceOption,
    DtypeOption,
    EveryOption,
    FeedOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    start,
)
from experiments.copied import refuse_name
from experiments.prices import price_of_pass, prices
from experiments.recorded import RECORD, read_record, write_record
from experiments.shared import Finding, Loaded, Observed, load_texts, observe_loaded, texts_of
from experiments.table import BY_NAME, OBSERVING
from experiments.written import earlier, in_words, write
from secondary_sinks import files
from secondary_sinks.cli import NAMED_PATH, say
from secondary_sinks.display import markdown_table, rounded
from secondary_sinks.errors import RunFolderError, SinkError
from secondary_sinks.runs import RunFolder, escape_text
from secondary_sinks.types import refuse_twice, split_words

NAMES = tuple(BY_NAME)
FAILED = "failed"
CLAIMS = ("claims.csv", "claims.md", "claims.html")
COLUMNS = [
    *("model", "experiment", "role", "question", "claim", "outcome", "why", "statistic", "value"),
    *("low", "high", "confidence", "controls", "n_sinks", "n_texts", "file"),
]
Say = Callable[[str], None]


def run_all(
    model: str,
    texts: str | None,
    out: Path,
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    observing: bool = False,
    name: str = "",
    force: bool = False,
    say: Say = print,
    **options: Any,
) -> pd.DataFrame:
    """Run what is not finished, write the claims table, and return it.

    An experiment is finished if it was run with the same weights, token ids, code and options.
    By default all run; with `observing`, those that edit nothing, and without their parts that do.
    `name` is what tables and pages call the model. `options` are those of `observe_texts`.

    Raises `RunFolderError` for finished experiments of other weights, texts or code, unless
    `force`, and for files in the place of results that no experiment wrote; `SinkError` for an
    unknown experiment, or one that edits although `observing`; and the errors of `observe_texts`.
    Errors of an experiment are recorded in the table.
    """
    chosen, _ = _chosen(only, observing=observing), refuse_name(name or "any")
    short = quick or observing
    asked = {one: dict(BY_NAME[one].quick) if short else {} for one in chosen}
    _refuse_foreign(out, chosen)
    loaded, told = _loaded(model, texts, out, options, say, force=force)
    loaded = replace(loaded, name=refuse_name(name or loaded.name))
    keys = {one: key_of(told, one, how) for one, how in asked.items()}
    missing = {one: how for one, how in asked.items() if not is_finished(out / one, keys[one])}
    for one in chosen:
        if one not in missing:
            say(f"{one}: finished before, skipped")
    if missing:
        write_about(out, told)
        observed = replace(observed_for(loaded, options.get("seed", 0), say), folder=out)
        for kept in map(observed.kept, missing):
            if force and kept:
                kept.unlink(missing_ok=True)
        _run(missing, observed, out, keys, say)
    table = claims_of(out, loaded.name, chosen)
    write_claims(table, out)
    return table


def _chosen(only: Sequence[str], *, observing: bool) -> list[str]:
    """Names of the experiments to run; raises `SinkError` for an unknown one or one that edits."""
    refuse_twice("--only", only, SinkError)
    for name in only:
        if name not in NAMES:
            raise SinkError(f"no experiment {name!r}; there are {', '.join(NAMES)}")
        if observing and name not in OBSERVING:
            raise SinkError(
                f"experiment {name!r} edits activations, which --observing leaves out",
                "leave one of the two out",
            )
    return list(only or (OBSERVING if observing else NAMES))


def _loaded(
    model: str, texts: str | None, out: Path, options: Mapping[str, Any], say: Say, *, force: bool
) -> tuple[Loaded, dict[str, Any]]:
    """The model, its texts as this folder fed them first, and the record of these inputs."""
    old = {} if force else read_about(out, NAMES)
    before = {text["text_id"]: text for text in old.get("texts", ()) if "token_ids" in text}
    found = texts_of(texts, options.get("every", 1), options.get("max_tokens"))
    size = f"{len(found)} texts, {sum(len(text.raw) for text in found):,} characters"
    say(f"observing {size}, unless that is finished")
    further = {name: value for name, value in options.items() if name != "seed"}
    loaded = load_texts(model, texts, **further, before=before, say=say)
    told = about_of(loaded, options.get("seed", 0))
    finished = any(_provenance(out / name) for name in NAMES)
    for what in refuse_other(out, old, told, finished=finished):
        say(f"{what}; nothing was finished before")
    return loaded, told


def observed_for(loaded: Loaded, seed: int, say: Say) -> Observed:
    """Observe the texts; reports the start, and the time that it took."""
    say(price_of_pass(loaded))
    n_tokens = sum(len(text.tokens) for text in loaded.texts)
    start = time.perf_counter()
    observed = observe_loaded(loaded, seed, say)
    say(f"observed {n_tokens:,} tokens in {time.perf_counter() - start:.0f} s")
    return observed


def is_finished(folder: Path, key: str) -> bool:
    """Whether the experiment with this key was written completely, and nothing changed since."""
    return _provenance(folder, sealed=True).get("key") == key


def _provenance(folder: Path, *, sealed: bool = False) -> dict[str, Any]:
    """The recorded inputs of a finished experiment; empty without a record, or if it is damaged.

    Raises `SpecialFileError` for a record that is not a regular file.
    """
    files.refuse_special(folder / RECORD)
    try:
        return dict(read_record(folder / RECORD, sealed=sealed).get("provenance", {}))
    except SinkError:
        return {}


def _refuse_foreign(out: Path, chosen: Sequence[str]) -> None:
    """Raise `RunFolderError` if results would replace a file that no experiment wrote."""
    for name in chosen:
        earlier(out / name, name)
    if read_about(out, NAMES):
        return
    for name in (ABOUT, *CLAIMS):
        if (out / name).exists():
            raise RunFolderError(
                f"{str(out)!r} holds {name!r}, which experiments.all did not write",
                "choose another --out, or move it away",
            )


def claims_of(out: Path, model: str, names: Sequence[str] = NAMES) -> pd.DataFrame:
    """One row per verdict of the experiments in a folder, and one per failed experiment.

    Raises `SinkError` for a damaged record.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        path = out / name / RECORD
        if not path.is_file():
            continue
        record = read_record(path)
        told = {"model": model, "experiment": name, "question": record.get("question", "")}
        for role, verdict in _roles(record):
            rows.append(told | {"role": role, "file": f"{name}/{RECORD}"} | verdict)
    return pd.DataFrame(rows, columns=COLUMNS)


def write_claims(table: pd.DataFrame, out: Path) -> None:
    """Write claims.csv, claims.md and claims.html; the last two are for reading."""
    place = RunFolder(out)
    place.write_text("claims.csv", escape_text(table).to_csv(index=False))
    shown = table[["experiment", "claim", "outcome", "why", "value", "low", "high", "n_sinks"]]
    html = shown.to_html(index=False, na_rep="", float_format=rounded)
    style = "<style>body{font-family:sans-serif}td{text-align:left;padding:.3em}</style>"
    page = f'<!doctype html><meta charset="utf-8"><title>Claims</title>{style}{html}'
    place.write_text("claims.html", page)
    head = ["experiment", "claim", "outcome", "why"]
    rows = [[_cell(str(row[name])) for name in head] for row in table.to_dict("records")]
    place.write_text("claims.md", "\n".join(markdown_table(head, rows)) + "\n")


def _run(
    asked: Mapping[str, Mapping[str, Any]],
    observed: Observed,
    out: Path,
    keys: Mapping[str, str],
    say: Say,
) -> None:
    """Run experiments with their options, one after another."""
    for line in prices(asked, observed):
        say(line)
    for number, name in enumerate(asked, start=1):
        start = time.perf_counter()
        try:
            finding: Finding = BY_NAME[name].module.run(observed, **asked[name])
            made = {"key": keys[name], "options": dict(asked[name])}
            write(finding, out / name, observed.record() | made)
            told = in_words(finding.verdict)
        except Exception as error:  # recorded, so that the other experiments still run
            told = _record_failure(out / name, name, error)
        say(f"[{number}/{len(asked)}] {name}: {time.perf_counter() - start:.0f} s: {told}")


def _record_failure(folder: Path, name: str, error: Exception) -> str:
    """Write a record without a key, so that the next start tries again."""
    folder.mkdir(parents=True, exist_ok=True)
    why = f"{type(error).__name__}: {error}"
    record = {"name": name, "question": "", "failed": why, "traceback": traceback.format_exc()}
    write_record(folder, record)
    return f"{FAILED}: {why}"


def _roles(record: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if "failed" in record:
        return [("answer", {"outcome": FAILED, "why": record["failed"], "claim": ""})]
    return [("answer", record["verdict"]), *(("further", one) for one in record["further"])]


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")


def _command(
    *,
    out: Annotated[Path, typer.Option(**NAMED_PATH, help="Folder for all results.")],
    model: ModelOption = "smollm2-135m",
    texts: Annotated[str | None, typer.Option(help="As for `secondary-sinks run`.")] = None,
    only: Annotated[str, typer.Option(help="Names of experiments, separated by commas.")] = "",
    quick: Annotated[bool, typer.Option(help="Skip what recomputes whole texts.")] = False,
    observing: Annotated[
        bool, typer.Option(help="Only experiments without edits; for large models.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="Name of the model in tables. Default: its alias or file.")
    ] = "",
    every: EveryOption = 1,
    max_tokens: MaxTokensOption = None,
    feed: FeedOption = "auto",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option(help="Replace results of other weights or code.")] = False,
) -> None:
    """Every experiment on one model, from one observation pass, and a table of claims."""
    names = split_words("--only", only, SinkError) if only else []
    how: dict[str, Any] = {"quick": quick, "observing": observing, "name": name, "force": force}
    how |= {"every": every, "max_tokens": max_tokens, "feed": feed, "device": device}
    how |= {"dtype": dtype, "seed": seed}
    with RunFolder(out).claim():
        table = run_all(model, texts, out, only=names, say=say, **how)
    say(f"claims: {out / 'claims.html'}")
    if (table["outcome"] == FAILED).any():
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, 1 (an experiment failed), 2 (bad input) or 130."""
    start(_command, "experiments.all", arguments)


if __name__ == "__main__":
    main()
