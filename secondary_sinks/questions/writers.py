"""What the roles say together: the writer of each level, counted over texts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from secondary_sinks.questions.answer import format_exclusions, verdict_of
from secondary_sinks.statistics import outcome_of, share_over_texts, too_few
from secondary_sinks.types import SHARE_UNIT, Verdict

NO_TWIN = "without a token twin that is no sink"
CONTROLS = (
    "the output at the same token elsewhere, where it is no sink; all MLPs up to the writer "
    "zeroed; random directions"
)
STATISTIC = "share of sinks that it writes, mean over texts"
HALVES = 2
"""Layers that can each be the writer of half of the sinks."""
ROLES = ("writer", "enabler", "neither", "undecided")


def levels_in(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each level by its name in words: levels in order, sinks of none, primary-like."""
    secondary = table[table["kind"] == "secondary"]
    parts = [
        (f"secondary sinks of level {int(level)}", secondary[secondary["level"] == level])
        for level in sorted(secondary["level"].dropna().unique())
    ]
    parts.append(("secondary sinks of no level", secondary[secondary["level"].isna()]))
    parts.append(("primary-like sinks", table[table["kind"] != "secondary"]))
    return [(name, part) for name, part in parts if len(part)]


def shares_of_roles(table: pd.DataFrame) -> pd.DataFrame:
    """Share of sinks by level and layer that an MLP is a writer of, and so on; NaN for none."""
    rows = [
        {
            "level": name,
            "layer": int(str(layer)),
            **{role: float((group["role"] == role).mean()) for role in ROLES},
            "n_sinks": len(group),
            "n_texts": group["text_id"].nunique(),
        }
        for name, part in levels_in(table)
        for layer, group in part.groupby("layer")
    ]
    return pd.DataFrame(rows, columns=["level", "layer", *ROLES, "n_sinks", "n_texts"])


def writer_verdicts(table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Is an MLP the writer of most sinks of a level? One verdict per level and such a writer.

    supported where the interval of the share of sinks that it writes, mean over texts, lies above
    one half; contradicted where it lies below, even if every undecided MLP were a writer. The
    layer is chosen by the same sinks, so the interval is corrected for two: a sink has one writer
    alone, so no three layers can each be that of half of the sinks. Sinks without a twin are left
    out and counted. inconclusive with fewer than five sinks or seven texts. `layer` is None where
    no MLP is the writer of any.
    """
    found = [v for name, part in levels_in(table) for v in _of_level(name, part)]
    none = _verdict("secondary sinks", table, None) if not found else None
    return (none,) if none else tuple(found)


def _of_level(name: str, part: pd.DataFrame) -> list[Verdict]:
    known = part[part["n_donors"] > 0]
    share = _shares(known, "writer")
    writers = [layer for layer in share if share[layer] > 0.5]
    if not writers and max(share.values(), default=0.0) > 0:
        writers = [max(share, key=lambda layer: share[layer])]
    if not writers:
        return [_verdict(name, part, None)]
    return [_verdict(name, part, layer, writers) for layer in writers]


def _shares(known: pd.DataFrame, role: str) -> dict[int, float]:
    """Share of all sinks that an MLP has a role for, by its layer."""
    n_sinks = len(known[["text_id", "pos"]].drop_duplicates())
    found = (known["role"] == role).groupby(known["layer"]).sum()
    return {int(str(layer)): int(count) / n_sinks for layer, count in found.items()}


def _verdict(
    name: str, part: pd.DataFrame, layer: int | None, writers: list[int] | None = None
) -> Verdict:
    known = part[part["n_donors"] > 0]
    by_sink = [group for _, group in known.groupby(["text_id", "pos"], sort=False)]
    texts = [str(group["text_id"].iloc[0]) for group in by_sink]
    wrote = [_has(group, layer, "writer") for group in by_sink]
    might = [_has(group, layer, "writer", "undecided") for group in by_sink]
    interval, most = (
        share_over_texts(np.array(one, dtype=float), texts, n_claims=HALVES)
        for one in (wrote, might)
    )
    n_without = len(part[part["n_donors"] == 0][["text_id", "pos"]].drop_duplicates())
    left_out = {NO_TWIN: n_without}
    outcome = outcome_of(interval)
    missing = too_few(interval.n, interval.n_texts, left_out, HALVES)
    if missing or (outcome == "contradicted" and outcome_of(most) != "contradicted"):
        outcome = "inconclusive"
    words = _words(known, layer, writers or [], sum(wrote), len(wrote), len(set(texts)))
    general = f"{name} are written by the MLP of one layer"
    found = verdict_of(
        general if layer is None else f"{name} are written by the MLP of layer {layer}",
        outcome,
        "; ".join(filter(None, [words, missing])),
        interval,
        statistic=STATISTIC,
        unit=SHARE_UNIT,
        controls=CONTROLS + format_exclusions(left_out),
        n_claims=HALVES,
    )
    return replace(found, layer=layer, general=general)


def _has(group: pd.DataFrame, layer: int | None, *roles: str) -> bool:
    rows = group if layer is None else group[group["layer"] == layer]
    return bool(rows["role"].isin(roles).any())


def _words(
    known: pd.DataFrame, layer: int | None, writers: list[int], wrote: int, n: int, n_texts: int
) -> str:
    """As "writer: MLP 5 (7 of 7 sinks in 3 texts); enablers: MLPs 3, 4"."""
    if not n:
        return ""
    others = [one for one in writers if one != layer]
    who = "writer: none" if layer is None else f"writer: MLP {layer}"
    who += f" together with {_mlps(others)}" if others else ""
    sentence = [f"{who} ({wrote} of {n} sinks in {n_texts} texts)"]
    enablers = [one for one, share in _shares(known, "enabler").items() if share > 0.5]
    what = "enablers" if len(enablers) > 1 else "enabler"
    sentence += [f"{what}: {_mlps(enablers)}"] if enablers else []
    open_rows = known[known["role"] == "undecided"]
    if len(open_rows) and wrote < n:
        reasons = Counter(open_rows[["layer", "why"]].itertuples(index=False, name=None))
        (at, why), count = reasons.most_common(1)[0]
        sentence.append(f"undecided: MLP {at} at {count} sinks ({why})")
    return "; ".join(sentence)


def _mlps(layers: list[int]) -> str:
    return f"MLP{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
