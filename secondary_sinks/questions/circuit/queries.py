"""What each later query pays to the strongest sinks: for a page on which one of them is chosen."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from secondary_sinks.questions.circuit.reading import Read
from secondary_sinks.questions.matched_pairs import MatchedPair, TextPairs

MOST_SINKS = 12
"""Most sinks whose queries are kept one by one; of each, at most `reading.MOST_QUERIES`."""
COLUMNS = ("text_id", "pos", "layer", "head", "query", "attention", "attention_head")


def strongest_pairs(texts: Iterable[TextPairs]) -> list[MatchedPair]:
    """The pairs whose sinks draw most attention at their peak layer."""
    cases = [case for text in texts for case in text.cases]
    return sorted(cases, key=lambda case: -case.sink.mass_max)[:MOST_SINKS]


def by_query(case: MatchedPair, by_block: Mapping[int, Read]) -> list[pd.DataFrame]:
    """Attention to one sink, a frame per block that reads it and a row per query after it.

    `attention` is the mean over heads, `attention_head` that of `head`, which reads the sink most.
    """
    pos, frames = case.sink.pos, []
    for block, read in by_block.items():
        mean, head = read.paid.tolist()
        own = {"query": range(pos + 1, pos + 1 + len(mean)), "attention": mean}
        own |= {"attention_head": head, "layer": block, "head": read.top}
        frames.append(pd.DataFrame(own | {"text_id": case.sink.text_id, "pos": pos}))
    return [frame.astype({"attention": "float32", "attention_head": "float32"}) for frame in frames]


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All frames, one after the other."""
    empty = pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else empty
