"""What asking a causal question costs, before it is asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

from secondary_sinks.causal.controls import owners_of
from secondary_sinks.questions.dose import FACTORS
from secondary_sinks.questions.matched_pairs import TextPairs, match_pairs
from secondary_sinks.questions.necessity import EDITS, WAYS, is_there
from secondary_sinks.types import SinkTable, Trace

SEEDS = 3
DRAWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """How many cells a question runs, with its defaults."""

    question: str
    replayed: int
    """Cells in which one token is computed anew."""
    recomputed: int
    """Cells in which the rest of the text is computed anew."""
    tokens: int = 0
    """Of the texts of these, counted once for each cell."""

    def in_words(self) -> str:
        """What is computed.

        >>> Cost(question="harm", replayed=0, recomputed=1200).in_words()
        '1,200 recomputed texts'
        """
        cells = [f"{self.replayed:,} replayed tokens"] * bool(self.replayed)
        cells += [f"{self.recomputed:,} recomputed texts"] * bool(self.recomputed)
        return " and ".join(cells) or "nothing"

    def seconds(self, one_replayed: float, one_token: float) -> float:
        """How long that takes where a replayed cell, and a token of a pass, take so many seconds.

        A recomputed text takes at most a pass; how much less depends on where its edit is.
        """
        return self.replayed * one_replayed + self.tokens * one_token


def costs(
    questions: Iterable[str], traces: Iterable[Trace], sinks: SinkTable, d_mlp: int
) -> list[Cost]:
    """The cells of each question asked with its defaults about these sinks.

    Exact for sinks that one MLP forms; more MLPs have more neurons, so that sparsity tries a few
    sizes more. Restoration leaves out texts without an active primary around their first sink.
    """
    texts = match_pairs(traces, sinks)
    ablated = sum(_ablated(text, sinks) for text in texts)
    n_sinks = sum(len(text.cases) for text in texts)
    n_layers = len(texts[0].trace.norm) if texts else 0
    by_sink = _replayed_by_sink(n_layers, d_mlp)
    per_text = {
        "redistribution": [len(text.cases) * 2 * len(EDITS) for text in texts],
        "restoration": [bool(text.cases) * 2 * len(EDITS) for text in texts],
        "harm": [bool(text.cases) * len(EDITS) * (1 + DRAWS) for text in texts],
    }
    lengths = [len(text.trace.tokens) for text in texts]
    return [
        Cost(
            question=question,
            replayed=ablated if question == "necessity" else n_sinks * by_sink.get(question, 0),
            recomputed=sum(per_text.get(question, ())),
            tokens=sum(map(mul, per_text.get(question, ()), lengths)),
        )
        for question in questions
    ]


def _ablated(text: TextPairs, sinks: SinkTable) -> int:
    """Cells of necessity: every layer at each sink and its controls, then two groups at the sink.

    Each in all ways that are possible there.
    """
    trace, asked = text.trace, {case.sink.pos for case in text.cases}
    owners = owners_of(trace, sinks, 1) if asked else {}
    n_ways = {pos: sum(is_there(way, trace, pos) for way in WAYS) for pos in owners}
    own = {pos for pos, (sink, _) in owners.items() if sink.pos in asked}
    by_layer = sum(n_ways[pos] for pos in own) * len(trace.norm)
    return by_layer + 2 * sum(n_ways[pos] for pos in asked)


def _replayed_by_sink(n_layers: int, d_mlp: int) -> dict[str, int]:
    """Replayed cells per sink; the questions' own functions say what they are."""
    doses = 2 * len(FACTORS)
    sizes = len({max(1, d_mlp // 100), *(1 << power for power in range((d_mlp - 1).bit_length()))})
    return {
        "sufficiency": 2 * (2 + n_layers) + SEEDS,
        "norm_dose": doses + 2 + 1 + SEEDS * 5,
        "sparsity": sizes * (3 + 2 * SEEDS),
    }
