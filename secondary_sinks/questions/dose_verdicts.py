"""The verdicts on direction and norm, from the cells of `norm_dose`."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from secondary_sinks.display import rounded
from secondary_sinks.questions.answer import judge
from secondary_sinks.questions.held_out import ended_beyond_others, other_controls, with_control
from secondary_sinks.statistics import (
    Interval,
    holm,
    median_over_texts,
    outcome_of,
    page_trend_test,
    rank_correlation,
)
from secondary_sinks.types import Verdict

ALPHA = 0.05
GAIN = 0.1
"""Attention saturates: less is gained at the largest factor, as a share of what the sink has."""
DOSE = "sinks draw more attention if the MLP output of their creation layer is scaled up"
LAYERS = "sinks are attended at more layers if the MLP output of their creation layer is scaled up"
DIRECTION = (
    "sinks need a part of the MLP output of their creation layer along its own direction: rotated "
    "by 90 degrees at the same norm, it leaves them less than half of their attention"
)
NORM = (
    "sinks need the MLP output of their creation layer at more than {} of its norm: scaled down to "
    "that, it leaves them less than half of their attention"
)


RESPONSES = {
    "mass_edited": (DOSE, "attention", "mass_clean"),
    "lifetime_attention_edited": (
        LAYERS,
        "number of layers attended",
        "lifetime_attention_clean",
    ),
}
"""By response: the claim, the response in words, and the column of its clean value."""


def as_fraction(factor: float) -> str:
    """A factor in words.

    >>> as_fraction(0.0625), as_fraction(0.3), as_fraction(4.0)
    ('1/16', '0.3', '4')
    """
    return f"1/{1 / factor:g}" if factor < 1 and (1 / factor).is_integer() else f"{factor:g}"


def dose_verdicts(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> list[Verdict]:
    """One verdict per response, from the factors 1 and above; neither has a norm by definition.

    Factors below 1 take the output away: whatever needs it at all has a high rank correlation with
    the factor there, also if it is on or off.

    supported: the intervals of the rank correlation, beyond the control's and at sinks alone, lie
    above one half, those of the gain (from the first factor to the last, as a share of the clean
    response), beyond the control's and at sinks alone, above `GAIN`, and the trend test agrees.
    contradicted: both intervals of the rank correlation lie below 0. Else inconclusive.
    """
    part = cells[cells["test"] == "dose"]
    up = _scaled_up(part)
    means = [_beyond_control(up, name).groupby("text_id").mean() for name in RESPONSES]
    p_values = holm([page_trend_test(one.to_numpy()) for one in means])
    return [
        _dose(part, name, p, extra, left_out, n_claims)
        for name, p in zip(RESPONSES, p_values, strict=True)
    ]


def _scaled_up(part: pd.DataFrame) -> pd.DataFrame:
    return part[part["factor"] >= 1]


def _dose(
    part: pd.DataFrame,
    name: str,
    p_value: float,
    extra: str,
    left_out: Mapping[str, int],
    n_claims: int,
) -> Verdict:
    (claim, response, _), up = RESPONSES[name], _scaled_up(part)
    interval = _correlation(up, name, n_claims)
    gain, own_gain = (_gain(up, name, n_claims, alone=alone) for alone in (False, True))
    both = interval, _correlation(up, name, n_claims, alone=True)
    falls = {outcome_of(one, 0.0) for one in both} == {"contradicted"}
    rises = {outcome_of(one) for one in both} | {outcome_of(gain, GAIN, least=own_gain)} == {
        "supported"
    }
    rises = rises and p_value <= ALPHA
    return judge(
        claim,
        interval,
        lambda: _why_dose(part, name, both, gain, p_value) + extra,
        statistic=f"rank correlation of the factor, from 1 up, with {response} (sink minus "
        "control), median over texts",
        unit="rank correlation",
        controls="token twins, or ordinary tokens nearby, with the same scaling",
        left_out=left_out,
        n_claims=n_claims,
        outcome="contradicted" if falls else "supported" if rises else "inconclusive",
    )


def _why_dose(
    part: pd.DataFrame, name: str, both: tuple[Interval, Interval], gain: Interval, p_value: float
) -> str:
    """The parts of the verdict; then, for comparison, all factors, and the lifetime."""
    beyond, alone = both
    largest, response = part["factor"].max(), RESPONSES[name][1]
    overall = _correlation(part, name, 1).value
    lifetime = _correlation(_scaled_up(part), "lifetime_edited", 1).value
    return (
        f"from 1 up, the factor has a rank correlation of {beyond.value:.2f} with {response} "
        f"beyond the control's (corrected p = {rounded(p_value, 2)}), and of {alone.value:.2f} "
        f"[{alone.low:.2f}, {alone.high:.2f}] at the sinks alone; at {largest:g} times the "
        f"norm, {response} changes by {gain.value:+.0%} [{gain.low:+.0%}, {gain.high:+.0%}] beyond "
        f"the control (more than {GAIN:.0%} is asked for); the correlation over all factors, "
        f"most of which take the output away, is {overall:.2f}; that with the lifetime, whose "
        f"definition includes a norm test, is {lifetime:.2f}"
    )


def _gain(up: pd.DataFrame, name: str, n_claims: int, *, alone: bool) -> Interval:
    """What the largest factor adds to the first, sink minus control, as a share of the clean.

    `alone`: at the sink, with nothing subtracted.
    """
    responses = _by_factor(up, name)["sink"] if alone else _beyond_control(up, name)
    clean = RESPONSES[name][2]
    own = up[up["role"] == "sink"].groupby(["text_id", "sink_pos"])[clean].first()
    sizes = own.reindex(responses.index).astype(float)
    gains = [
        (row[-1] - row[0]) / size if size else math.nan
        for row, size in zip(responses.to_numpy(), sizes, strict=True)
    ]
    texts = responses.index.get_level_values("text_id").tolist()
    return median_over_texts(gains, texts, n_claims=n_claims)


def _correlation(cells: pd.DataFrame, name: str, n_claims: int, *, alone: bool = False) -> Interval:
    """Rank correlation of the factor with the value at the sink minus that at its control.

    `alone`: with the value at the sink.
    """
    responses = _by_factor(cells, name)["sink"] if alone else _beyond_control(cells, name)
    correlations = [rank_correlation(responses.columns, row) for row in responses.to_numpy()]
    texts = responses.index.get_level_values("text_id").tolist()
    return median_over_texts(correlations, texts, n_claims=n_claims)


def _beyond_control(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Values of sinks minus those of their controls at the same factor: `[sink, factor]`."""
    values = _by_factor(cells, name)
    return values["sink"] - values["control"]


def _by_factor(cells: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """Values of sinks, and of their controls: `[sink, factor]`.

    They are rounded to four digits, so that rounding errors do not count as differences.
    """
    keys = [cells[key] for key in ("text_id", "sink_pos", "role", "factor")]
    values = cells[name].map(lambda value: float(f"{value:.4g}")).groupby(keys).mean()
    by_role = values.unstack("role").reindex(columns=["sink", "control"])
    return {role: by_role[role].unstack("factor") for role in ("sink", "control")}


def direction_verdict(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    """Verdict on the share of sinks that lose half of their attention turned by 90 degrees."""
    turned = cells[cells["test"] == "turned"]
    same = turned[turned["factor"] == 1.0]
    interval = _lost(same, n_claims)

    def why() -> str:
        largest = turned[(turned["factor"] != 1.0) & (turned["role"] == "sink")]
        made = cells[cells["test"] == "made"].groupby("role")["draws"].apply(_mean)
        own = same[same["role"] == "sink"]
        return (
            "with the output rotated by 90 degrees at the same norm, "
            f"{1 - _mean(own['draws']):.0%} lose more than half of their attention (at "
            f"{largest['factor'].iloc[0]:g} times the norm "
            f"{1 - _mean(largest['draws']):.0%}); {1 - _mean(own['is_sink']):.0%} are no longer "
            "sinks by the definition, which includes the direction; of other tokens that get the "
            f"output, {made['turned']:.0%} draw half as much if it is rotated and "
            f"{made['straight']:.0%} if it is not{_others(same)}{extra}"
        )

    return judge(
        DIRECTION,
        interval,
        why,
        statistic="share of sinks that lose half of their attention, but not if the MLP before is "
        "rotated instead",
        left_out=left_out,
        n_claims=n_claims,
        **other_controls(same, "role", "sink"),
    )


def norm_verdict(
    cells: pd.DataFrame, least: float, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    """Verdict on the share of sinks that lose half of their attention at the `least` factor."""
    part = cells[cells["test"] == "least"]
    interval = _lost(part, n_claims)
    own = part[part["role"] == "sink"]
    return judge(
        NORM.format(as_fraction(least)),
        interval,
        lambda: (
            f"with the output at {as_fraction(least)} of its norm, "
            f"{1 - _mean(own['draws']):.0%} lose more than half of their attention; "
            f"{1 - _mean(own['is_sink']):.0%} are no longer sinks by the definition, which "
            f"includes the norm{_others(part)}{extra}"
        ),
        statistic="share of sinks that lose half of their attention, but not if the MLP before is "
        "scaled instead",
        left_out=left_out,
        n_claims=n_claims,
        **other_controls(part, "role", "sink"),
    )


def _lost(part: pd.DataFrame, n_claims: int) -> Interval:
    """Share of sinks that draw less than half, and still draw it with the MLP before instead."""
    return ended_beyond_others(part, "role", "sink", n_claims=n_claims, of="draws", needs_one=True)


def _others(part: pd.DataFrame) -> str:
    """What the same does at the MLP before."""
    other = part[part["role"] == "other"]
    if not len(other):
        return ""
    lost, n_sinks = 1 - _mean(other["draws"]), with_control(part, "role")
    return f"; with the MLP before instead, {lost:.0%} of the {n_sinks} sinks that have one do"


def _mean(values: "pd.Series[Any]") -> float:
    return float(values.astype(float).mean())
