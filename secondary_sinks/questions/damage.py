"""Damage: what taking away a sink's writer does to the model's predictions, there and after."""

from collections.abc import Iterable, Sequence

import pandas as pd

from secondary_sinks.causal import recompute
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions.role_tests import Asked, asked_of, replaced_by_twins
from secondary_sinks.types import Edit, SinkTable, Trace

COLUMNS = ("text_id", "pos", "layer", "edit", "kl", "loss_later", "loss_clean")


def writer_damage(
    model: HookedModel, traces: Trace | Iterable[Trace], sinks: SinkTable, table: pd.DataFrame
) -> pd.DataFrame:
    """Every writer of `table` (of `roles`) taken away at its sink, all that follows recomputed.

    One row per writer and `edit`: zero, and twin where there are twins. `kl` is the divergence
    (nats) of the edited prediction at the sink from the clean one, `loss_later` the change of the
    mean loss (nats) at later tokens, `loss_clean` that loss: an edit that destroys the token has
    a large `kl`, whatever it does to the sink. Costs at most a pass of the text per row.
    """
    texts = [traces] if isinstance(traces, Trace) else list(traces)
    writers = table[table["role"] == "writer"].groupby(["text_id", "pos"])["layer"].apply(list)
    rows = [
        row
        for one in asked_of(texts, sinks)[0]
        for row in _rows(model, one, writers.get((one.sink.text_id, one.sink.pos), []))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(model: HookedModel, one: Asked, layers: Sequence[int]) -> list[dict[str, object]]:
    pos, names, edits = one.sink.pos, [], []
    for layer in layers:
        names.append((layer, "zero"))
        edits.append(Edit(pos=pos, layer=layer))
        if one.twins:
            names.append((layer, "twin"))
            edits.append(replaced_by_twins(one, layer, one.twins))
    if not edits:
        return []
    others = [] if one.home is one.trace else [one.home]
    found = recompute(model, one.trace, edits, others=others)
    clean = float(found.loss_clean[pos + 1 : -1].mean())
    return [
        {
            "text_id": one.sink.text_id,
            "pos": pos,
            "layer": layer,
            "edit": edit,
            "kl": float(found.kl[cell, pos]),
            "loss_later": float(found.loss[cell, pos + 1 : -1].mean()) - clean,
            "loss_clean": clean,
        }
        for cell, (layer, edit) in enumerate(names)
    ]
