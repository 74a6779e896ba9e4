"""`run` and `detect`: a sweep of one model, then questions about the sinks that it found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from secondary_sinks.detection import detect
from secondary_sinks.errors import SweepError, TextError
from secondary_sinks.memory import free_bytes
from secondary_sinks.models import HookedModel
from secondary_sinks.numbers import true_or_false
from secondary_sinks.observation import CachedPass, observe
from secondary_sinks.questions import Answer, family_of, n_claims_of, roles
from secondary_sinks.runs import about
from secondary_sinks.runs.answers import add_answer
from secondary_sinks.runs.ask import ask, price
from secondary_sinks.runs.folder import ANSWERS, WORK, RunFolder
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.executors import Executor, InProcess, loader_of
from secondary_sinks.sweeps.output import Additions
from secondary_sinks.sweeps.sweep import Summary, Sweep, Tell
from secondary_sinks.sweeps.tasks import ModelSpec, Prepared, Task
from secondary_sinks.texts import Text, TokenizedText
from secondary_sinks.texts.many_files import refuse_same_ids
from secondary_sinks.types import SinkTable, Trace

KEPT_IN_ALL, FREE_PER_KEPT = 2 * 10**9, 3
"""Largest size in bytes of all clean passes together that stay in memory until roles are found, and
how much more memory must then be free for the work on other texts: three times their size."""
Command = Callable[[Sequence[str]], str]
"""Builds a command line that asks for a run with these questions."""


def run(
    config: SweepConfig,
    out: str | Path,
    *,
    asked: Sequence[str] = (),
    models: Mapping[str, Any] | None = None,
    texts: Sequence[Text | TokenizedText] | None = None,
    force: bool = False,
    command: Command = lambda asked: "",
    say: Callable[[str], None] = lambda line: None,
    tell: Tell | None = None,
) -> Summary:
    """Find the sinks of one model, make the edits of the config, find roles, ask the questions.

    Each text is stored as soon as it is done: the same call resumes an interrupted run, and adds
    answers that a finished run lacks. `texts` replace the files of the config, `models` its model.
    Raises the error of whatever is wrong with the config, the model or a text; `SweepError` for a
    text that cannot be computed; `RunFolderError` for a folder that holds anything else, unless
    `force` replaces the run in it.
    """
    config = replace(config, pooled=True)
    config.check(models or ())
    true_or_false("force", force, SweepError)
    given = config.read() if texts is None else list(texts)
    refuse_same_ids(given)
    executor = InProcess() if models is None else InProcess(loader_of(models))
    folder = RunFolder(out)
    if not folder.has_record() and not (folder.path / WORK).is_dir():
        folder.check(force=force)  # before anything is written there
    with folder.claim():
        work = Run(config, folder, given, force, tell, asked=asked, command=command, say=say)
        try:
            return work.run(executor)
        finally:
            executor.close()


class Run(Sweep):
    """One call of `run`, with its folder claimed."""

    def __init__(
        self,
        config: SweepConfig,
        folder: RunFolder,
        texts: Sequence[Text | TokenizedText],
        force: bool,
        tell: Tell | None,
        *,
        asked: Sequence[str],
        command: Command,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(config, folder, texts, force, command(asked), tell)
        self.asked, self.command_for, self.say = asked, command, say
        self.traces: dict[str, Trace] = {}
        """Traces of the texts observed in this call, by task."""
        self.kept: dict[str, CachedPass] = {}
        """Passes of some of them, as many as fit in `KEPT_IN_ALL` bytes, by task; for the roles."""
        self.observed: tuple[list[Trace], SinkTable] | None = None

    def run(self, executor: Executor) -> Summary:
        """Write the tables, then the missing answers."""
        assert isinstance(executor, InProcess)
        if self._has_roles or self._asked:
            executor.seen = self._keep
        summary = super().run(executor)
        there = self.folder.record()["asked"]
        missing = [name for name in self._asked if name not in there]
        if missing:
            self._ask(executor, missing)
        return replace(summary, nothing_to_do=summary.nothing_to_do and not missing)

    @property
    def _asked(self) -> list[str]:
        """Questions of this call plus those that a finished run answered before."""
        before = () if self.force else self.finished.record.get("asked", ())
        return [name for name in ANSWERS if name in {*self.asked, *before}]

    @property
    def _has_roles(self) -> bool:
        """Whether anything is edited, so that roles can be found."""
        return bool({*self.config.edits} - {"none"})

    def _keep(self, task: Task, trace: Trace, kept: CachedPass | None) -> None:
        self.traces[task.key] = trace
        if kept and self._has_roles:
            size = kept.n_bytes + sum(one.n_bytes for one in self.kept.values())
            free = free_bytes(str(kept.model.cfg.device))
            if size <= KEPT_IN_ALL and (free is None or FREE_PER_KEPT * size <= free):
                self.kept[task.key] = kept

    def _refuse_texts(self, prepared: Prepared) -> None:
        """Raise `TextError` for the first text that cannot be fed."""
        if prepared.bad:
            raise TextError(prepared.bad[0].reason)

    def _prepared_before(self, spec: ModelSpec) -> Prepared | None:
        """The one model of the run, whatever its name was."""
        models = self.stored.models if self.stored else ()
        return next((prepared for _, prepared in models), None)

    def _is_done(self) -> bool:
        if self.force:
            return False
        done = super()._is_done()
        if not done and self.finished.record and not self.finished.complaints:
            devices = self.finished.record["device"], self.plans[0].prepared.device
            raise self.finished.other(about.describe_change("device", *devices))
        return done

    def _write(self, executor: Executor) -> dict[str, Any]:
        assert isinstance(executor, InProcess)
        if self.failed:
            raise SweepError(
                f"{len(self.failed)} of {len(self.plans[0].tasks)} texts could not be computed, "
                f"such as {self.failed[0]}",
                "the others are kept: rerun the same command to try again",
            )
        self.tell("tables", folder=str(self.folder.path))
        added = Additions()
        if self._has_roles:
            begin = time.perf_counter()
            found = self._roles(executor)
            seconds = {"roles": round(time.perf_counter() - begin, 3)}
            added = replace(added, roles=found, seconds=seconds)
        if self._asked:
            added = replace(added, n_claims=self._n_claims(executor))
        return self.output.write(self.plans, self.manifest, self.command, added)

    def _roles(self, executor: InProcess) -> Answer:
        traces, sinks = self._observe(executor)
        texts = self.plans[0].texts()
        given: dict[str, Any] = {"progress": partial(self._tell_progress, "roles")}
        given["kept"] = {t.text_id: self.kept[k.key] for t, k in texts if k.key in self.kept}
        self.kept.clear()
        return roles(self._model_of(executor), traces, sinks, **given)

    def _ask(self, executor: InProcess, missing: Sequence[str]) -> None:
        """Ask the missing questions; each answer is stored as soon as it is there."""
        traces, sinks = self._observe(executor)
        model, record = self._model_of(executor), self.folder.record()
        for line in price(model, traces, sinks, missing, **_speed(record)):
            self.say(line)
        command, n_claims = self.command_for(self._asked), self._n_claims(executor)
        given: dict[str, Any] = {"n_claims": n_claims, "tick": self._tell_progress}
        for answer, seconds in ask(model, traces, sinks, missing, **given):
            record = add_answer(self.folder, record, answer, seconds, command)

    def _n_claims(self, executor: InProcess) -> int:
        """Number of claims in the report: from the run's own edits, and from the questions."""
        _, sinks = self._observe(executor)
        return n_claims_of(family_of(self._asked, edited=self._has_roles), sinks)

    def _observe(self, executor: InProcess) -> tuple[list[Trace], SinkTable]:
        """Traces and sinks of all texts; texts from an earlier call are observed again."""
        if self.observed is None:
            (plan,) = self.plans
            model, traces, texts = self._model_of(executor), [], plan.texts()
            for done, (text, task) in enumerate(texts):
                self._tell_progress("observe", done, len(texts))
                if task.key not in self.traces:
                    self.traces[task.key] = observe(model, torch.tensor(task.tokens))
                traces.append(replace(self.traces[task.key], text_id=text.text_id))
            self.observed = traces, detect(traces, self.config.thresholds)
        return self.observed

    def _model_of(self, executor: InProcess) -> HookedModel:
        return executor.get(self.config.models[0])

    def _tell_progress(self, stage: str, done: int, total: int) -> None:
        self.tell("stage", stage=stage, done=done, total=total)


def _speed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds per replayed cell and per token of a pass, as measured in this run."""
    seconds, n_cells = record["timings_s"], record["n_cells"]
    n_tokens = sum(text["n_tokens"] for text in record["texts"])
    return {
        "one_replayed": seconds["edit"] / n_cells if n_cells else None,
        "one_token": seconds["observe"] / n_tokens,
    }
