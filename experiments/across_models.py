"""Which claims hold in which models?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.about import refuse_other_finding
from experiments.command import ForceOption, start
from experiments.shared import Finding
from experiments.written import earlier, in_words, write
from secondary_sinks import Verdict, files
from secondary_sinks.cli import NAMED_PATH, named_path, say
from secondary_sinks.display import count
from secondary_sinks.errors import RunFolderError, SpecialFileError
from secondary_sinks.plots import outcome_map
from secondary_sinks.questions import verdict_of
from secondary_sinks.runs import OUTCOMES, unescape
from secondary_sinks.types import refuse_twice

NAME, QUESTION = "across_models", "Which claims hold in which models?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): secondary sinks, and the way in "
    "which they form, are common to model families."
)
METHOD = (
    "Compares the claims tables that `experiments.all` wrote: one row per experiment, one column "
    "per model, with the numbers behind each cell. Nothing is recomputed. Only the outcomes "
    "supported and contradicted count, and only if at least two models have one of them. Counts "
    "are a description: some verdicts of many are false by chance, so there is no error rate."
)
REFUTATION = "A claim that is supported in one model and contradicted in another."
CLAIM = "what holds in one model holds in the others"
CLAIMS = "claims.csv"
CELLS = ["experiment", "model", "outcome", "claim", "why", "statistic", "value", "low", "high"]
CELLS += ["n_sinks", "n_texts"]
"""Columns kept of an answer: the cell of the map, and the numbers behind it."""
CAPTIONS = {
    "figure": "Outcome of each experiment, by model.",
}


def read_claims(folders: Sequence[Path]) -> pd.DataFrame:
    """The answers of several folders, one row each, with the model.

    Raises `RunFolderError` for a folder without claims, or for a second folder with the same model.
    """
    places = [folder.resolve() for folder in folders]
    refuse_twice("the list of folders", [*map(str, folders)], RunFolderError, places)
    tables: dict[str, pd.DataFrame] = {}
    for folder in folders:
        path = folder / CLAIMS
        try:
            with files.open_file(path) as file:
                rows = pd.read_csv(file, dtype=str, keep_default_na=False, header=None)
            table = rows[1:].set_axis(list(rows.iloc[0].map(unescape)), axis=1).map(unescape)
            refuse_twice(f"the header of {str(path)!r}", [*table.columns], RunFolderError)
            answers = table.loc[table["role"] == "answer"].reindex(columns=CELLS, fill_value="")
            _check(answers)
        except SpecialFileError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{str(folder)!r} has no readable {CLAIMS} of python -m experiments.all ({error})"
            ) from error
        for model, part in answers.groupby("model"):
            if model in tables:
                raise RunFolderError(f"model {model!r} is in two folders", "give one of them")
            tables[str(model)] = part
    return pd.concat(tables.values(), ignore_index=True)


def _check(answers: pd.DataFrame) -> None:
    """Raise `ValueError` for unusable answers."""
    if answers.empty:
        raise ValueError("it has no answers")
    known = {*OUTCOMES, "failed"}
    for outcome in set(answers["outcome"]) - known:
        raise ValueError(f"outcome is {outcome!r:.60}; expected {', '.join(sorted(known))}")
    for _, row in answers[answers.duplicated(["experiment", "model"])].iterrows():
        raise ValueError(f"experiment {row['experiment']!r:.60} appears twice")


def side_by_side(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, one column per model; `agreement` compares the models.

    Only supported and contradicted count: "disagree" if both occur, "agree" if two models or more
    give the same one, otherwise "open". An experiment that a model lacks is missing.
    """
    table = answers.pivot(index="experiment", columns="model", values="outcome")
    decided = table.where(table.isin(["supported", "contradicted"]))
    kinds, number = decided.nunique(axis=1), decided.notna().sum(axis=1)
    agreement = pd.Series("open", index=table.index)
    agreement[(kinds == 1) & (number > 1)] = "agree"
    agreement[kinds > 1] = "disagree"
    return table.assign(agreement=agreement).reset_index()


def run(folders: Sequence[Path]) -> Finding:
    """Compare the claims of several models: table, map and verdict. Raises `RunFolderError`."""
    answers = read_claims(folders)
    table = side_by_side(answers)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=table,
        columns={"experiment": "module of the experiment", "agreement": "agree, disagree, or open"}
        | {str(model): "outcome in this model" for model in table.columns[1:-1]},
        captions=CAPTIONS,
        figure=outcome_map(table.set_index("experiment").drop(columns="agreement")),
        verdict=judge(table),
        tables={"cells": answers},
    )


def made_from(finding: Finding, folders: Sequence[Path]) -> dict[str, Any]:
    """Sources for the record: models and folders."""
    models = ", ".join(map(str, finding.frame.columns[1:-1]))
    asked = {"model": models, "texts": "the texts of each folder"}
    return {"asked": asked, "folders": [str(folder) for folder in folders]}


def judge(table: pd.DataFrame) -> Verdict:
    """Counts of agreements and disagreements: a description, so always inconclusive."""
    found = table["agreement"].value_counts()
    agree, disagree = int(found.get("agree", 0)), int(found.get("disagree", 0))
    apart = ", ".join(table.loc[table["agreement"] == "disagree", "experiment"])
    why = "no experiment has a decided outcome in two models"
    if agree or disagree:
        n_open = int(found.get("open", 0))
        which = f" ({apart})" if disagree else ""
        why = (
            f"models agree in {count(agree, 'experiment')} and disagree in {disagree}{which}; "
            f"{n_open} open; counts are a description, without an error rate"
        )
    statistic = "experiments in which models disagree"
    return verdict_of(CLAIM, "inconclusive", why, None, statistic=statistic, controls="none")


def _command(
    folders: Annotated[
        list[Path],
        typer.Argument(**named_path(), help="Folders that experiments.all wrote."),
    ],
    out: Annotated[
        Path, typer.Option(**NAMED_PATH, help="Folder for the table, the figure and the verdict.")
    ],
    force: ForceOption = False,
) -> None:
    """Compare the claims of several models."""
    finding = run(folders)
    say(finding.frame.to_string(index=False))
    say(in_words(finding.verdict))
    made, before = made_from(finding, folders), earlier(out, NAME).get("provenance", {})
    if not force:
        refuse_other_finding(out, before, made)
    for line in write(finding, out, made):
        say(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, f"experiments.{NAME}", arguments)


if __name__ == "__main__":
    main()
