"""Figures of the answer about direction and norm, as data that a page draws."""

import math

import pandas as pd

from secondary_sinks.display import rounded
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.dose_verdicts import as_fraction
from secondary_sinks.questions.question import Drawing, Shown, one_drawing
from secondary_sinks.statistics import mean_and_percentiles

DOSED = {
    "mass_edited": ("attention mass", "linear"),
    "lifetime_attention_edited": ("layers attended", "linear"),
    "lifetime_edited": ("lifetime (by<br>norm test too)", "linear"),
}
"""Responses to the factor; answers of earlier versions lack the second."""
POWERS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
"""Factors that have a tick where they are in the table."""


def norm_dose(answer: Answer, shown: Shown) -> list[Drawing]:
    """Attention and lifetimes by the factor on the output of the MLP of the creation layer."""
    frame = _doses(answer.cells)
    titles = {name: title for name, title in DOSED.items() if name in answer.cells}
    marks, words = _threshold(answer.tables["threshold"])
    factors = [one for one in POWERS if (frame["x"] - one).abs().min() < 1e-9]
    options = {
        "panels": titles,
        "x_title": "factor on the output of the MLP of the creation layer",
        "x_scale": "log",
        "x_ticks": {one: as_fraction(one) for one in factors},
        "marks": marks,
        "height": 150,
    }
    caption = (
        "The output of the MLP of the creation layer is scaled, at the sinks and at their control "
        f"tokens. Lines are means, bands run from the 10th to the 90th percentile of tokens.{words}"
    )
    return one_drawing("lines", "dose", "Dose and response", caption, frame, options=options)


def _doses(cells: pd.DataFrame) -> pd.DataFrame:
    part = cells[cells["test"] == "dose"]
    names = {"sink": "sinks", "control": "control tokens"}
    rows = [
        {
            "panel": response,
            "group": name,
            "x": factor,
            **mean_and_percentiles(group[response].to_numpy()),
            "n_tokens": len(group),
        }
        for role, name in names.items()
        for factor, group in part[part["role"] == role].groupby("factor")
        for response in DOSED
        if response in part
    ]
    return pd.DataFrame(rows)


def _threshold(table: pd.DataFrame) -> tuple[list[float], str]:
    """The least factor that makes a sink, as marks and text; empty if no factor does."""
    by_factor = table[table["unit"] == "factor"]
    if "by" in by_factor:  # older answers judge by the criterion only
        by_factor = by_factor[by_factor["by"] == "sink"]
    row = by_factor.to_dict("records")[0]
    if math.isnan(row["value"]):
        return [], ""
    words = (
        f" Dotted: the smallest factor that makes a sink, {rounded(row['value'], 2)} "
        f"({rounded(row['low'], 2)} to {rounded(row['high'], 2)})."
    )
    return [float(row["value"])], words
