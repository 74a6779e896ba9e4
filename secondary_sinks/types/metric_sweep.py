"""`MetricSweep`: a metric of the user's own under many edits, compared with the clean run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.display import Displayed, count, rounded
from secondary_sinks.types.edits import Cell, positions_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MetricSweep(Displayed):
    """The value of a metric under each edit (cell), and with the same edit at a control token."""

    text_id: str
    token_strings: tuple[str, ...]
    cells: tuple[Cell, ...]
    clean: float
    """The metric of the clean run."""
    value: Float[Tensor, "cell"]
    control_pos: tuple[int | None, ...]
    """Position of the token at which the same edit was made as a control; None without one."""
    control: Float[Tensor, "cell"]
    """The metric when the control token is edited in place of the cell's; NaN without one."""

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def change(self) -> Float[Tensor, "cell"]:
        """`value - clean`: what each cell adds to the metric of the clean run."""
        return self.value - self.clean

    @property
    def beyond_control(self) -> Float[Tensor, "cell"]:
        """`value - control`: what it adds beyond the same edit of its control; NaN without one."""
        return self.value - self.control

    def to_frame(self) -> "pd.DataFrame":
        """One row per cell; `edit`, `site`, `pos` and `layer` are words where there are several."""
        import pandas as pd

        rows = [self._row(number, cell) for number, cell in enumerate(self.cells)]
        return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"control_pos": "Int64"})

    def _row(self, number: int, cell: Cell) -> dict[str, Any]:
        positions = positions_of(cell)
        values = {name: float(getattr(self, name)[number]) for name in _MEASURED}
        return {
            "text_id": self.text_id,
            "cell": number,
            "edit": _words([edit.label for edit in cell]),
            "site": _words([edit.site for edit in cell]),
            "pos": _words(positions),
            "token": " ".join(self.token_strings[pos] for pos in positions),
            "layer": _words([layer for edit in cell for layer in edit.layers]),
            "clean": self.clean,
            "control_pos": self.control_pos[number],
            **values,
        }

    def _line(self) -> str:
        edits = ", ".join(dict.fromkeys(edit.label for cell in self.cells for edit in cell))
        matched = sum(pos is not None for pos in self.control_pos)
        size = f"{count(len(self), 'cell')}, {matched} with a control"
        return f"{self.text_id!r}: clean {rounded(self.clean, 4)}; {size}; {edits}"


_MEASURED = ("value", "change", "control", "beyond_control")
_COLUMNS = (
    *("text_id", "cell", "edit", "site", "pos", "token", "layer", "clean", "value", "change"),
    *("control_pos", "control", "beyond_control"),
)


def _words(found: list[Any]) -> Any:
    """The only one, or all of them as words."""
    distinct = list(dict.fromkeys(found))
    return distinct[0] if len(distinct) == 1 else " + ".join(map(str, distinct))
