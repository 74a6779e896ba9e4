"""The table of edit kinds: labels, ranges and needs follow from its rows."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secondary_sinks.causal.recipes import check_recipe
from secondary_sinks.errors import EditError
from secondary_sinks.notebook.choice import SITES as OFFERED
from secondary_sinks.types import EDIT_KINDS, SITES, Edit, Given
from secondary_sinks.types.edits import load_cells

BY_KIND = pytest.mark.parametrize("kind", EDIT_KINDS, ids=lambda kind: kind.name)


def some_edits(kind):
    """Edits of a kind, one for each way to give its parameters."""
    fields = [{}]
    if kind.value is not None:
        fields = [{"value": 2.5}, *([{"value": 2.5, "seed": 7}] if kind.seed else [])]
    elif kind.seed:
        fields = [{"seed": 0}, {"seed": 7}]
    fields += [{"over": over} for over in kind.over]
    if kind.donor:
        fields = [{"donor": 4}, {"donor": (3, 9)}, {"donor": 4, "text": "a@b"}]
    if kind.key:
        fields = [{"key": 0, **one} for one in fields]
    return [Edit(pos=1, layer=0, kind=kind.name, site=kind.sites[0], **one) for one in fields]


@BY_KIND
def test_a_label_gives_its_edit_back(kind):
    for edit in some_edits(kind):
        assert Edit.of_label(edit.label, pos=1, layer=0, site=edit.site) == edit
        assert Edit.from_json(edit.to_json()) == edit


def test_different_edits_have_different_labels():
    """They were one in every table: all digits after the sixth were left out."""
    values = (1000001.0, 1000002.0, 1e6, 0.1234567, 0.123457, 1e-7, 1e22)
    edits = [Edit(pos=1, layer=0, kind="set_norm", value=value) for value in values]
    labels = [edit.label.removeprefix("set_norm:") for edit in edits]
    assert labels[:4] == ["1000001", "1000002", "1000000", "0.1234567"]
    assert [Edit.of_label(edit.label, pos=1, layer=0) for edit in edits] == edits


@pytest.mark.parametrize("read", [Edit.from_json, load_cells])
def test_a_key_that_stands_twice_in_an_edit_is_refused(read):
    with pytest.raises(EditError, match="key 'pos' appears twice"):
        read('{"pos": 7, "layer": 2, "pos": 9}')


@BY_KIND
def test_a_value_is_refused_where_the_row_has_none_and_out_of_its_range(kind):
    wrong = [1.0]
    if kind.value is not None:
        low, high = kind.value
        wrong = [None, math.nan, math.inf, -math.inf]
        wrong += [low - 1] * math.isfinite(low) + [high + 1] * math.isfinite(high)
    where = {"pos": 1, "layer": 0, "site": kind.sites[0], "key": 0 if kind.key else None}
    for value in wrong:
        with pytest.raises(EditError, match=f"'{kind.name}'"):
            Edit(**where, kind=kind.name, value=value)


@BY_KIND
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_an_edit_is_possible_at_the_sites_of_its_row_only(kind, site):
    words = {"kind": kind.name, "site": site.name, "donor": 3 if kind.donor else None}
    words["value"] = None if kind.value is None else 1.0
    words["key"] = 0 if kind.key else None
    if site.name in kind.sites:
        assert Edit(pos=1, layer=0, **words).site == site.name
    else:
        with pytest.raises(EditError, match="has no meaning at site"):
            Edit(pos=1, layer=0, **words)


@BY_KIND
def test_a_kind_that_needs_a_direction_takes_no_single_coordinates(kind):
    words = {"kind": kind.name, "site": "mlp_out", "donor": 3 if kind.donor else None}
    words["value"] = None if kind.value is None else 1.0
    if kind.of_vectors:
        with pytest.raises(EditError, match=f"'{kind.name}' needs the whole MLP output"):
            Edit(pos=1, layer=0, units=(4,), **words)
    elif "mlp_out" in kind.sites:
        assert Edit(pos=1, layer=0, units=(4,), **words).label.endswith("[4]")


def test_the_kinds_that_need_a_direction_say_so():
    whole = {kind.name for kind in EDIT_KINDS if kind.of_vectors}
    assert whole == {"set_norm", "rotate", "remove", "keep", "steer"}


def test_what_is_given_is_what_an_edit_becomes():
    """By hand: an activation of length 5, the direction of its first coordinate."""
    row, by_name = torch.tensor([3.0, 4.0]), {kind.name: kind.apply for kind in EDIT_KINDS}
    given = Given(row=torch.ones(2), direction=torch.tensor([1.0, 0.0]), value=10.0)
    expected = {
        **{"none": [3.0, 4.0], "zero": [0.0, 0.0], "mean": [1.0, 1.0], "resample": [1.0, 1.0]},
        **{"patch": [1.0, 1.0], "scale": [30.0, 40.0], "set_norm": [6.0, 8.0]},
        **{"remove": [0.0, 4.0], "keep": [3.0, 0.0], "steer": [13.0, 4.0]},
        **{"knockout": [-math.inf, -math.inf], "reweight": [30.0, 40.0]},
    }
    assert by_name.keys() - expected.keys() == {"rotate"}
    for name, new in expected.items():
        assert by_name[name](row, given).tolist() == new, name
    turned = by_name["rotate"](row, Given(value=90.0))
    assert abs(float(turned @ row)) < 1e-5
    assert float(turned.norm()) == pytest.approx(5.0)


EXACT = [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), Fraction(1, 2), np.float64(0.5)]


@pytest.mark.parametrize("given", EXACT, ids=repr)
def test_a_real_number_of_any_library_is_the_same_number(given):
    (found,) = (Edit(pos=1, layer=0, kind="scale", value=given).value,)
    assert (type(found), found) == (float, 0.5)


INEXACT = [
    *(np.True_, True, torch.tensor(True), np.complex128(2), 2**53 + 1, torch.tensor(2**53 + 1)),
    *(np.array([0.5]), torch.tensor([1.0, 2.0]), "2", 10**400, Fraction(1, 3)),
]


@pytest.mark.parametrize("given", INEXACT, ids=lambda given: repr(given)[:20])
def test_what_a_float_does_not_equal_is_no_value(given):
    with pytest.raises(EditError, match=r"value of an edit is .*; expected a number"):
        Edit(pos=1, layer=0, kind="scale", value=given)


@pytest.mark.parametrize("label", ["scale:1e300", "scale:-1e39", "set_norm:1e300", "steer:1e39"])
def test_a_value_beyond_float32_is_refused(label):
    with pytest.raises(EditError, match=r"expected a finite number.*3\.4e\+38"):
        Edit.of_label(label, pos=1, layer=0)


IDLE = {
    "seed of zero": {"kind": "zero", "seed": 3},
    "seed of scale": {"kind": "scale", "value": 2.0, "seed": 3},
    "seed of mean": {"kind": "mean", "seed": 3},
    "mean of zero": {"kind": "zero", "over": "twins"},
    "mean of none": {"kind": "none", "over": "reference"},
    "mean of a patch": {"kind": "patch", "donor": 3, "over": "twins"},
}


@pytest.mark.parametrize("fields", IDLE.values(), ids=IDLE)
def test_a_field_that_the_kind_does_not_read_is_refused(fields):
    with pytest.raises(EditError, match=f"edit '{fields['kind']}' takes no (seed|mean over)"):
        Edit(pos=1, layer=0, **fields)


@pytest.mark.parametrize("label", ["zero:", "mean:", "twins:", "resample:", "rotate:90:", "patch:"])
def test_a_label_with_nothing_after_a_colon_is_refused(label):
    with pytest.raises(EditError, match=f"(cannot read|unknown) edit '{label.rstrip(':')}"):
        Edit.of_label(label, pos=1, layer=0)


@pytest.mark.parametrize(("label", "near"), [("twin", "twins"), ("zeroo", "zero")])
def test_an_unknown_label_is_refused_with_the_nearest_one_and_all_others(label, near):
    said = f"unknown edit '{label}'; did you mean '{near}'.*mean, .*twins"
    for read in (lambda: Edit.of_label(label, pos=1, layer=0), lambda: check_recipe(label)):
        with pytest.raises(EditError, match=said):
            read()


def test_an_edit_is_no_label():
    with pytest.raises(EditError, match="expected the label of an edit, got Edit"):
        Edit.of_label.__wrapped__(Edit(pos=1, layer=0), pos=1, layer=0)


def test_units_have_the_width_that_the_site_says():
    config = SimpleNamespace(n_heads=12, n_key_value_heads=4, d_mlp=64, d_model=48)
    widths = dict.fromkeys((site.name for site in SITES if site.in_residual), 48)
    widths |= {"z": 12, "post": 64, "q": 12, "k": 4, "v": 4, "attn_scores": 12, "pattern": 12}
    assert {site.name: site.n_units(config) for site in SITES} == widths
    config.n_key_value_heads = None
    assert {site.name: site.n_units(config) for site in SITES} == widths | {"k": 12, "v": 12}
    assert set(OFFERED) == {site.name for site in SITES if not site.of_pair}
