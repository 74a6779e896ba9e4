"""Direct and total effects beside each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from secondary_sinks.causal.donors import Means
from secondary_sinks.causal.recompute import recompute
from secondary_sinks.causal.replay import replay
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.types import Edit, Trace, dump_cells

if TYPE_CHECKING:
    import pandas as pd


def direct_and_total(
    model: HookedModel,
    trace: Trace,
    edits: Sequence[Edit | Sequence[Edit]],
    *,
    others: Sequence[Trace] = (),
    reference: Means | None = None,
) -> "pd.DataFrame":
    """Attention mass of the edited token of each cell, by layer: clean, direct and total.

    Direct: later queries are as in the clean run. Total: they are what the edit makes of them.
    Where the two differ, later tokens have changed what they look for. One row per cell and
    layer; `edit` is the cell as JSON, `loss_change` the mean change of the loss (nats) at the
    token and after it. Raises as `replay`: cells are of one token each.
    """
    import pandas as pd

    direct = replay(model, trace, edits, others=others, reference=reference)
    total = recompute(model, trace, edits, others=others, reference=reference)
    change = total.loss - total.loss_clean
    rows = [
        {
            "edit": dump_cells([cell]).strip(),
            "pos": pos,
            "layer": layer,
            "mass_clean": float(trace.mass[layer, pos]),
            "mass_direct": float(direct.mass[layer, number]),
            "mass_total": float(total.mass[layer, number, total.column(pos)]),
            "loss_change": float(change[number, pos:-1].mean()),
        }
        for number, (cell, pos) in enumerate(zip(direct.cells, direct.positions, strict=True))
        for layer in range(len(trace.norm))
    ]
    names = ["edit", "pos", "layer", "mass_clean", "mass_direct", "mass_total", "loss_change"]
    return pd.DataFrame(rows, columns=names)
