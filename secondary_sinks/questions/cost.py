"""What asking a causal question costs, before it is asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

from secondary_sinks.causal.controls import owners_of
from secondary_sinks.questions.dose import FACTORS
from secondary_sinks.questions.harm import removable
from secondary_sinks.questions.held_out import other_layers
from secondary_sinks.questions.matched_pairs import MatchedPair, TextPairs, match_pairs
from secondary_sinks.questions.necessity import WAYS, is_there
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

    Exact for sinks that the MLP of their creation layer forms; more MLPs have more neurons, so that
    sparsity tries a few sizes more, and fewer others that a control could be made of.
    """
    texts = match_pairs(traces, sinks)
    ablated = sum(_ablated(text, sinks) for text in texts)
    n_sinks = sum(len(text.cases) for text in texts)
    n_layers = len(texts[0].trace.norm) if texts else 0
    able = sum(_has_other(case) for text in texts for case in text.cases)
    by_sink = {
        name: n_sinks * one + able * more
        for name, (one, more) in _replayed_by_sink(n_layers, d_mlp).items()
    }
    per_text = {
        "redistribution": [2 * _both_there(text) for text in texts],
        "harm": [_removals(text, sinks) * (1 + DRAWS) for text in texts],
    }
    lengths = [len(text.trace.tokens) for text in texts]
    return [
        Cost(
            question=question,
            replayed=ablated if question == "necessity" else by_sink.get(question, 0),
            recomputed=sum(per_text.get(question, ())),
            tokens=sum(map(mul, per_text.get(question, ()), lengths)),
        )
        for question in questions
    ]


def _ablated(text: TextPairs, sinks: SinkTable) -> int:
    """Cells of necessity: every layer at each sink and its controls, then groups at the sink.

    Each in all ways that are possible there; a second group where another MLP could have ended it.
    """
    trace, asked = text.trace, {case.sink.pos for case in text.cases}
    owners = owners_of(trace, sinks, 1) if asked else {}
    n_ways = {pos: sum(is_there(way, trace, pos) for way in WAYS) for pos in owners}
    own = {pos for pos, (sink, _) in owners.items() if sink.pos in asked}
    by_layer = sum(n_ways[pos] for pos in own) * len(trace.norm)
    groups = sum(n_ways[case.sink.pos] * (1 + _has_other(case)) for case in text.cases)
    return by_layer + groups


def _has_other(case: MatchedPair) -> bool:
    """Whether another MLP than that of the creation layer could have ended the sink."""
    return bool(other_layers(case.sink, [case.sink.l_start]))


def _both_there(text: TextPairs) -> int:
    """Ways to ablate that are possible at a sink and at its control, over the sinks of a text."""
    places = [(case.sink.pos, case.control) for case in text.cases]
    return sum(all(is_there(way, text.trace, pos) for pos in two) for two in places for way in WAYS)


def _removals(text: TextPairs, sinks: SinkTable) -> int:
    """Ways to ablate by which some sink of a text can be removed, and ordinary tokens alike."""
    return sum(bool(removable(text, sinks, way, DRAWS)) for way in WAYS)


def _replayed_by_sink(n_layers: int, d_mlp: int) -> dict[str, tuple[int, int]]:
    """Replayed cells per sink, and further ones where it has a control of other MLPs.

    The questions' own functions say what they are.
    """
    doses = 2 * len(FACTORS)
    sizes = len({max(1, d_mlp // 100), *(1 << power for power in range((d_mlp - 1).bit_length()))})
    return {
        "sufficiency": (2 * (1 + n_layers) + SEEDS, 2),
        "norm_dose": (doses + 1 + 2 + SEEDS * 3, 1 + 2 * SEEDS),
        "sparsity": (sizes * (3 + 2 * SEEDS), 0),
    }
