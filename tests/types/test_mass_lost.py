"""One definition of mass lost: in units of the sink's clean mass, at sinks and controls alike."""

import numpy as np
import pandas as pd
import pytest

from secondary_sinks.types import mass_lost


def test_by_hand():
    assert mass_lost(0.2, 0.05, 0.2) == pytest.approx(0.75)
    assert mass_lost(0.003, 0.006, 0.3) == pytest.approx(-0.01)


@pytest.mark.parametrize("nothing", [0.0, -0.1, np.nan])
def test_a_sink_that_draws_nothing_has_no_loss(nothing):
    assert np.isnan(mass_lost(0.2, 0.1, nothing))


def test_columns_keep_their_rows():
    frame = pd.DataFrame({"clean": [0.2, 0.1], "edited": [0.1, 0.1]}, index=["x", "y"])
    lost = mass_lost(frame["clean"], frame["edited"], frame["clean"])
    assert lost.to_dict() == {"x": 0.5, "y": 0.0}
