"""The verdicts on direction and norm, from the cells of `norm_dose`."""

from collections.abc import Mapping
from typing import Any, TypedDict

import pandas as pd

from secondary_sinks.display import rounded
from secondary_sinks.questions.answer import judge
from secondary_sinks.questions.held_out import control_words, with_control
from secondary_sinks.questions.trials import rate_difference, rates
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
DOSE = "sinks draw more attention if the MLP output that forms them is scaled up"
LAYERS = "sinks are attended at more layers if the MLP output that forms them is scaled up"
DIRECTION = (
    "sinks depend on the direction of the MLP output that forms them: rotated at the same norm, it "
    "leaves them less than half of their attention"
)
NORM = (
    "sinks depend on the norm of the MLP output that forms them: scaled down to the smallest "
    "factor, it leaves them less than half of their attention"
)


RESPONSES = {
    "mass_edited": (DOSE, "attention"),
    "lifetime_attention_edited": (LAYERS, "number of layers attended"),
}


def dose_verdicts(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> list[Verdict]:
    """One verdict per response; neither response depends on the norm by definition.

    supported: the interval of the rank correlation lies above one half, and the trend test agrees.
    contradicted: it lies below 0. inconclusive: otherwise, since ties cap the correlation: one step
    up at the last of 13 factors has 0.46.
    """
    part = cells[cells["test"] == "dose"]
    p_values = holm([_page(part, name) for name in RESPONSES])
    return [
        _dose(part, name, p, extra, left_out, n_claims)
        for name, p in zip(RESPONSES, p_values, strict=True)
    ]


def _dose(
    part: pd.DataFrame,
    name: str,
    p_value: float,
    extra: str,
    left_out: Mapping[str, int],
    n_claims: int,
) -> Verdict:
    claim, response = RESPONSES[name]
    interval = _correlation(part, name, n_claims)
    lifetime = _correlation(part, "lifetime_edited", n_claims)
    falls = outcome_of(interval, 0.0) == "contradicted"
    rises = outcome_of(interval) == "supported" and p_value <= ALPHA
    return judge(
        claim,
        interval,
        lambda: (
            f"the factor has a rank correlation of {interval.value:.2f} with {response} (corrected "
            f"p = {rounded(p_value, 2)}), and of {lifetime.value:.2f} with the lifetime, whose "
            f"definition includes a norm test{extra}"
        ),
        statistic=f"rank correlation of the factor with {response} (sink minus control), median "
        "over texts",
        unit="rank correlation",
        controls="token twins, or ordinary tokens nearby, with the same scaling",
        left_out=left_out,
        n_claims=n_claims,
        outcome="contradicted" if falls else "supported" if rises else "inconclusive",
    )


def _correlation(cells: pd.DataFrame, name: str, n_claims: int) -> Interval:
    """Rank correlation of the factor with the value at the sink minus that at its control."""
    responses = _beyond_control(cells, name)
    correlations = [rank_correlation(responses.columns, row) for row in responses.to_numpy()]
    texts = responses.index.get_level_values("text_id").tolist()
    return median_over_texts(correlations, texts, n_claims=n_claims)


def _beyond_control(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Values of sinks minus those of their controls at the same factor: `[sink, factor]`.

    Values are first rounded to four digits, so that rounding errors do not count as differences.
    """
    keys = [cells[key] for key in ("text_id", "sink_pos", "role", "factor")]
    values = cells[name].map(lambda value: float(f"{value:.4g}"))
    by_dose = values.groupby(keys).mean().unstack("role").reindex(columns=["sink", "control"])
    return (by_dose["sink"] - by_dose["control"]).unstack("factor")


def _page(cells: pd.DataFrame, name: str) -> float:
    return page_trend_test(_beyond_control(cells, name).groupby("text_id").mean().to_numpy())


def direction_verdict(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    """Verdict on the share of sinks that lose half of their attention when turned, same norm."""
    turned = cells[cells["test"] == "turned"]
    same = turned[turned["factor"] == 1.0]
    instead = _made_as_well(cells, "turned")
    interval = rate_difference(
        same, "role", "sink", "other", n_claims=n_claims, of="draws", instead=instead
    )

    def why() -> str:
        largest = turned[(turned["factor"] != 1.0) & (turned["role"] == "sink")]
        made = cells[cells["test"] == "made"].groupby("role")["draws"].apply(_mean)
        own = same[same["role"] == "sink"]
        return (
            f"with the output rotated at the same norm, {1 - _mean(own['draws']):.0%} lose more "
            f"than half of their attention (at {largest['factor'].iloc[0]:g} times the norm "
            f"{1 - _mean(largest['draws']):.0%}); {1 - _mean(own['is_sink']):.0%} are no longer "
            "sinks by the definition, which includes the direction; of other tokens that get the "
            f"output, {made['turned']:.0%} draw half as much if it is rotated and "
            f"{made['straight']:.0%} if it is not{extra}"
        )

    return judge(
        DIRECTION,
        interval,
        why,
        statistic="share of sinks that lose half of their attention, but not if other MLPs are "
        "rotated instead",
        left_out=left_out,
        n_claims=n_claims,
        **_controls(same),
    )


def norm_verdict(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    """Verdict on the share of sinks that lose half of their attention at the least norm."""
    part = cells[cells["test"] == "least"]
    instead = _made_as_well(cells, "least")
    interval = rate_difference(
        part, "role", "sink", "other", n_claims=n_claims, of="draws", instead=instead
    )
    own = part[part["role"] == "sink"]
    return judge(
        NORM,
        interval,
        lambda: (
            f"with the output at {part['factor'].iloc[0]:g} times its norm, "
            f"{1 - _mean(own['draws']):.0%} lose more than half of their attention; "
            f"{1 - _mean(own['is_sink']):.0%} are no longer sinks by the definition, which "
            f"includes the norm{extra}"
        ),
        statistic="share of sinks that lose half of their attention, but not if other MLPs are "
        "scaled instead",
        left_out=left_out,
        n_claims=n_claims,
        **_controls(part),
    )


def _made_as_well(cells: pd.DataFrame, role: str) -> "pd.Series[float]":
    """Per sink: 1 minus the share of control tokens that draw half as much with its output."""
    made = rates(cells[cells["test"] == "made"], "role", alive=True, of="draws")
    made = made.reindex(columns=["straight", role])
    return 1 - made["straight"] * (1 - made[role])


class _Controls(TypedDict):
    n_controls: int
    controls: str


def _controls(part: pd.DataFrame) -> _Controls:
    n_controls, n_sinks = (with_control(part, "role", one) for one in ("other", "sink"))
    instead = (
        "else the same output patched into control tokens, which then draw half as much only if it "
        "is unchanged"
    )
    return {"n_controls": n_controls, "controls": control_words(n_controls, n_sinks, instead)}


def _mean(values: "pd.Series[Any]") -> float:
    return float(values.astype(float).mean())
