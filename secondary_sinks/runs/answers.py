"""Answers to causal questions in a run folder: question names, writing and reading."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from secondary_sinks.errors import QuestionError
from secondary_sinks.questions import Answer
from secondary_sinks.questions.circuit import CIRCUIT, WITH_EDGES, join_edges
from secondary_sinks.runs.folder import ANSWERS, RunFolder
from secondary_sinks.types import Verdict, format_layers
from secondary_sinks.types.lists import split_words


def parse_questions(words: str) -> tuple[str, ...]:
    """Question names in the order in which they are asked; `words` is "all", "none" or a list.

    "circuit" in a list stands for the parts of the circuit. Raises `QuestionError` for an unknown
    name, and for a repeated one.

    >>> parse_questions("harm, necessity"), parse_questions("none")
    (('necessity', 'harm'), ())
    """
    known = f"all, none or some of circuit, {', '.join(ANSWERS)}"
    named = split_words("--ask", words, QuestionError, known)
    if "circuit" in named:
        named = [*named, *(part.name for part in CIRCUIT)]
        named.remove("circuit")
    if named in (["all"], ["none"]):
        return tuple(ANSWERS) if named == ["all"] else ()
    if not set(named) <= set(ANSWERS):
        raise QuestionError(
            f"unknown question in --ask: got {words!r:.200}",
            f"expected {known} with commas between",
        )
    return tuple(name for name in ANSWERS if name in named)


def write_answers(folder: RunFolder, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Write the tables of the answers and return their entries for `run.json`."""
    for answer in answers:
        for name, table in _tables(answer).items():
            folder.write_table(f"{answer.question}.{name}", _plain(table))
    return [
        {
            "question": answer.question,
            "verdicts": [asdict(verdict) for verdict in answer.verdicts],
            "tables": list(_tables(answer)),
            "left_out": dict(answer.left_out),
            "n_censored": answer.n_censored,
        }
        for answer in answers
    ]


def add_answer(
    folder: RunFolder, record: dict[str, Any], answer: Answer, seconds: float, command: str
) -> dict[str, Any]:
    """Add an answer to a finished run, rewrite its `run.json`, and return the new record."""
    both = [*record.get("answers", []), *write_answers(folder, [answer])]
    if answer.question in WITH_EDGES:
        rows = [row for row in both if row["question"] in WITH_EDGES]
        edges = join_edges({row["question"]: _read(folder, row) for row in rows})
        folder.write_table("circuit", edges)
    ordered = sorted(both, key=lambda one: list(ANSWERS).index(one["question"]))
    record = record | {
        "command": command,
        "asked": [one["question"] for one in ordered],
        "answers": ordered,
        "timings_s": record["timings_s"] | {answer.question: seconds},
    }
    folder.write_record(record)
    return folder.record()


def read_answers(folder: RunFolder) -> dict[str, Answer]:
    """Answers of a run by question name; empty if no question was asked.

    Raises `RunFolderError` when a table is missing or damaged.
    """
    return {row["question"]: _read(folder, row) for row in folder.record().get("answers", [])}


def _read(folder: RunFolder, row: Mapping[str, Any]) -> Answer:
    tables = {name: folder.table(f"{row['question']}.{name}") for name in row["tables"]}
    return Answer(
        question=row["question"],
        cells=tables.pop("cells"),
        effects=tables.pop("effects"),
        verdicts=tuple(Verdict(**verdict) for verdict in row["verdicts"]),
        tables=tables,
        left_out=row["left_out"],
        n_censored=row["n_censored"],
    )


def _tables(answer: Answer) -> dict[str, pd.DataFrame]:
    return {"cells": answer.cells, "effects": answer.effects, **answer.tables}


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with tuples of layers written as text, which every Parquet reader supports."""
    words: dict[str, Any] = {
        str(name): [
            format_layers(cell) if isinstance(cell, tuple) else cell for cell in table[name]
        ]
        for name in table
        if any(isinstance(cell, tuple) for cell in table[name])
    }
    return table.assign(**words)
