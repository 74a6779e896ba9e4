"""Pairs of ordinary tokens of one id that stand where sinks and their twins do."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.members import Members
from experiments.shared import Observed
from secondary_sinks.causal import ordinary_positions

NEAR = 2.0
"""Positions and distance of a placebo pair differ from those of the pair by at most this factor."""


def placebo_of(observed: Observed, members: Members) -> NDArray[np.float64]:
    """For each sink and each twin, the position of an ordinary token at a like place, or NaN.

    The placebos of a sink and its twin are two ordinary tokens with one id in the same text. They
    stand in the same order; their positions, and the distance between them, differ from those of
    the sink and its twin by at most a factor of `NEAR`. Of several such pairs the most similar is
    taken. No token is used twice, is itself a sink or a twin that is tested, or stands in a
    beginning that an earlier text shares.
    """
    texts = {text.trace.text_id: text for text in observed.cases}
    found = np.full(len(members.frame), np.nan)
    for text_id, rows in members.frame.groupby("text_id", sort=False).indices.items():
        text, own = texts[str(text_id)], members.frame["pos"].to_numpy()[rows]
        able = np.array(ordinary_positions(text.trace, observed.sinks), dtype=int)
        able = able[(able >= text.begin) & ~np.isin(able, own)]
        ids = text.trace.tokens.numpy()[able]
        found[rows] = _matched(own.reshape(-1, 2), able, ids).reshape(-1)
    return found


def with_placebo(members: Members, placebo: NDArray[np.float64]) -> pd.DataFrame:
    """The members and, after those of each text, their placebo tokens; column `placebo` tells."""
    known = ~np.isnan(placebo)
    other = members.frame[known].assign(pos=placebo[known].astype(int), placebo=True)
    both = pd.concat([members.frame.assign(placebo=False), other], ignore_index=True)
    order = pd.factorize(both["text_id"])[0].argsort(kind="stable")
    return both.iloc[order].reset_index(drop=True)


def _matched(
    pairs: NDArray[np.int64], able: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each (sink, twin) the most similar free pair of one id, or NaN."""
    same = ids[:, None] == ids[None]
    np.fill_diagonal(same, False)
    first, second = (able[index] for index in same.nonzero())
    found, free = np.full(pairs.shape, np.nan), np.ones(len(first), dtype=bool)
    for number, (sink, twin) in enumerate(pairs):
        ratios = ((first + 1) / (sink + 1), (second + 1) / (twin + 1))
        apart = (second - first) / (twin - sink)  # negative in the other order
        with np.errstate(invalid="ignore"):
            unlike = np.abs(np.log([*ratios, apart])).max(0)
        unlike = np.where(free & (apart > 0), unlike, np.inf)
        if not len(unlike) or unlike.min() > np.log(NEAR):
            continue
        chosen = found[number] = first[unlike.argmin()], second[unlike.argmin()]
        free &= ~np.isin(first, chosen) & ~np.isin(second, chosen)
    return found
