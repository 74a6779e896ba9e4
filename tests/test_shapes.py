"""Shapes of the package are checked while tests run, at the first calls of each function."""

import dataclasses

import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.measures import attention_mass
from tests.shapes import FIRST, check, sample


@pytest.fixture
def checking():
    return jaxtyping.jaxtyped.whole(typechecker=beartype)


def test_functions_of_the_package_are_checked():
    assert attention_mass.__wrapped__.__module__ == "secondary_sinks.measures.attention"
    assert attention_mass.__code__.co_filename.endswith("shapes.py")


def test_a_wrong_shape_is_an_error(checking):
    def add(one: Float[Tensor, "pos"], other: Float[Tensor, "pos"]) -> Float[Tensor, "pos"]:
        return one + other

    checked = check(add, checking)
    assert checked(torch.ones(2), torch.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(torch.ones(2), torch.ones(1))


def test_a_wrong_field_is_an_error(checking):
    @dataclasses.dataclass
    class Limits:
        aligned: float

    checked = check(Limits, checking)
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(aligned="much")


def test_a_function_is_checked_at_its_first_calls():
    called = sample(lambda: "plain", lambda plain: lambda: "checked")
    assert [called() for _ in range(FIRST + 2)] == ["checked"] * FIRST + ["plain"] * 2
