"""How many claims a question makes: what the error rate of a report is divided by."""

from collections.abc import Iterable

from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.types import SinkTable

CLAIMS = {"sufficiency": 2, "norm_dose": 3, "redistribution": 1, "restoration": 1, "sparsity": 2}
CLAIMS |= {"harm": 1}
"""Verdicts of each question but necessity."""


def n_claims_of(questions: Iterable[str], sinks: SinkTable) -> int:
    """Claims that the answers to `questions` make together about these sinks.

    Given to each question as `n_claims`, it makes all their intervals hold together at 95 %.
    Necessity makes one claim for each layer at which an edit could end a sink, and one more; the
    layers above the last creation layer make none, since nothing could come of them.

    >>> n_claims_of(["sufficiency", "harm"], SinkTable(sinks=()))
    3
    """
    return sum(layers_of(sinks) + 1 if name == "necessity" else CLAIMS[name] for name in questions)


def layers_of(sinks: SinkTable) -> int:
    """Layers up to the last creation layer of a secondary sink; at least one."""
    return 1 + max((sink.l_start for sink in sinks.sinks if counts_for_levels(sink)), default=0)
