"""Marks of tests: what needs HookedTransformer, and what only `make test-all` runs."""

import pytest

from tools.conformance import model_classes

OLD = "HookedTransformer" in model_classes()
needs_old = pytest.mark.skipif(not OLD, reason="TransformerLens 4 has no HookedTransformer")

exhaustive = pytest.mark.exhaustive
"""A further case of something that `make test` proves by a case that tells as much."""


def thinned(cases, kept, *, unpack=False):
    """All `cases` as parameters of a test; `make test` runs only those in `kept`.

    With `unpack` each case is a tuple of several parameters.
    """
    assert all(case in cases for case in kept), "what is kept must be a case"
    return [
        pytest.param(*(case if unpack else (case,)), marks=() if case in kept else exhaustive)
        for case in cases
    ]
