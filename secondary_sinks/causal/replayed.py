"""The result of `replay`, and what it has in common with that of `recompute`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.states import STATES
from secondary_sinks.display import Displayed, count
from secondary_sinks.types import Cell, format_layers

if TYPE_CHECKING:
    import pandas as pd

Result = TypeVar("Result", bound="ByCell")
MEASURED = (*STATES, "mass")
"""Fields with axes `[layer, cell, ...]`."""


class ByCell(Displayed):
    """A result with one entry per cell; an index or slice gives the same result of fewer cells."""

    __slots__ = ()
    cells: tuple[Cell, ...]
    mass: Tensor

    def _of(self: Result, numbers: Sequence[int]) -> Result:
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    def __getitem__(self: Result, index: int | slice) -> Result:
        """The result of one cell, or of those in a slice."""
        found = range(len(self))[index]
        return self._of([found] if isinstance(found, int) else found)

    def __iter__(self: Result) -> Iterator[Result]:
        """The results of one cell each."""
        return (self[number] for number in range(len(self)))

    def _line(self) -> str:
        edits = ", ".join(dict.fromkeys(edit.label for cell in self.cells for edit in cell))
        size = f"{count(len(self), 'cell')} x {count(len(self.mass), 'layer')}"
        return f"{size}: {edits}"

    def _rows(self, positions: Sequence[Sequence[int]]) -> "pd.DataFrame":
        """One row per cell, measured position (those of each cell are given) and layer."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for cell, found in enumerate(positions):
            words = {"cell": cell, "edit": " + ".join(map(_described, self.cells[cell]))}
            for column, pos in enumerate(found):
                for layer in range(len(self.mass)):
                    at = (layer, cell, column) if self.mass.ndim == 3 else (layer, cell)
                    values = {name: float(getattr(self, name)[at]) for name in MEASURED}
                    rows.append({**words, "pos": pos, "layer": layer, **values})
        return pd.DataFrame(rows, columns=["cell", "edit", "pos", "layer", *MEASURED])


def _described(edit: Any) -> str:
    """An edit with its place: "zero of mlp_out, layer 3, position 20"."""
    layers, positions = format_layers(edit.layers), format_layers(edit.positions)
    return f"{edit.label} of {edit.site}, layer {layers}, position {positions}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Replay(ByCell):
    """What `replay` measures: the edited token, by layer and cell, as in a `Trace`.

    Layers below the first edit of a cell hold the clean values. Tensors are on the CPU in float32.
    An index or slice selects cells.
    """

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

    def _of(self, numbers: Sequence[int]) -> "Replay":
        rows = list(numbers)
        return replace(
            self,
            cells=tuple(self.cells[row] for row in rows),
            positions=tuple(self.positions[row] for row in rows),
            kl=self.kl[rows],
            **{name: getattr(self, name)[:, rows] for name in (*MEASURED, "watched")},
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row per cell and layer: the measures of the edited token, and `kl` of its cell."""
        frame = self._rows([[pos] for pos in self.positions])
        return frame.assign(kl=self.kl[frame["cell"].tolist()].numpy())
