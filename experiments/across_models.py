"""Which claims hold in which models?

Claim of the paper (Wong et al. 2025, arXiv 2512.22213): secondary sinks, and the way in which they
form, are common to model families.

Method: the claims tables of `experiments.all` side by side, one row per claim of an experiment,
one column per model. Nothing is computed anew; a table is read as it was written.

What would refute it: claims that are supported in one model and contradicted in another.

    python -m experiments.across_models results/qwen3 results/smollm2 --out results/across
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from secondary_sinks.cli import run_app, say
from secondary_sinks.errors import RunFolderError

NAME, QUESTION = "across_models", "Which claims hold in which models?"
CLAIMS = "claims.csv"


def read_claims(folders: Sequence[Path]) -> pd.DataFrame:
    """The answers of several folders, one row each, with the model.

    Raises `RunFolderError` for a folder without claims, or with those of a model that was there.
    """
    tables: dict[str, pd.DataFrame] = {}
    for folder in folders:
        path = folder / CLAIMS
        try:
            table = pd.read_csv(path)
            answers = table.loc[table["role"] == "answer", ["experiment", "model", "outcome"]]
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{str(folder)!r} holds no {CLAIMS} of python -m experiments.all"
            ) from error
        for model, part in answers.groupby("model"):
            if model in tables:
                raise RunFolderError(f"model {model!r} stands in two folders; give one of them")
            tables[str(model)] = part
    return pd.concat(tables.values(), ignore_index=True)


def side_by_side(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, one column per model; `agreement` says whether they agree.

    Only supported and contradicted count: "disagree" where both occur, "agree" where two models or
    more say the same, else "open". An experiment that a model lacks is missing.
    """
    table = answers.pivot(index="experiment", columns="model", values="outcome")
    decided = table.where(table.isin(["supported", "contradicted"]))
    kinds, number = decided.nunique(axis=1), decided.notna().sum(axis=1)
    agreement = pd.Series("open", index=table.index)
    agreement[(kinds == 1) & (number > 1)] = "agree"
    agreement[kinds > 1] = "disagree"
    return table.assign(agreement=agreement).reset_index()


def _command(
    folders: Annotated[list[Path], typer.Argument(help="Folders that experiments.all wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for across.csv.")],
) -> None:
    """Put the claims of several models side by side."""
    table = side_by_side(read_claims(folders))
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "across.csv", index=False)
    say(table.to_string(index=False))
    say(out / "across.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(_command)
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_app(app, words or ["--help"], f"python -m experiments.{NAME}"))


if __name__ == "__main__":
    main()
