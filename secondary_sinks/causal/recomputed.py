"""The result of `recompute`, and the table that it is filled into."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.replayed import MEASURED, ByCell
from secondary_sinks.errors import EditError
from secondary_sinks.types import Cell, Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Recomputed(ByCell):
    """What `recompute` measures: watched tokens by layer and cell, and loss and KL by position.

    Watched are the edited tokens, the references of the trace and the positions in `watch`;
    `column(pos)` is the index of one. Tensors are on the CPU in float32. An index or slice selects
    cells.
    """

    cells: tuple[Cell, ...]
    watch: tuple[int, ...]
    """Positions whose states and masses are kept."""
    norm: Float[Tensor, "layer cell watch"]
    deviation_ratio: Float[Tensor, "layer cell watch"]
    alignment: Float[Tensor, "layer cell watch"]
    alignment_centred: Float[Tensor, "layer cell watch"]
    key_norm: Float[Tensor, "layer cell watch"]
    mass: Float[Tensor, "layer cell watch"]
    """Total effect: attention mass in block l, with all queries of the edited run."""
    paid_to_primary: Float[Tensor, "layer cell pos"] | None
    """Attention that each query pays to the primary in the edited run, as in a `Trace`; None
    unless `by_query=True`."""
    loss_clean: Float[Tensor, "pos"]
    """Cross-entropy (nats) of the next token, predicted at each position; NaN at the last."""
    loss: Float[Tensor, "cell pos"]
    """The same in the edited run."""
    kl: Float[Tensor, "cell pos"]
    """Divergence (nats) of the edited prediction from the clean one, KL(clean || edited)."""

    def _of(self, numbers: Sequence[int]) -> "Recomputed":
        rows, paid = list(numbers), self.paid_to_primary
        return replace(
            self,
            cells=tuple(self.cells[row] for row in rows),
            paid_to_primary=None if paid is None else paid[:, rows],
            loss=self.loss[rows],
            kl=self.kl[rows],
            **{name: getattr(self, name)[:, rows] for name in MEASURED},
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row per cell, watched position and layer."""
        return self._rows([self.watch] * len(self))

    def column(self, pos: int) -> int:
        """Index of a watched position in axis `watch`. Raises `EditError` if it is not watched."""
        if pos not in self.watch:
            raise EditError(
                f"position {pos} was not watched", f"expected one of {list(self.watch)}"
            )
        return self.watch.index(pos)

    def loss_later(self, cell: int, pos: int) -> float:
        """Change of the mean loss (nats) after a position; NaN if no loss comes after it."""
        later = slice(pos + 1, -1)
        return float((self.loss[cell, later] - self.loss_clean[later]).double().mean())


class RecomputedBuilder:
    """Results under construction: clean values until a cell overwrites them."""

    def __init__(
        self, trace: Trace, cells: tuple[Cell, ...], watch: tuple[int, ...], by_query: bool
    ) -> None:
        """Start with the values of the trace; losses and divergences are NaN."""
        n_cells, n_pos = len(cells), len(trace.tokens)
        self.cells, self.watch = cells, watch
        self.columns = {
            name: getattr(trace, name)[:, None, watch].repeat(1, n_cells, 1) for name in MEASURED
        }
        paid = trace.paid_to_primary
        self.paid_to_primary = paid[:, None].repeat(1, n_cells, 1) if by_query else None
        self.loss_clean = torch.full((n_pos,), torch.nan)
        self.loss = torch.full((n_cells, n_pos), torch.nan)
        self.kl = torch.full((n_cells, n_pos), torch.nan)

    def recomputed(self) -> Recomputed:
        """The results filled in so far."""
        return Recomputed(
            cells=self.cells,
            watch=self.watch,
            paid_to_primary=self.paid_to_primary,
            loss_clean=self.loss_clean,
            loss=self.loss,
            kl=self.kl,
            **self.columns,
        )
