"""Attention that sinks lose when each layer's MLP is ablated, beyond what controls lose.

A cell is counted only if its outcome could have been different (see column `impossible`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from secondary_sinks.display import Results, as_frame
from secondary_sinks.errors import EditError
from secondary_sinks.statistics import claims_together, median_over_texts, share_over_texts
from secondary_sinks.types import LayerEffect, mass_lost

KEY = ["text_id", "sink_pos", "layer"]
PAIR = ["mass_clean", "mass_edited"]
MASSES = [*PAIR, "control_mass_clean", "control_mass_edited"]
ORDINARY = ["ordinary_mass_clean", "ordinary_mass_edited"]
_NOTHING = pd.DataFrame(
    {"sinks": [], "beyond": []},
    dtype=float,
    index=pd.MultiIndex.from_arrays([[], []], names=["layer", "text_id"]),
)


def layer_effects(
    effects: pd.DataFrame | Results, n_claims: int | None = None
) -> list[LayerEffect]:
    """Mass lost by secondary sinks and by their controls, by ablated layer, with intervals.

    For each layer, only sinks that it could have ended are counted: those created there or later.
    All masses are in units of the sinks' clean mass (`mass_lost`), also those of controls. `lost`
    is the mass that sinks lose minus what their token twins (or else neighbours) lose, median over
    texts. Further ordinary control tokens are reported separately. Intervals are exact over texts,
    and corrected for `n_claims`: by default the tested layers that could end a sink (`could_end`).
    With too few texts they are NaN. Raises `EditError` for a table that mixes edits (seeds of one
    edit are averaged), or contains the no-op.
    """
    return effects_by_layer(pairs_of(as_frame(effects)), n_claims)


def later_effects(
    effects: pd.DataFrame | Results, n_claims: int | None = None
) -> list[LayerEffect]:
    """Mass lost by secondary sinks when an MLP above their creation layer is ablated, by layer.

    As `layer_effects`, but for each layer only sinks are counted that were created before it and
    have not ended yet: it comes too late to end them, but could weaken them (column `impossible`).
    """
    return effects_by_layer(pairs_of(as_frame(effects)), n_claims, later=True)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The cells of one way to ablate: each secondary sink with the masses of its controls."""

    cells: pd.DataFrame
    """One row per sink, layer and seed; `sink` numbers the sinks."""
    unmatched: int
    """Number of sinks without a control."""
    n_could_end: int
    """Number of layers tried that can keep a sink from arising (`could_end`)."""

    @property
    def later(self) -> pd.DataFrame:
        """Cells of layers too late to end the sink, but not to take a tenth of its attention."""
        cells, known = self.cells, self.cells.get("impossible")
        if known is None:
            return cells[:0]
        return cells[~_created_later(cells) & ~known.isin(["weaken", "loss", "unknown"])]


def pairs_of(effects: pd.DataFrame) -> Pairs:
    """Pair sinks with their controls. Raises `EditError` as `layer_effects` does."""
    _check_one_edit(effects)
    cells = _pairs(effects)
    cells["sink"] = cells.groupby(["text_id", "pos"], sort=False).ngroup()
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    unmatched = len(sinks[["text_id", "pos"]].drop_duplicates()) - cells["sink"].nunique()
    return Pairs(cells, unmatched, len(could_end(effects)))


def effects_by_layer(
    pairs: Pairs, n_claims: int | None = None, *, later: bool = False
) -> list[LayerEffect]:
    """`layer_effects`, or with `later` `later_effects`, of cells that are paired already."""
    cells = pairs.cells
    counted = pairs.later if later else cells[_created_later(cells)]
    of_layer = dict(iter(counted.groupby("layer")))
    by_text = dict(iter(lost_by(["layer", "text_id"], counted).groupby("layer")))
    every = lost_by(["layer"], counted).reindex(cells["layer"].unique()).to_dict("index")
    return [
        _one_layer(
            part,
            of_layer.get(layer, counted[:0]),
            by_text.get(layer, _NOTHING).droplevel("layer"),
            every[layer],
            claims_together(n_claims, pairs.n_could_end),
            pairs.unmatched,
        )
        for layer, part in cells.groupby("layer")
    ]


def _created_later(cells: pd.DataFrame) -> "pd.Series[bool]":
    return cells["layer"] <= cells["l_start_clean"]


def could_end(effects: pd.DataFrame) -> set[int]:
    """Layers tried that can keep a sink from arising: those up to the last creation layer.

    Above it the state that made the token a sink is written already. An edit of the next layers can
    cut the sink short, even to fewer layers than a sink must last, but that is what a later layer
    does (`later_effects`): no claim is made of it here, and none is corrected for.
    """
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    last = sinks["l_start_clean"].max()
    return {int(layer) for layer in effects["layer"].unique() if layer <= last}


def by_way(effects: pd.DataFrame | Results) -> dict[str, pd.DataFrame]:
    """Cells by way to ablate: the label of the edit without its seed."""
    effects = as_frame(effects)
    way = effects["edit"].str.replace(r"^resample:\d+$", "resample", regex=True)
    return {str(name): effects[way == name] for name in dict.fromkeys(way)}


def _check_one_edit(effects: pd.DataFrame) -> None:
    for column in ("site", "effect"):
        found = sorted(effects[column].unique())
        if len(found) > 1:
            raise EditError(f"the table mixes {column}s {found}", "expected one: select its rows")
    ways = sorted(by_way(effects))
    if len(ways) > 1:
        raise EditError(f"the table mixes edits {ways}", "expected one: select its rows")
    if "none" in ways:
        raise EditError(
            "edit 'none' changes nothing, so it cannot show what sinks need", "select another edit"
        )


def _pairs(effects: pd.DataFrame) -> pd.DataFrame:
    """One row per secondary sink, layer and seed, with the masses of its controls.

    These are the masses of its matched control, and means over its ordinary control tokens (NaN
    without such tokens).
    """
    key = [*KEY, "edit"]
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    controls = effects[effects["role"] == "control"]
    ordinary = controls["kind"] == "ordinary"
    matched = controls[~ordinary].groupby(key)[PAIR].mean().add_prefix("control_")
    others = controls[ordinary].groupby(key)[PAIR].mean().add_prefix("ordinary_")
    pairs = sinks.join(matched, on=key, how="inner").reset_index(drop=True)
    pairs = pairs.join(others, on=key)
    return pairs.dropna(subset=MASSES)  # NaN: no later attention reads it


def lost_by(groups: list[str], cells: pd.DataFrame) -> pd.DataFrame:
    """Mass lost in each group of cells by sinks, controls and ordinary tokens, and beyond controls.

    Groups are those of some columns, such as `text_id`. In units of the clean mass of the group's
    sinks; one row per group.
    """
    sums = cells.groupby(groups, sort=False)[[*MASSES, *ORDINARY]].sum(min_count=1)
    unit = sums["mass_clean"]
    lost = pd.DataFrame(
        {
            name: mass_lost(sums[f"{prefix}mass_clean"], sums[f"{prefix}mass_edited"], unit)
            for name, prefix in (("sinks", ""), ("controls", "control_"), ("ordinary", "ordinary_"))
        }
    )
    return lost.assign(beyond=lost["sinks"] - lost["controls"])


def _one_layer(
    cells: pd.DataFrame,
    counted: pd.DataFrame,
    by_text: pd.DataFrame,
    every: Mapping[Any, float],
    n_claims: int,
    unmatched: int,
) -> LayerEffect:
    """The effect of one layer: all its cells, those that are counted, and what these lose.

    `by_text` is the mass lost in each text (`lost_by`), `every` that lost in all of them.
    """
    lost, alone = (
        median_over_texts(by_text[name], by_text.index.tolist(), n_claims=n_claims)
        for name in ("beyond", "sinks")
    )
    after, before = counted["lifetime_edited"], counted["lifetime_clean"]
    texts = counted["text_id"].tolist()
    removed = share_over_texts((after == 0).astype(float), texts, n_claims=n_claims)
    n_sinks = counted["sink"].nunique()
    return LayerEffect(
        layer=int(cells["layer"].iloc[0]),
        lost=lost.value,
        low=lost.low,
        high=lost.high,
        sinks_lost=float(every["sinks"]),
        sinks_low=alone.low,
        controls_lost=float(every["controls"]),
        ordinary_lost=float(every["ordinary"]),
        removed=removed.value,
        removed_low=removed.low,
        removed_high=removed.high,
        shortened=float((after < before).mean()),
        prolonged=float((cells["lifetime_edited"] > cells["lifetime_clean"]).mean()),
        n_sinks=n_sinks,
        n_unmatched=unmatched,
        n_texts=len(by_text),
        n_impossible=cells["sink"].nunique() - n_sinks,
    )
