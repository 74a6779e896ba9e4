"""The results of `replay` and `recompute`, and what both measure of an edited state."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import EditError
from secondary_sinks.measures import alignment, centred_alignment, norms
from secondary_sinks.types import Cell, Trace

STATES = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm")


def states_of(
    trace: Trace,
    layer: int,
    resid_post: Float[Tensor, "*shape d_model"],
    key_norm: Float[Tensor, "*shape"],
) -> dict[str, Float[Tensor, "*shape"]]:
    """Measures of edited residuals at a layer, by name (`STATES`).

    The primary's direction, the typical token and the median are those of the clean text.
    """
    typical, primary = trace.typical[layer], trace.reference_resid[layer]
    resid_post = resid_post.float().cpu()
    return {
        "norm": norms(resid_post),
        "deviation_ratio": norms(resid_post - typical) / trace.median_deviation[layer],
        "alignment": alignment(resid_post, primary),
        "alignment_centred": centred_alignment(resid_post, primary, typical),
        "key_norm": key_norm.float().cpu(),
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recomputed:
    """Total effects of cells on watched tokens and on the loss."""

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


class Table:
    """Results under construction: clean values until a cell overwrites them."""

    def __init__(
        self, trace: Trace, cells: tuple[Cell, ...], watch: tuple[int, ...], by_query: bool
    ) -> None:
        """Start with the values of the trace; losses and divergences are NaN."""
        n_cells, n_pos = len(cells), len(trace.tokens)
        self.cells, self.watch = cells, watch
        self.columns = {
            name: getattr(trace, name)[:, None, watch].repeat(1, n_cells, 1)
            for name in (*STATES, "mass")
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The edited token by layer and cell; layers below its first edit hold the clean values."""

    cells: tuple[Cell, ...]
    positions: tuple[int, ...]
    """Position of the token that each cell edits."""
    norm: Float[Tensor, "layer cell"]
    deviation_ratio: Float[Tensor, "layer cell"]
    alignment: Float[Tensor, "layer cell"]
    alignment_centred: Float[Tensor, "layer cell"]
    key_norm: Float[Tensor, "layer cell"]
    mass: Float[Tensor, "layer cell"]
    """Direct effect: attention mass of the token in block l, with the clean queries of later
    tokens; NaN with `attention=False`."""
    watch: tuple[int, ...]
    """Other positions whose mass is measured."""
    watched: Float[Tensor, "layer cell watch"]
    """Direct effect on these positions: their attention mass when only the key of the edited token
    is replaced, and every later query's softmax is normalised again. NaN for the edited token."""
    kl: Float[Tensor, "cell"]
    """KL(clean || edited) in nats of the prediction at the token; NaN unless `kl=True`."""

    def part(self, begin: int, end: int) -> "Replay":
        """The cells from `begin` up to but not including `end`."""
        columns = {name: getattr(self, name)[:, begin:end] for name in (*STATES, "mass", "watched")}
        cells, positions = self.cells[begin:end], self.positions[begin:end]
        return replace(self, cells=cells, positions=positions, kl=self.kl[begin:end], **columns)
