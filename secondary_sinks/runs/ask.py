"""Ask the causal questions of a run one after another, and predict their cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from secondary_sinks import questions
from secondary_sinks.models import HookedModel
from secondary_sinks.progress import Progress
from secondary_sinks.questions import Answer
from secondary_sinks.questions.table import BY_NAME
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import SinkTable, Trace

Tick = Callable[[str, int, int], None]
"""Called with (question, texts done, number of texts)."""


def ask(
    model: HookedModel,
    traces: Sequence[Trace],
    sinks: SinkTable,
    asked: Sequence[str],
    *,
    n_claims: int | None = None,
    tick: Tick | None = None,
) -> Iterator[tuple[Answer, float]]:
    """Yield each answer with the seconds that it took.

    Error rates are corrected for `n_claims`, the number of claims in the report that will hold the
    answers; by default the claims of `asked`. `tick` first reports the search for the forming MLPs,
    under the name "forming".
    """
    if not asked:
        return
    begin = time.perf_counter()
    found: dict[str, Any] = {}
    if any(BY_NAME[name].needs_forming for name in asked):
        progress = _of(tick, "forming")
        found = {"forming": questions.forming_mlps(model, traces, sinks, progress=progress)}
    n_claims = claims_together(n_claims, questions.n_claims_of(asked, sinks))
    for name in asked:
        more = found if BY_NAME[name].needs_forming else {}
        given = {"progress": _of(tick, name), "n_claims": n_claims, **more}
        answer = BY_NAME[name].ask(model, traces, sinks, **given)
        yield answer, round(time.perf_counter() - begin, 3)
        begin = time.perf_counter()


def _of(tick: Tick | None, stage: str) -> Progress | None:
    return partial(tick, stage) if tick else None


def price(
    model: HookedModel,
    traces: Sequence[Trace],
    sinks: SinkTable,
    asked: Sequence[str],
    *,
    one_replayed: float | None,
    one_token: float,
) -> list[str]:
    """Expected cost of each question in words: number of cells, and seconds.

    `one_replayed` and `one_token` are the seconds per replayed cell and per token of a pass, as
    measured in this run. Without `one_replayed`, questions that replay get no time.
    """
    lines = []
    for cost in questions.costs(asked, traces, sinks, model.cfg.d_mlp):
        known = one_replayed is not None or not cost.replayed
        seconds = cost.seconds(one_replayed or 0.0, one_token)
        about = f", about {seconds:.0f} s" if known else ""
        lines.append(f"ask {cost.question}: {cost.in_words()}{about}")
    return lines
