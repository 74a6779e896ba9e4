"""Verdicts of every run that edits MLPs, with their numbers, corrected for all claims together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.questions.layers import (
    paired_by_way,
    verdict_of_later,
    verdicts_of_layers,
)
from secondary_sinks.questions.lost_by_layer import could_end, effects_by_layer, pairs_of
from secondary_sinks.questions.matched_pairs import testable
from secondary_sinks.questions.writers import NAMING, judged_levels, writer_verdicts
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import LASTING, SinkTable


def layers_of(sinks: SinkTable) -> int:
    """Number of layers up to the last creation layer of a secondary sink; at least one.

    Those above make no claim, since no edit there can keep a sink from arising.
    """
    return 1 + max((sink.l_start for sink in sinks.sinks if counts_for_levels(sink)), default=0)


def levels_of(sinks: SinkTable) -> int:
    """Number of levels with roles; sinks without a level count as one, primary-like ones too."""
    asked, _ = testable(sink for sink in sinks.sinks if sink.kind in LASTING)
    names = {str(one.level) if one.kind == "secondary" else one.kind for one in asked}
    return max(len(names), 1)


OWN_CLAIMS: Mapping[str, Callable[[SinkTable], int]] = {
    "roles": lambda sinks: NAMING * levels_of(sinks),
    "layers": layers_of,
    "later": lambda sinks: 1,
}
"""Number of claims of a run's own edits: writers (two per level, see `writers.NAMING`), layers that
are needed, later layers. It depends only on the clean run."""


def family_of(asked: Iterable[str], *, edited: bool) -> tuple[str, ...]:
    """Names of all claims of a report: those of the run's own edits, and the questions asked.

    Claims about layers are counted once: with necessity if it was asked, else with the run's edits.

    >>> family_of(["necessity", "harm"], edited=True)
    ('roles', 'later', 'necessity', 'harm')
    """
    questions = tuple(asked)
    own = [name for name in OWN_CLAIMS if name != "layers" or "necessity" not in questions]
    return (*(own if edited else ()), *questions)


NOTHING: dict[str, list[dict[str, Any]]] = {"layer_effects": [], "verdicts": []}


def run_claims(
    effects: pd.DataFrame | None, roles: pd.DataFrame | None, n_claims: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Verdicts on layers that sinks need, on later layers and on writers, as plain data.

    `effects` are cells of ablations without copies of sinks, `roles` the cells of `roles`; None if
    they were not run. Effects by layer are those of the first way to ablate. All verdicts are
    corrected for `n_claims`, the number of claims in the whole report; by default those made here
    (`OWN_CLAIMS`).
    """
    n_claims = claims_together(n_claims, _count(effects, roles))
    claims = dict(NOTHING)
    if effects is not None:
        ways = paired_by_way(effects)
        first = next(iter(ways.values()), None) or pairs_of(effects)
        claims = {
            "layer_effects": _plain(effects_by_layer(first, n_claims)),
            "verdicts": _plain(verdicts_of_layers(ways, n_claims)),
            "later_effects": _plain(effects_by_layer(first, n_claims, later=True)),
            "later": _plain([verdict_of_later(ways, n_claims)]),
        }
    return claims | ({} if roles is None else {"writers": _plain(writer_verdicts(roles, n_claims))})


def _count(effects: pd.DataFrame | None, roles: pd.DataFrame | None) -> int:
    """Number of claims: layers that could end a sink, one for later layers, and the writers."""
    by_layer = 0 if effects is None else max(len(could_end(effects)), 1) + 1
    return by_layer + (0 if roles is None else NAMING * len(judged_levels(roles)))


def _plain(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]
