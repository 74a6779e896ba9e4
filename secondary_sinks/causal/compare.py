"""Compare effects: before and after an edit, direct and total."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.causal.check import Means
from secondary_sinks.causal.outcome import clean_sinks, edited_sinks, first, means_over
from secondary_sinks.causal.recompute import recompute
from secondary_sinks.causal.replay import replay
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.types import Edit, Thresholds, Trace, dump_cells, format_layers
from secondary_sinks.types.thresholds import as_thresholds

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

    Direct: later queries are those of the clean run. Total: they are recomputed after the edit.
    If the two differ, later tokens have changed what they look for. One row per cell and layer;
    `edit` is the cell as JSON. `loss_change` is the mean change of the loss (nats) at the token and
    after it, `loss_later` the change after it alone; `kl_at_token` is KL(clean || edited) in nats
    of the prediction at the token. Each cell must edit one token; raises as `replay` does.
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
            "loss_later": total.loss_later(number, pos),
            "kl_at_token": float(total.kl[number, pos]),
        }
        for number, (cell, pos) in enumerate(zip(direct.cells, direct.positions, strict=True))
        for layer in range(len(trace.norm))
    ]
    names = ["edit", "pos", "layer", "mass_clean", "mass_direct", "mass_total"]
    names += ["loss_change", "loss_later", "kl_at_token"]
    return pd.DataFrame(rows, columns=names)


def before_and_after(
    trace: Trace,
    replayed: Replay,
    *,
    layers: Sequence[int] | None = None,
    thresholds: Thresholds | None = None,
) -> "pd.DataFrame":
    """Lifetime, creation layer and means over some layers, clean and edited, per cell of a replay.

    By default `layers` are those at which the token is a sink in the clean run or, if it never is,
    those from its first edit on; masses are those of the blocks that read these layers. One row
    per cell: `edit` is the cell as JSON, `layers` a text such as "0-2, 5", then each quantity clean
    and edited, and `kl_at_token` (NaN unless the replay ran with `kl=True`).
    """
    import pandas as pd

    limits = as_thresholds(thresholds)
    was = clean_sinks(trace, limits)
    still = edited_sinks(trace, replayed, limits)
    own = [
        _layers_of(was[:, pos], cell) if layers is None else list(layers)
        for cell, pos in zip(replayed.cells, replayed.positions, strict=True)
    ]
    means = means_over(trace, replayed, own)
    rows = []
    for number, (cell, pos) in enumerate(zip(replayed.cells, replayed.positions, strict=True)):
        row = {
            "edit": dump_cells([cell]).strip(),
            "pos": pos,
            "token": trace.token_strings[pos],
            "layers": format_layers(own[number]),
            "lifetime_clean": int(was[:, pos].sum()),
            "lifetime_edited": int(still[:, number].sum()),
            "l_start_clean": first(was[:, pos]),
            "l_start_edited": first(still[:, number]),
        }
        kl = {"kl_at_token": float(replayed.kl[number])}
        rows.append(row | means[number] | kl)
    return pd.DataFrame(rows)


def _layers_of(was: Bool[Tensor, "layer"], cell: Sequence[Edit]) -> list[int]:
    """Where a token is a sink or, if it never is, the layers from its first edit on."""
    lowest = min(layer for edit in cell for layer in edit.layers)
    return was.nonzero()[:, 0].tolist() or list(range(lowest, len(was)))
