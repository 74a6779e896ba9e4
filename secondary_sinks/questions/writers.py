"""The writer of each level: verdicts from the roles at all its sinks, over texts.

A verdict names the MLP that writes the largest share of sinks, mean over texts, so it is chosen and
judged by the same sinks. That costs a factor of two in the error rate (`NAMING`), however many
layers there are. Proof: a sink is written by one group of MLPs only (mostly a group of one), so the
expected shares of all groups add up to 1 at most. A group that does not write most of the sinks has
an expected share m of one half or less. The bound on how often it is falsely named (`p_of_mean`) is
at each hinge a convex function of m that is 0 at 0, so it is at most 2m times the bound at one
half. Summed over all such groups this is at most twice that bound. Two groups that write half of
the sinks each reach it exactly (tests/questions/test_writers.py).
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from secondary_sinks.display import count
from secondary_sinks.questions.answer import judge
from secondary_sinks.statistics import (
    Interval,
    claims_together,
    outcome_of,
    share_over_texts,
)
from secondary_sinks.types import Verdict

NO_TWIN = "without a token twin in their own text or a free one"
"""Reason to leave out sinks; a text is free as `role_tests.match_homes` says."""
CONTROLS = (
    "the output at the same token elsewhere, where it is not a sink; all MLPs up to the writer "
    "zeroed; random directions"
)
STATISTIC = "share of sinks written by this MLP, mean over texts"
NAMING = 2
"""Claims that a verdict counts for if it names the group of MLPs that writes most of the sinks."""
Group = tuple[int, ...]
ROLES = ("writer", "enabler", "neither", "undecided")


def levels_in(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each level in order, then of sinks without a level and primary-like ones.

    Where no sink has a level, the name is just "secondary sinks".
    """
    secondary = table[table["kind"] == "secondary"]
    parts = [
        (f"secondary sinks of level {int(level)}", secondary[secondary["level"] == level])
        for level in sorted(secondary["level"].dropna().unique())
    ]
    rest = "secondary sinks without a level" if parts else "secondary sinks"
    parts.append((rest, secondary[secondary["level"].isna()]))
    parts.append(("primary-like sinks", table[table["kind"] != "secondary"]))
    return [(name, part) for name, part in parts if len(part)]


def judged_levels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """`levels_in`, or all of a table without any: a verdict says that there are no sinks, too."""
    return levels_in(table) or [("secondary sinks", table)]


def shares_of_roles(table: pd.DataFrame) -> pd.DataFrame:
    """Share of sinks for which an MLP has each role, by level and layer."""
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


def writer_verdicts(table: pd.DataFrame, n_claims: int | None = None) -> tuple[Verdict, ...]:
    """Is an MLP the writer of most sinks of a level? One verdict per level and writer.

       The verdict is about the MLP that writes the largest share of the sinks, mean over texts. If
    several MLPs write them together, each gets a verdict, about the sinks that this group writes.

    supported: the interval of the share of sinks that it writes, mean over texts, lies above one
    half; contradicted: it lies below for every MLP, even if all undecided MLPs were writers;
    inconclusive: otherwise, and with fewer than five sinks or too few texts. Sinks without a twin
    are left out and counted. `layer` is None if no MLP is the writer of any sink. Corrected for
    `n_claims`, by default those of this table; each level counts two, since the same sinks name its
    writer and judge it.
    """
    levels = judged_levels(table)
    n_claims = claims_together(n_claims, NAMING * len(levels))
    return tuple(verdict for name, part in levels for verdict in _of_level(name, part, n_claims))


def writers_of(known: pd.DataFrame) -> list[Group]:
    """The group of MLPs that writes each sink, in order of rows; empty if no MLP does."""
    by_sink = known.groupby(["text_id", "pos"], sort=False)
    return [
        tuple(int(layer) for layer in one.loc[one["role"] == "writer", "layer"])
        for _, one in by_sink
    ]


def _of_level(name: str, part: pd.DataFrame, n_claims: int) -> list[Verdict]:
    group = _most(part[part["n_donors"] > 0])
    layers = group or [None]
    return [_verdict(name, part, group, layer, n_claims) for layer in layers]


def _most(known: pd.DataFrame) -> Group:
    """The group that writes the largest share of the sinks, mean over texts; empty if none does."""
    sinks = known[["text_id", "pos"]].drop_duplicates()
    texts, written = sinks["text_id"].to_numpy(), writers_of(known)
    shares = {
        group: pd.Series([one == group for one in written]).groupby(texts).mean().mean()
        for group in dict.fromkeys(filter(None, written))
    }
    return max(shares, key=lambda group: shares[group], default=())


def _verdict(
    name: str, part: pd.DataFrame, group: Group, layer: int | None, n_claims: int
) -> Verdict:
    known = part[part["n_donors"] > 0]
    by_sink = [one for _, one in known.groupby(["text_id", "pos"], sort=False)]
    texts = [str(one["text_id"].iloc[0]) for one in by_sink]
    written = writers_of(known)
    wrote = [one == group for one in written] if group else [False] * len(texts)

    def share(cases: list[bool]) -> Interval:
        return share_over_texts(np.array(cases, dtype=float), texts, n_claims=n_claims)

    interval = share(wrote)
    most = max(
        (share([_might(rows, one) for rows in by_sink]) for one in _able(known, written)),
        key=lambda one: one.high,
        default=interval,
    )
    n_without = len(part[part["n_donors"] == 0][["text_id", "pos"]].drop_duplicates())
    general = f"{name} are written by the MLP of one layer"
    found = judge(
        general if layer is None else f"{name} are written by the MLP of layer {layer}",
        interval,
        lambda: _words(known, group, layer, sum(wrote), len(wrote), len(set(texts))),
        statistic=STATISTIC,
        controls=CONTROLS,
        left_out={NO_TWIN: n_without},
        n_claims=n_claims,
        outcome=outcome_of(interval, most=most),
        always=True,
    )
    return replace(found, layer=layer, general=general)


def _able(known: pd.DataFrame, written: list[Group]) -> list[Group]:
    """The groups that write sinks, and each MLP that may, for all that is known."""
    undecided = known.loc[known["role"] == "undecided", "layer"].unique()
    return list(dict.fromkeys([*filter(None, written), *((int(one),) for one in undecided)]))


def _might(rows: pd.DataFrame, group: Group) -> bool:
    """Whether the group would write a sink if all undecided MLPs were writers."""
    able = set(rows.loc[rows["role"].isin(["writer", "undecided"]), "layer"])
    return set(group) <= able


def _words(
    known: pd.DataFrame, group: Group, layer: int | None, wrote: int, n: int, n_texts: int
) -> str:
    """Text such as "writer: MLP 5 (7 of 7 sinks in 3 texts); enablers: MLPs 3, 4"."""
    if not n:
        return ""
    others = [one for one in group if one != layer]
    who = "writer: none" if layer is None else f"writer: MLP {layer}"
    who += f" together with {_mlps(others)}" if others else ""
    sentence = [f"{who} ({wrote} of {count(n, 'sink')} in {count(n_texts, 'text')})"]
    enables = (known["role"] == "enabler").groupby(known["layer"]).sum()
    enablers = [int(layer) for layer in enables.index[enables > n / 2]]
    what = "enablers" if len(enablers) > 1 else "enabler"
    sentence += [f"{what}: {_mlps(enablers)}"] if enablers else []
    open_rows = known[known["role"] == "undecided"]
    if len(open_rows) and wrote < n:
        reasons = Counter(open_rows[["layer", "why"]].itertuples(index=False, name=None))
        (at, why), often = reasons.most_common(1)[0]
        sentence.append(f"undecided: MLP {at} at {count(often, 'sink')} ({why})")
    return "; ".join(sentence)


def _mlps(layers: list[int]) -> str:
    return f"MLP{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
