"""What asking a causal question costs, before it is asked."""

from dataclasses import dataclass


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
