"""`Sink` and `SinkTable`: what detection finds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from secondary_sinks.types.frames import tidy
from secondary_sinks.types.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """One sink of one text. Maxima are over the sink's own layers."""

    text_id: str
    pos: int
    token_id: int
    token: str
    kind: str
    """primary, primary_like (arises with the primary and stays) or secondary."""
    criterion: str
    l_start: int
    """Creation layer: the first layer at which it is a sink."""
    l_end: int
    """The last layer at which it is a sink."""
    lifetime: int
    """Number of layers at which it is a sink (gaps don't count)."""
    layers: tuple[int, ...]
    level: int
    """Sink level: cluster of (l_start, lifetime) over all texts; 0 is the earliest. -1: primary."""
    censored: str
    """none, left (a sink at layer 0 already), right (still one at the last layer) or both."""
    alignment_max: float
    alignment_centred_max: float
    norm_max: float
    norm_ratio_max: float
    mass_max: float
    """Largest mass drawn by the sink's states (by the blocks that read them)."""
    mass_excess_max: float

    @property
    def segments(self) -> str:
        """Runs of layers, for example "2-8, 11-28"."""
        return format_layers(self.layers)


def format_layers(layers: Sequence[int]) -> str:
    """Runs of consecutive layers in words.

    >>> format_layers([2, 3, 4, 8])
    '2-4, 8'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkTable:
    """Sinks of one or more texts, with the thresholds that made them."""

    sinks: tuple[Sink, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)

    def of_kind(self, *kinds: str) -> "SinkTable":
        """The sinks of the given kinds."""
        kept = tuple(sink for sink in self.sinks if sink.kind in kinds)
        return SinkTable(sinks=kept, thresholds=self.thresholds)

    def of_text(self, text_id: str) -> "SinkTable":
        """The sinks of one text."""
        kept = tuple(sink for sink in self.sinks if sink.text_id == text_id)
        return SinkTable(sinks=kept, thresholds=self.thresholds)

    def to_frame(self) -> "pd.DataFrame":
        """One row per sink; `layers` in words, as `segments`."""
        rows = [asdict(sink) | {"layers": sink.segments} for sink in self.sinks]
        return tidy(rows, Sink).rename(columns={"layers": "segments"})
