"""When in training do secondary sinks arise? One row per checkpoint, in the order given."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.about import refuse_other_finding
from experiments.command import (
    DeviceOption,
    DtypeOption,
    FeedOption,
    ForceOption,
    OutOption,
    SeedOption,
    TextsOption,
    start,
)
from experiments.counted import beside_totals, rates_by, share_of_sinks
from experiments.shared import Finding, Observed, observe_texts, unanswered
from experiments.written import earlier, in_words, write
from secondary_sinks import Verdict
from secondary_sinks.cli import say
from secondary_sinks.detection import counts_for_levels
from secondary_sinks.display import count, rounded
from secondary_sinks.errors import ModelError
from secondary_sinks.models import published_as
from secondary_sinks.plots import interval_dots
from secondary_sinks.questions import judge
from secondary_sinks.runs import RunFolder
from secondary_sinks.types import refuse_twice, split_words

NAME, QUESTION = "checkpoints", "When in training do secondary sinks arise?"
PAPER = (
    "The paper (Wong et al. 2025, arXiv 2512.22213) looks at finished models only. Claim to check: "
    "secondary sinks arise during training."
)
METHOD = (
    "The same texts are observed with several checkpoints of a model, in the order given, and "
    "their sinks are counted. Statistic: of the secondary sinks of the first and of the last "
    "checkpoint, the share of the last, mean over texts; one half means as many. Where "
    "the last has no more sinks in all texts together, though more in most, or the other way "
    "round, the verdict is open. A secondary sink "
    "is secondary to a primary, so only texts with a primary at both checkpoints count: "
    "without one, a checkpoint has no secondary sink by definition. Rates have approximate "
    "intervals, used in no verdict. Sinks that copy one of an earlier text are left out."
)
REFUTATION = "As many secondary sinks, or more, at the first checkpoint, in texts with a primary."
CLAIM = (
    "secondary sinks arise in training: of texts with a primary at the first and the last "
    "checkpoint, the last has more secondary sinks"
)
COLUMNS = {
    "checkpoint": "name of the model, with its revision",
    "text_id": "text",
    "n_tokens": "number of tokens",
    "n_primary": "primary sinks",
    "n_sinks": "secondary sinks, without copies of sinks in earlier texts",
}
CAPTIONS = {
    "figure": "Secondary sinks per 10,000 tokens by checkpoint, in the order given; whiskers: "
    "about 95 % over texts."
}
LEAST = 2
"""Least number of checkpoints."""


def named(models: Sequence[str], revisions: str | None) -> list[str]:
    """The checkpoints by name: the models, or one model at each of its revisions.

    Raises `ModelError` for fewer than two, the same twice, and revisions of several models.

    >>> named(["EleutherAI/pythia-70m"], "step1000, step143000")
    ['EleutherAI/pythia-70m@step1000', 'EleutherAI/pythia-70m@step143000']
    """
    found = list(models)
    if revisions is not None:
        if len(found) != 1:
            raise ModelError(f"--revision is for one model, got {found}", "write MODEL@REVISION")
        found = [f"{found[0]}@{one}" for one in split_words("--revision", revisions, ModelError)]
    refuse_twice("the list of checkpoints", found, ModelError)
    if len(found) < LEAST:
        raise ModelError(
            f"got {len(found)} checkpoint: {', '.join(found)}",
            "expected several models, or one with --revision A,B,C",
        )
    return found


def run(checkpoints: Iterable[tuple[str, Observed]]) -> Finding:
    """Count the sinks of every checkpoint, given with its name; one model is in memory at a time.

    Raises `ModelError` for checkpoints that tokenize a text differently.
    """
    rows: list[dict[str, Any]] = []
    fed: dict[str, list[int]] = {}
    for name, observed in checkpoints:
        for trace in observed.traces:
            _refuse_other_tokens(fed, name, trace.text_id, trace.tokens.tolist())
            sinks = observed.sinks.of_text(trace.text_id).sinks
            rows.append(
                {
                    "checkpoint": name,
                    "text_id": trace.text_id,
                    "n_tokens": len(trace.tokens),
                    "n_primary": sum(sink.kind == "primary" for sink in sinks),
                    "n_sinks": sum(map(counts_for_levels, sinks)),
                }
            )
        del observed  # its model, before the next one is loaded
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if not frame["n_sinks"].any():
        return unanswered(NAME, QUESTION, CLAIM, "no checkpoint has a secondary sink", COLUMNS)
    rates = rates_by(frame, "checkpoint")
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_dots(rates, "secondary sinks per 10,000 tokens", line=None),
        verdict=_verdict(frame, rates),
        tables={"rates": rates.rename(columns={"row": "checkpoint"}).drop(columns="series")},
    )


def _refuse_other_tokens(
    fed: dict[str, list[int]], name: str, text_id: str, tokens: list[int]
) -> None:
    if fed.setdefault(text_id, tokens) != tokens:
        raise ModelError(
            f"{name!r} has other tokens for text {text_id!r} than the first checkpoint",
            "expected checkpoints of one model, with the same tokenizer",
        )


def _verdict(frame: pd.DataFrame, rates: pd.DataFrame) -> Verdict:
    """Whether texts with a primary at both have more sinks at the last checkpoint than the first.

    `left_out` counts the sinks, of both checkpoints, in texts without a primary at one of them.
    """
    names = list(dict.fromkeys(frame["checkpoint"]))
    first, last = (
        frame[frame["checkpoint"] == name].set_index("text_id") for name in (names[0], names[-1])
    )
    begun, ended = first["n_primary"] > 0, last["n_primary"] > 0
    both, n_sinks = begun & ended, first["n_sinks"] + last["n_sinks"]
    here, there = (part.loc[both, "n_sinks"].to_numpy(dtype=int) for part in (last, first))
    told = ", ".join(
        f"{name}: {rounded(rate)}" for name, rate in zip(rates["row"], rates["value"], strict=True)
    )
    found = share_of_sinks(here, there, both.index[both].to_series())
    outcome, why_open = beside_totals(found, here.sum(), there.sum())
    why = (
        f"secondary sinks per 10,000 tokens by checkpoint: {told}; {both.sum()} of "
        f"{count(len(both), 'text')} have a primary at both checkpoints"
    )
    return judge(
        CLAIM,
        found,
        "; ".join(filter(None, [why, why_open])),
        outcome=outcome,
        statistic="share of the secondary sinks of both checkpoints that are of the last",
        controls=f"the first checkpoint, {names[0]}",
        left_out={
            "in texts without a primary at the first checkpoint": int(n_sinks[~begun].sum()),
            "in texts with one at the first checkpoint alone": int(n_sinks[begun & ~ended].sum()),
        },
        controlled=False,
    )


def _command(
    models: Annotated[
        list[str], typer.Argument(help="Checkpoints: folders, or MODEL@REVISION; or one model.")
    ],
    out: OutOption,
    revision: Annotated[
        str | None, typer.Option(help="Revisions of the one model, in order: A,B,C.")
    ] = None,
    texts: TextsOption = None,
    feed: FeedOption = "auto",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Count the secondary sinks of several checkpoints of a model."""
    names, records = named(models, revision), []
    for name in names:
        published_as(name)  # an unknown one is refused before the first is loaded
    options: dict[str, Any] = {"feed": feed, "device": device, "dtype": dtype, "seed": seed}

    def each() -> Iterable[tuple[str, Observed]]:
        for number, name in enumerate(names, start=1):
            say(f"checkpoint {number} of {len(names)}: {name}")
            observed = observe_texts(name, texts, **options, say=say)
            records.append(observed.record())
            if number <= len(before.get("checkpoints", ())):
                refuse_other_finding(out, before["checkpoints"][number - 1], records[-1])
            yield name, observed
            del observed

    asked = {"model": ", ".join(names), "texts": texts, **options}
    with RunFolder(out).claim():
        found = earlier(out, NAME).get("provenance", {})
        before = {} if force else found
        refuse_other_finding(out, before, {"asked": asked})
        finding = run(each())
        command = shlex.join(["python", "-m", f"experiments.{NAME}", *sys.argv[1:]])
        made = {"asked": asked, "checkpoints": records, "command": command}
        for line in (in_words(finding.verdict), *write(finding, out, made)):
            say(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, f"experiments.{NAME}", arguments)


if __name__ == "__main__":
    main()
