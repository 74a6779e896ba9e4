"""The causal questions of a run, asked one after the other, with their price told first."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from secondary_sinks import questions
from secondary_sinks.causal.replay import Progress
from secondary_sinks.models import HookedModel
from secondary_sinks.questions import Answer
from secondary_sinks.questions.table import BY_NAME
from secondary_sinks.runs.pipeline import Results, Tick

Say = Callable[[str], None]


def _quiet(line: str) -> None:
    pass


def ask(
    model: HookedModel,
    results: Results,
    asked: Sequence[str],
    say: Say = _quiet,
    tick: Tick | None = None,
    family: Sequence[str] = (),
) -> tuple[tuple[Answer, ...], dict[str, float]]:
    """The answers, and the seconds that each took. What they cost is said first.

    Error rates are corrected for the claims of all questions of `family`: those of the report that
    the answers will stand in, by default those `asked`.
    `tick` is called with the question, "", texts done, and texts; before all, for the search of
    the forming MLPs, as "forming".
    """
    if not asked:
        return (), {}
    for line in price(model, results, asked):
        say(line)
    traces, sinks = results.traces, results.sinks
    laps, start = {}, time.perf_counter()
    forming = questions.forming_mlps(model, traces, sinks, progress=_part(tick, "forming"))
    answers, n_claims = [], questions.n_claims_of(family or asked, sinks)
    for name in asked:
        more = {"forming": forming, "progress": _part(tick, name), "n_claims": n_claims}
        answers.append(BY_NAME[name].ask(model, traces, sinks, **more))
        laps[name], start = round(time.perf_counter() - start, 3), time.perf_counter()
    return tuple(answers), laps


def _part(tick: Tick | None, stage: str) -> Progress | None:
    return partial(tick, stage, "") if tick else None


def price(model: HookedModel, results: Results, asked: Sequence[str]) -> list[str]:
    """What the questions cost, in cells and at the speed that this run had so far, in words.

    Of a replayed cell that is known from the ablations, of a recomputed text from the observation.
    """
    found = questions.costs(asked, results.traces, results.sinks, model.cfg.d_mlp)
    done = 0 if results.effects is None else len(results.effects.rows)
    one_replayed = results.timings.get("ablate", 0.0) / max(done, 1)
    one_token = results.timings["observe"] / sum(len(trace.tokens) for trace in results.traces)
    lines = []
    for cost in found:
        seconds = cost.seconds(one_replayed, one_token)
        unknown = cost.replayed and "ablate" not in results.timings  # added to a finished run
        about = "" if unknown else f", about {seconds:.0f} s"
        lines.append(f"ask {cost.question}: {cost.in_words()}{about}")
    return lines
