"""Results of `experiments.all` as pages: one per question and model, an index, and all claims.

    python -m experiments.pages runs/results/smollm2-135m --out docs/results

The pages of a model are in a folder of its name, and the table of claims x models, of all folders,
in index.md above them. The content of a page has two sources only. Question, claim of the paper,
method and refutation are constants of the module. Every number comes from the verdict.json of the
experiment, copied to data/NAME with its tables if they are small; each number is followed by its
file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.claims_table import read_models, write_claims_page
from experiments.command import start
from experiments.copied import copy_results, model_of, records_of
from experiments.looked_at import table_of
from experiments.made import code_in_words, command_of, model_in_words, own_command, texts_in_words
from experiments.recorded import (
    EARLIER,
    RECORD,
    UNTESTABLE,
    is_superseded,
    read_record,
    shown_outcome,
)
from experiments.table import BY_NAME
from secondary_sinks import files
from secondary_sinks.cli import NAMED_PATH, say
from secondary_sinks.detection import middle_layers
from secondary_sinks.display import count, markdown_table, rounded
from secondary_sinks.questions import EDITS
from secondary_sinks.runs import RunFolder
from secondary_sinks.types import join_words

FAILED = "The experiment **failed**, so nothing is claimed."
TALLIED = {
    "supported": "supported",
    "contradicted": "**contradicted**",
    "inconclusive": "inconclusive",
    UNTESTABLE: "**not testable** (no statistic could be computed)",
}
"""Outcomes in the order of a page's first sentence."""
KINDS = {edit.partition(":")[0] for edit in EDITS}
"""Ways to ablate by their first word: `mean:twins` and `resample:0` are "mean" and "resample"."""
CONTENTS = re.compile(r"(  - Results:\n)(?:      .*\n)*")
SECTIONS = ("What the paper says", "What we did", "What would change our mind")


def write_pages(out: Path) -> list[Path]:
    """Write the index, and a page for every experiment in `out`/data."""
    records = records_of(out / "data")
    pages = {name: page_of(name, out / "data" / name) for name in records}
    pages["index"] = index_of(records, out / "data")
    for name, page in pages.items():
        RunFolder(out).write_text(f"{name}.md", page)
    return [out / f"{name}.md" for name in pages]


def page_of(name: str, folder: Path) -> str:
    """The page of one experiment, from its module and its folder."""
    question, paper, method, refutation = BY_NAME[name].said().values()
    record = read_record(folder / RECORD)
    source = f"data/{name}/{RECORD}"
    parts = [
        f"# {question}",
        *_computed_before(record),
        _section(SECTIONS[0], paper),
        _section(SECTIONS[1], method),
    ]
    parts.append("## What we found\n\n" + _found(record, source))
    parts += _ablations(folder)
    captions = record.get("captions", {})
    parts += [_picture(path, name, captions) for path in sorted(folder.glob("*.png"))]
    tables = [f"[{path.name}](data/{name}/{path.name})" for path in sorted(folder.glob("*.csv*"))]
    if tables:
        parts.append(f"Tables: {', '.join(tables)}.")
    if record.get("not_copied"):
        words = ", ".join(record["not_copied"])
        parts.append(f"Too large for these pages: {words}. The command below makes them.")
    parts += [_section(SECTIONS[2], refutation), _made(record, name)]
    return "\n\n".join(parts) + "\n"


def index_of(found: Mapping[str, Mapping[str, Any]], data: Path) -> str:
    """The table of all questions of a model, with links."""
    records, rows = list(found.values()), []
    for name, record in found.items():
        outcome, numbers = "failed", ""
        if "failed" not in record:
            verdict = record["verdict"]
            outcome = EARLIER if is_superseded(record) else shown_outcome(verdict)
            numbers = numbers_of(verdict) or _escape(verdict["why"])
        rows.append((f"[{BY_NAME[name].said()['QUESTION']}]({name}.md)", outcome, numbers))
    head = ["question", "outcome", "in numbers, or why there are none"]
    parts = [
        f"# Results: {model_of([data])}",
        _over(records),
        *_depth(records, data),
        "\n".join(markdown_table(head, rows)),
        "The verdict on a page answers its question; further ones stand beside it. Every number is "
        "copied from the `verdict.json` that the page links to. `make results` makes all again.",
    ]
    return "\n\n".join(parts) + "\n"


def listed(site: str, results: Path) -> str:
    """The settings of the site, with all pages of results in its contents below `Results:`."""
    lines = [f"      - {results.name}/index.md"]
    for name, records in read_models(results).items():
        pages = [f"{results.name}/{name}/{page}.md" for page in ("index", *records)]
        lines += [f"      - {name}:", *(f"          - {page}" for page in pages)]
    return CONTENTS.sub(lambda found: found[1] + "\n".join(lines) + "\n", site)


def _computed_before(record: Mapping[str, Any]) -> list[str]:
    """What has changed in the method since these numbers, if the record says so."""
    if not is_superseded(record):
        return []
    return [
        "**Computed before a change of the method.** "
        f"{_escape(record['computed_before'])} The numbers below are "
        "those of the commit that is named at the end; `make results` makes this page anew."
    ]


def numbers_of(verdict: Mapping[str, Any]) -> str:
    """Value and interval of a verdict; empty if it has none."""
    if verdict["value"] is None:
        return ""
    interval = ""
    if verdict["low"] is not None:
        interval = f" [{rounded(verdict['low'])}, {rounded(verdict['high'])}]"
    nouns = verdict.get("counted", "sink"), verdict.get("grouped", "text")
    sample = ", ".join(map(count, (verdict["n_sinks"], verdict["n_texts"]), nouns))
    number = f"{rounded(verdict['value'])}{interval}"
    return f"{_escape(verdict['statistic'])}: {number}; {_escape(sample)}"


def _found(record: Mapping[str, Any], source: str) -> str:
    if "failed" in record:
        return f"{FAILED} {_escape(record['failed'])} ([file]({source}))"
    rows = [
        (_escape(one["claim"]), shown_outcome(one), numbers_of(one), _escape(one["why"]))
        for one in (record["verdict"], *record["further"])
    ]
    table = "\n".join(markdown_table(["claim", "outcome", "in numbers", "why"], rows))
    confidence = f"{record['verdict']['confidence']:.0%}"
    tallied = ""
    if not is_superseded(record):
        tallied = _tally([outcome for _, outcome, *_ in rows]) + "\n\n"
    return (
        f"{tallied}{table}\n\n"
        f"In brackets: {confidence} intervals over texts. All numbers: [{source}]({source})."
    )


def _tally(outcomes: Sequence[str]) -> str:
    """How many claims have which outcome, in a sentence."""
    if len(outcomes) == 1:
        return f"The claim below is {TALLIED[outcomes[0]]}."
    if len(set(outcomes)) == 1:
        return f"The {len(outcomes)} claims below are {TALLIED[outcomes[0]]}."
    counts = [
        f"{n} {'is' if n == 1 else 'are'} {words}"
        for outcome, words in TALLIED.items()
        if (n := outcomes.count(outcome))
    ]
    return f"Of the {len(outcomes)} claims below, {join_words(counts)}."


def _ablations(folder: Path) -> list[str]:
    """Which ways to ablate were used, by the tables of an experiment; nothing where none was."""
    paths = sorted(folder.glob("*.csv*"))
    tables = [table_of(path, usecols=lambda name: name == "edit") for path in paths]
    edits = [str(edit) for table in tables if table is not None for edit in table.get("edit", ())]
    used = [edit for edit in dict.fromkeys(edits) if edit.partition(":")[0] in KINDS]
    words = ", ".join(f"`{edit}`" for edit in used)
    return (
        [f"Ways to ablate that were used (column `edit` of the tables): {words}."] if used else []
    )


def _picture(path: Path, name: str, captions: Mapping[str, str]) -> str:
    """A picture, which links to itself at full size, with its caption below."""
    words, place = _escape(captions.get(path.stem, "")), f"data/{name}/{path.name}"
    picture = f"[![{words or path.stem}]({place})]({place})"
    return picture + (f"\n\n*{words}*" if words else "")


def _made(record: Mapping[str, Any], name: str) -> str:
    """What made the numbers of a page: model, texts, code and command."""
    made = record.get("provenance", {})
    options = made.get("options") or {}
    words = ", ".join(f"{key} = {value}" for key, value in options.items())
    command = f"`{command_of(made)}`, here `experiments.{name}`"
    command += f" with {_escape(words)}" if words else ""
    if options and options != dict(BY_NAME[name].quick):  # which experiments.all does not give
        command = f"`{own_command(name, made)}`"
    lines = [
        f"Model: {_escape(model_in_words(made))}",
        f"Texts: {_escape(texts_in_words(made))}",
        f"Code: {_escape(code_in_words(made))}",
        f"Command: {command}",
    ]
    return "## What made this\n\n" + "\n".join(f"- {line}" for line in lines)


def _over(records: Sequence[Mapping[str, Any]]) -> str:
    """What made the pages of a model: each choice of texts, each version of the code."""
    made = [record.get("provenance", {}) for record in records]
    lines = [
        f"- {what}: {_escape('; '.join(dict.fromkeys(map(words, made))))}"
        for what, words in (
            ("Model", model_in_words),
            ("Texts", texts_in_words),
            ("Code", code_in_words),
        )
    ]
    commands = dict.fromkeys(f"`{command_of(one)}`" for one in made if "asked" in one)
    lines.append(f"- Command: {'; '.join(commands)}")
    lines.append("- [All claims, in all models](../index.md)")
    return "\n".join(lines)


def _depth(records: Sequence[Mapping[str, Any]], data: Path) -> list[str]:
    """Where the sinks arise; mentioned if it is not the middle layers that the paper describes."""
    column, source = "l_start", "data/sink_levels/data.csv"
    cells = table_of(data.parent / source, usecols=[column], dtype={column: "int64"})
    layers = [
        one["provenance"]["model"]["n_layers"]
        for one in records
        if "model" in one.get("provenance", {})
    ]
    if cells is None or cells.empty or not layers:
        return []
    first, last, n_layers = int(cells["l_start"].min()), int(cells["l_start"].max()), layers[0]
    where = f"layer {first}" if first == last else f"layers {first} to {last}"
    low, high = middle_layers(n_layers)
    middle = low <= first and last <= high
    words = "in the middle, as the paper says" if middle else "**not in middle layers**"
    return [
        f"Secondary sinks of this model arise at {where} of {n_layers} ([file]({source})), {words} "
        f"(the middle third is {low} to {high}). What a page says of the layer that forms them is "
        "said of that layer."
    ]


def _section(title: str, words: str) -> str:
    return f"## {title}\n\n{words}"


def _escape(words: str) -> str:
    """Text with all Markdown characters escaped."""
    plain = " ".join(words.split())
    return "".join(f"\\{char}" if char in r"\`*_[]<>|" else char for char in plain)


def _command(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="The folder that experiments.all wrote; or several, with other experiments of the "
            "same model on other texts."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            **NAMED_PATH, help="Folder for the claims of all models, and a folder per model."
        ),
    ],
    site: Annotated[
        Path | None,
        typer.Option(**NAMED_PATH, help="mkdocs.yml, whose contents then list all these pages."),
    ] = None,
) -> None:
    """Write the results of experiments.all as pages."""
    folder = out / model_of(results)
    for large in copy_results(results, folder):
        say(f"{large}: too large for the pages, left out and named on its page")
    for path in [*write_pages(folder), write_claims_page(out)]:
        say(path)
    if site is not None:
        RunFolder(site.parent).write_text(site.name, listed(files.read_text(site), out))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, "experiments.pages", arguments)


if __name__ == "__main__":
    main()
