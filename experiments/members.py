"""The sinks that one layer creates, their controls, and the activations at both."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.shared import Observed
from secondary_sinks.detection import first_texts
from secondary_sinks.errors import AttributionError
from secondary_sinks.observation import activations

Rows = NDArray[np.float64]
"""One activation vector per row."""
COLUMNS = ("text_id", "pos", "token", "role")
REPEATED = "of which an earlier text has the control, after the same tokens"
"""Why a sink is left out: its control would be the same vector in training and test."""
NO_TWIN = "without a token twin"
COPIES = "copies of tokens in earlier texts"
"""Why a token is left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """Sinks created at one layer, each followed by its control."""

    layer: int
    frame: pd.DataFrame
    """One row per token: text_id, pos, token, role (sink or control)."""
    left_out: dict[str, int]
    missing: str = ""
    """Why there are no members; empty if there are some."""

    @property
    def n_sinks(self) -> int:
        """Number of sinks among the members."""
        return len(self.frame) // 2


def members_of(observed: Observed, layer: int | None, *, twins: bool = False) -> Members:
    """Members of the layer that creates most sinks (ties to the first), or of a given layer.

    A sink is left out, and counted, if its control is a copy of that of an earlier text; with
    `twins`, also if its control is no token twin. Raises `AttributionError` for a layer that the
    model does not have.
    """
    if layer is not None and not 0 <= layer < observed.n_layers:
        raise AttributionError(
            f"layer {layer} is out of range", f"expected 0 to {observed.n_layers - 1}"
        )
    every = observed.pairs()
    pairs = [(trace, case) for trace, case in every if case.kind == "twin" or not twins]
    created = Counter(case.sink.l_start for _, case in pairs)
    at = layer
    if at is None:
        at = min(created, key=lambda one: (-created[one], one)) if created else 0
    own = [(trace, case) for trace, case in pairs if case.sink.l_start == at]
    first = first_texts((trace.text_id, trace.tokens, case.control) for trace, case in own)
    copies = [text != trace.text_id for text, (trace, _) in zip(first, own, strict=True)]
    rows = [
        {"text_id": trace.text_id, "pos": pos, "token": trace.token_strings[pos], "role": role}
        for (trace, case), is_copy in zip(own, copies, strict=True)
        if not is_copy
        for role, pos in (("sink", case.sink.pos), ("control", case.control))
    ]
    others = sum(created.values()) - created[at]
    where = ", ".join(f"{one} ({number})" for one, number in sorted(created.items()))
    missing = f"layer {at} creates no secondary sink; layers that create some: {where or 'none'}"
    if every and not pairs:
        missing = f"no secondary sink could be tested: {len(every)} {NO_TWIN}"
    return Members(
        layer=at,
        frame=pd.DataFrame(rows, columns=list(COLUMNS)),
        left_out={
            **observed.left_out,
            NO_TWIN: len(every) - len(pairs),
            "created at other layers": others,
            REPEATED: sum(copies),
        },
        missing="" if rows else missing,
    )


def gather(
    observed: Observed, members: Members, layers: Sequence[int], points: Sequence[str]
) -> dict[tuple[int, str], Rows]:
    """Activations at the members, by layer and hook point, one row per member in their order."""
    found: dict[tuple[int, str], list[Rows]] = {}
    for text_id, part in members.frame.groupby("text_id", sort=False):
        trace = observed.trace(str(text_id))
        for layer, rows in activations(observed.model, trace, part["pos"].tolist(), layers, points):
            for point in points:
                found.setdefault((layer, point), []).append(rows[point].double().numpy())
    return {key: np.concatenate(parts) for key, parts in found.items()}
