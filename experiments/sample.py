"""What was looked at and what was found: the counts that every page of results states."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from secondary_sinks import SinkTable, Trace
from secondary_sinks.detection import counts_for_levels


def sample_of(traces: Sequence[Trace], sinks: SinkTable) -> dict[str, Any]:
    """Counts of texts, tokens and secondary sinks.

    `n_distinct` leaves out copies of sinks in an earlier text, whose tokens up to the sink are the
    same; `created_at` counts the distinct ones by creation layer.
    """
    secondary = sinks.of_kind("secondary").sinks
    created = Counter(sink.l_start for sink in secondary if counts_for_levels(sink))
    return {
        "n_texts": len(traces),
        "n_tokens": sum(len(trace.tokens) for trace in traces),
        "n_sinks": len(secondary),
        "n_distinct": created.total(),
        "created_at": {str(layer): created[layer] for layer in sorted(created)},
    }
