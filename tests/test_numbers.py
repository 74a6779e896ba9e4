"""Numbers as users give them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from secondary_sinks.errors import SinkError
from secondary_sinks.numbers import finite_number, true_or_false, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_whole_numbers_of_any_library_become_int(value):
    assert type(whole_number("n", value, SinkError, 3)) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 2.0, "3", None, math.nan, 2, -1]
)
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(SinkError, match=r"n is .*; expected a whole number of at least 3"):
        whole_number("n", value, SinkError, 3)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)])
def test_truth_values_of_any_library_become_bool(value):
    assert true_or_false("b", value, SinkError) is True


@pytest.mark.parametrize("value", [1, 0.0, "no", "", None, np.array([True]), math.nan])
def test_no_truth_value_is_refused_by_name(value):
    with pytest.raises(SinkError, match=r"b is .*; expected True or False"):
        true_or_false("b", value, SinkError)


@pytest.mark.parametrize("value", [0.5, 2, np.float32(0.5), Fraction(1, 2)])
def test_finite_numbers_become_float(value):
    assert type(finite_number("x", value, SinkError, 0.0)) is float


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -0.5, 10**400, "1", None, np.ones(1)])
def test_no_finite_number_is_refused_by_name(value):
    with pytest.raises(SinkError, match=r"x is .*; expected a finite number of at least 0"):
        finite_number("x", value, SinkError, 0.0)
