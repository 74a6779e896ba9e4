"""How much attention an edit takes away: one definition for sinks and controls alike."""

from typing import TypeVar

import numpy as np

Masses = TypeVar("Masses")
"""A number, or a column of them."""


def mass_lost(clean: Masses, edited: Masses, sink_clean: Masses) -> Masses:
    """Attention mass that a token loses, in units of the clean mass of the sink in question.

    `clean` and `edited` are masses of the edited token: a sink, or its control. A control draws
    about an even share, so that a share of *its own* mass would be mostly noise; in units of the
    sink's mass a number means the same attention at both. 1 is all that the sink draws; negative
    is a gain. NaN where the sink draws nothing.

    >>> round(float(mass_lost(0.2, 0.05, 0.2)), 3), round(float(mass_lost(0.003, 0.002, 0.2)), 3)
    (0.75, 0.005)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(np.asarray(sink_clean) > 0, sink_clean, np.nan)  # type: ignore[call-overload]
        return (clean - edited) / unit  # type: ignore[operator]
