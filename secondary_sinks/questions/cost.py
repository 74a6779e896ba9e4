"""The cost of a causal question, estimated before it is run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Number of cells that a question runs with its defaults."""

    question: str
    replayed: int
    """Cells that replay one token."""
    recomputed: int
    """Cells that recompute the rest of the text."""
    tokens: int = 0
    """Total tokens of the texts of the recomputed cells: each text counts once per cell."""

    def in_words(self) -> str:
        """The work as a short text.

        >>> Cost(question="harm", replayed=0, recomputed=1200).in_words()
        '1,200 recomputed texts'
        """
        cells = [f"{self.replayed:,} replayed tokens"] * bool(self.replayed)
        cells += [f"{self.recomputed:,} recomputed texts"] * bool(self.recomputed)
        return " and ".join(cells) or "nothing"

    def seconds(self, one_replayed: float, one_token: float) -> float:
        """Estimated time in seconds, from the seconds per replayed cell and per token of a pass.

        A recomputed text takes at most one pass, less if its edit is late in the text or model.
        """
        return self.replayed * one_replayed + self.tokens * one_token
