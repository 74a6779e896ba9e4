"""How many claims a question makes: what the error rate of a report is divided by."""

from collections.abc import Iterable

from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.questions.role_tests import is_asked
from secondary_sinks.questions.writers import NAMING
from secondary_sinks.types import SinkTable

CLAIMS = {"sufficiency": 2, "norm_dose": 3, "redistribution": 1, "sparsity": 2, "harm": 1}
"""Verdicts of each question that makes as many whatever the sinks are."""
RUN = ("roles", "layers", "later")
"""What every run that edits something claims: writers, layers that are needed, later layers."""


def family_of(asked: Iterable[str], *, edited: bool) -> tuple[str, ...]:
    """All claims of a report: those of the run's own edits, and of the questions it was asked.

    What necessity says of layers stands for what the run's own edits say of them.

    >>> family_of(["necessity", "harm"], edited=True)
    ('roles', 'later', 'necessity', 'harm')
    """
    questions = tuple(asked)
    own = [name for name in RUN if name != "layers" or "necessity" not in questions]
    return (*(own if edited else ()), *questions)


def n_claims_of(questions: Iterable[str], sinks: SinkTable) -> int:
    """Claims that the answers to `questions` make together about these sinks.

    Given to each question as `n_claims`, it makes all their intervals hold together at 95 %
    (Bonferroni's union bound). Necessity makes one claim for each layer at which an edit could
    end a sink ("layers"), and one more; the layers above the last creation layer make none, since
    nothing could come of them. Roles make two per level: one MLP is named, by the same sinks that
    judge it (`writers.NAMING`). How many there are is known from the clean run.

    >>> n_claims_of(["sufficiency", "harm"], SinkTable(sinks=()))
    3
    """
    counts = CLAIMS | {
        "layers": layers_of(sinks),
        "necessity": layers_of(sinks) + 1,
        "roles": NAMING * levels_of(sinks),
        "later": 1,
    }
    return sum(counts[name] for name in questions)


def layers_of(sinks: SinkTable) -> int:
    """Layers up to the last creation layer of a secondary sink; at least one."""
    return 1 + max((sink.l_start for sink in sinks.sinks if counts_for_levels(sink)), default=0)


def levels_of(sinks: SinkTable) -> int:
    """Levels that roles are asked of; sinks of no level and primary-like ones are one each."""
    asked = [sink for sink in sinks.sinks if is_asked(sink)]
    names = {str(one.level) if one.kind == "secondary" else one.kind for one in asked}
    return max(len(names), 1)
