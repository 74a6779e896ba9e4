"""The input of every experiment (`Observed`) and its result (`Finding`).

    observed = observe_texts("smollm2-135m", "my.jsonl")  # one observation pass, for all of them
    finding = norms.run(observed)
    finding.verdict.outcome, finding.frame, finding.figure

A module of `experiments` is a function `run(observed) -> Finding`; keyword-only parameters of it,
annotated for typer, become options of its command line (`experiments.command`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch

from experiments.sample import sample_of
from secondary_sinks import SinkTable, Trace, Verdict, bundled_corpus, load_model, read_texts
from secondary_sinks.models import HookedModel, published_as
from secondary_sinks.plots import message_figure
from secondary_sinks.questions import MatchedPair, TextPairs, match_pairs, sum_counts, verdict_of
from secondary_sinks.runs import describe, fed_first, observe_all
from secondary_sinks.statistics import too_few
from secondary_sinks.texts import Text, TokenizedText, as_fed_first, check_feed, tokenize

SECONDS = 30.0
"""Seconds between two lines of progress."""


def quiet(line: str) -> None:
    """Print nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A model, and the observations of some texts."""

    model: HookedModel
    texts: tuple[TokenizedText, ...]
    traces: tuple[Trace, ...]
    sinks: SinkTable
    """Sinks by the joint criterion."""
    name: str
    """Short name of the model."""
    seed: int = 0
    """Random seed of the experiments."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `observe_texts`."""
    file: Mapping[str, str] = field(default_factory=dict)
    """Where the model is from (`published_as`)."""
    folder: Path | None = None
    """Where an experiment keeps finished parts of long work, to resume it; None: nowhere."""
    say: Callable[[str], None] = quiet
    """Called with lines about the progress of a long experiment."""

    @property
    def cases(self) -> list[TextPairs]:
        """The secondary sinks that can be tested, by text, with their controls; without copies."""
        return match_pairs(self.traces, self.sinks, ("secondary",))

    @property
    def left_out(self) -> dict[str, int]:
        """Number of secondary sinks that are not among the cases, by reason."""
        return sum_counts(*(text.left_out for text in self.cases))

    def kept(self, name: str) -> Path | None:
        """The file in `folder` in which an experiment keeps answers, to go on where it stopped."""
        return None if self.folder is None else self.folder / f"{name}.answers.jsonl"

    @property
    def n_layers(self) -> int:
        """Number of layers of the model."""
        return int(self.model.cfg.n_layers)

    def trace(self, text_id: str) -> Trace:
        """The trace of a text."""
        return next(trace for trace in self.traces if trace.text_id == text_id)

    def pairs(self) -> list[tuple[Trace, MatchedPair]]:
        """Every case with the trace of its text."""
        return [(text.trace, case) for text in self.cases for case in text.cases]

    def progress(self, what: str, noun: str = "texts") -> Callable[[int, int], None]:
        """Progress callback for causal questions; reports texts done every half minute."""
        last = time.monotonic()

        def tell(done: int, whole: int) -> None:
            nonlocal last
            if time.monotonic() - last > SECONDS and done < whole:
                self.say(f"{what}: {done} of {whole} {noun}")
                last = time.monotonic()

        return tell

    def again(self, model_name: str) -> "Observed":
        """Observe the same texts with another model. Only for results of `observe_texts`."""
        return observe_texts(model_name, **self.asked, seed=self.seed)

    def record(self) -> dict[str, Any]:
        """Everything that determined the numbers, and `sample_of` these texts."""
        inputs = describe(self.model, self.texts, self.sinks.thresholds, None, self.seed)
        asked = {"model": self.name, **self.file, **self.asked}
        return {"asked": asked, "sample": sample_of(self.traces, self.sinks), **inputs}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """A model and tokenized texts, not observed yet."""

    model: HookedModel
    texts: tuple[TokenizedText, ...]
    name: str
    """Short name of the model."""
    asked: Mapping[str, Any]
    """Further arguments of `observe_texts`."""
    file: Mapping[str, str] = field(default_factory=dict)
    """Where the model is from (`published_as`)."""


def _recorded(record: Mapping[str, Any]) -> TokenizedText:
    """A text as its record says it was fed; what the record lacks is empty."""
    words = ("text_id", "feed", "fed", "text_sha256", "tokenizer_sha256", "template_sha256")
    tokens = torch.tensor(record["token_ids"], dtype=torch.long)
    return TokenizedText(tokens=tokens, **{word: str(record.get(word, "")) for word in words})


def load_texts(
    model_name: str,
    texts: str | None = None,
    *,
    feed: str = "auto",
    device: str | None = None,
    dtype: str | None = None,
    every: int = 1,
    max_tokens: int | None = None,
    before: Mapping[str, Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = quiet,
) -> Loaded:
    """Load a model and tokenize the texts of a file (by default the bundled ones).

    With `every` = k, only the 1st, (k+1)th, (2k+1)th, ... text is taken; with `max_tokens`, only
    the first tokens of each.

    `before` are records of texts as they were first fed, by id. If a chat template gives other
    token ids today, the stored ids are used, and `say` reports it. Raises the errors of
    `observe_texts`.
    """
    check_feed(feed)
    found = texts_of(texts, every, max_tokens)
    model = load_model(model_name, device, dtype)
    fed, known = [], {name: _recorded(record) for name, record in (before or {}).items()}
    for text in found:
        now = tokenize(text, model.tokenizer, feed)
        fed.append(as_fed_first(now, known.get(text.text_id)))
        if fed[-1].ids != now.ids:
            say(fed_first(text.text_id))
    file = published_as(model_name)
    asked: dict[str, Any] = {"texts": texts, "feed": feed, "device": device, "dtype": dtype}
    asked |= {"every": every} if every > 1 else {}
    asked |= {"max_tokens": max_tokens} if max_tokens else {}
    name = file.pop("name")
    return Loaded(model=model, texts=tuple(fed), name=name, asked=asked, file=file)


def texts_of(texts: str | None, every: int = 1, max_tokens: int | None = None) -> list[Text]:
    """Every k-th text of a file (by default the bundled ones), with its first tokens or all."""
    found = list(bundled_corpus() if texts is None else read_texts(texts))[::every]
    return [replace(text, first=max_tokens) for text in found] if max_tokens else found


def observe_texts(
    model_name: str,
    texts: str | None = None,
    *,
    seed: int = 0,
    say: Callable[[str], None] = quiet,
    **how: Any,
) -> Observed:
    """Load a model and observe the texts of a file (by default the bundled ones).

    `how` are further options of `load_texts`: feed, device, dtype, every and max_tokens. Raises the
    `SinkError` of whatever is wrong with the texts, the model or the options; texts are read before
    the model is loaded.
    """
    return observe_loaded(load_texts(model_name, texts, say=say, **how), seed, say)


def observe_loaded(loaded: Loaded, seed: int, say: Callable[[str], None] = quiet) -> Observed:
    """Observe a loaded model and its texts."""
    more: dict[str, Any] = {"name": loaded.name, "asked": loaded.asked, "file": loaded.file}
    return observe_fed(loaded.model, loaded.texts, seed=seed, say=say, **more)


def observe_fed(
    model: HookedModel,
    texts: Sequence[TokenizedText],
    *,
    name: str = "",
    seed: int = 0,
    asked: Mapping[str, Any] | None = None,
    file: Mapping[str, str] | None = None,
    say: Callable[[str], None] = quiet,
) -> Observed:
    """Observe tokenized texts with a model that is already loaded."""
    traces, sinks = observe_all(model, texts)
    return Observed(
        model=model,
        texts=tuple(texts),
        traces=traces,
        sinks=sinks,
        name=name or model.cfg.model_name,
        seed=seed,
        asked=asked or {},
        file=file or {},
        say=say,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finding:
    """The answer to one question: data, figure, and one verdict."""

    name: str
    """Question of the module."""
    question: str
    frame: pd.DataFrame
    """Tidy data behind the figure."""
    columns: Mapping[str, str]
    """Meaning and unit of each column of the frame."""
    figure: go.Figure
    verdict: Verdict
    """The verdict that answers the question."""
    further: tuple[Verdict, ...] = ()
    """Further verdicts."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, by name."""
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    """Further figures, by name."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """Captions of all figures by name; that of `figure` is "figure"."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts; the one that answers the question is first."""
        return (self.verdict, *self.further)


def unanswered(
    name: str, question: str, claim: str, why: str, columns: Mapping[str, str]
) -> Finding:
    """The finding to return if there is no data; figure and verdict say why."""
    return Finding(
        name=name,
        question=question,
        frame=pd.DataFrame(columns=list(columns)),
        columns=columns,
        figure=message_figure(why),
        verdict=verdict_of(claim, "inconclusive", why, None, statistic="none", controls="none"),
    )


def sink_columns(case: MatchedPair) -> dict[str, Any]:
    """The first columns of a table with one row per tested sink."""
    own = case.sink.fields("text_id", "pos", "token", "l_start")
    return own | {"control_pos": case.control, "control_kind": case.kind}


def places(rows: pd.DataFrame) -> "pd.Series[str]":
    """Token, position and text of each row, as figures show them."""
    return rows["token"] + " at " + rows["pos"].astype(str) + " in " + rows["text_id"]


def why_no_sinks(observed: Observed) -> str:
    """Why no secondary sink can be tested; empty if one can."""
    return "" if observed.pairs() else too_few(0, 0, observed.left_out)
