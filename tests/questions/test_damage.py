"""Damage: tables and sentences say what the cells say, and the cells what the engine says."""

import math

import pandas as pd
import pytest

from secondary_sinks import recompute
from secondary_sinks.questions import (
    damage_at_tokens,
    damage_by_layer,
    damage_in_words,
    harm,
    redistribution,
)
from secondary_sinks.types import Edit
from tests.plots.frames import cell
from tests.questions.gardens import Garden, three

ROLES = pd.DataFrame(
    [
        {"text_id": "one", "pos": pos, "layer": layer, "role": role}
        for pos in (1, 2, 3)
        for layer, role in ((0, "enabler"), (1, "writer" if pos < 3 else "neither"), (2, "neither"))
    ]
)
KLS = {(1, 0): 5.0, (2, 0): 7.0, (3, 0): 6.0, (1, 1): 0.1, (2, 1): 0.3, (3, 1): 9.0}


def effects(**changes):
    rows = [
        cell(layer, pos=pos, sink_pos=pos, edit="zero", kl_at_token=kl) | changes
        for (pos, layer), kl in KLS.items()
    ]
    rows += [cell(1, "control", pos=8, sink_pos=1, kl_at_token=50.0)]
    return pd.DataFrame(rows)


def test_medians_are_over_the_sinks_that_the_mlp_has_the_role_for_and_no_controls():
    found = damage_at_tokens(effects(), ROLES).to_dict("records")
    same = {"edit": "zero"}
    assert found == [
        same | {"role": "writer", "layer": 1, "kl_at_token": pytest.approx(0.2), "n_sinks": 2},
        same | {"role": "enabler", "layer": 0, "kl_at_token": 6.0, "n_sinks": 3},
    ]
    by_layer = damage_by_layer(effects(), ROLES)["zero"]
    assert by_layer.to_dict() == {0: 6.0, 1: 0.3}


@pytest.mark.parametrize("frame", [effects(kl_at_token=math.nan), effects(site="attn_out")])
def test_what_was_not_measured_has_no_row(frame):
    assert damage_at_tokens(frame, ROLES).empty
    assert damage_by_layer(frame, ROLES).empty
    assert damage_in_words(damage_at_tokens(frame, ROLES).to_dict("records")) == ""


def test_effects_of_an_older_version_have_none():
    assert damage_at_tokens(effects().drop(columns="kl_at_token"), ROLES).empty


def test_the_sentence_names_layer_role_edit_and_number():
    rows = damage_at_tokens(effects(), ROLES).to_dict("records")
    rare = {"role": "writer", "layer": 7, "edit": "zero", "kl_at_token": 1.0, "n_sinks": 1}
    assert damage_in_words([*rows, rare]) == (
        "KL at the sink (nats, median): MLP 1 (writer, alone or not, of 2 sinks) zero 0.2; "
        "MLP 0 (enabler of 3 sinks) zero 6"
    )


@pytest.fixture(scope="module")
def garden():
    return Garden(*three(forming=(3,)), n_texts=2)


def test_redistribution_tells_damage_at_the_token_and_after_it(garden):
    answer = redistribution(*garden.asked, edits=["zero"])
    cells = answer.cells
    row = cells[(cells["text_id"] == "t1") & (cells["pos"] == 24)].iloc[0]
    total = recompute(garden.model, garden.traces[1], [Edit(pos=24, layer=3)])
    assert row["kl_at_token"] == pytest.approx(float(total.kl[0, 24]), rel=1e-3, abs=1e-5)
    later = (total.loss[0] - total.loss_clean)[25:-1].mean()
    assert row["loss_later"] == pytest.approx(float(later), abs=1e-5)
    assert row["loss_clean"] == pytest.approx(float(total.loss_clean[25:-1].mean()), rel=1e-4)
    table = answer.tables["damage"].set_index("role")
    assert table["n_cells"].to_dict() == {"sink": 6, "control": 6}
    of_sinks = cells.loc[cells["role"] == "sink", "kl_at_token"]
    assert table.loc["sink", "kl_at_token"] == pytest.approx(of_sinks.median())
    assert of_sinks.min() > 0.001


def test_harm_tells_the_divergence_at_all_edited_tokens(garden):
    cells = harm(*garden.asked, edits=["zero"], draws=1).cells
    row = cells[(cells["text_id"] == "t0") & (cells["role"] == "sinks")].iloc[0]
    edits = [Edit(pos=pos, layer=3) for pos in (12, 24, 36)]
    total = recompute(garden.model, garden.traces[0], [edits])
    wanted = float(total.kl[0, [12, 24, 36]].mean())
    assert row["kl_at_token"] == pytest.approx(wanted, rel=1e-3, abs=1e-5)
