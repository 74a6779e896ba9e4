"""docs/conformance.md names every variant of the families, for both lines of TransformerLens."""

import re
from pathlib import Path

import pytest

from secondary_sinks.testing.families import configs

DOC = Path(__file__).parents[2] / "docs" / "conformance.md"
CLASSES = {"3": {"HookedTransformer", "TransformerBridge"}, "4": {"TransformerBridge"}}


def tables():
    """Rows of the table of each major version: (variant, class, errors)."""
    parts = re.split(r"^## TransformerLens (\d)\S*, .*$", DOC.read_text("utf-8"), flags=re.M)
    return {
        major: [
            (cells[0], cells[1], [float(cell) for cell in cells[2:]])
            for cells in (line.strip("| ").split(" | ") for line in body.splitlines())
            if len(cells) == 8 and cells[0] != "variant"
        ]
        for major, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("major", CLASSES)
def test_every_variant_stands_there_once_per_class_in_the_order_of_the_families(major):
    rows = [(variant, kind) for variant, kind, _ in tables()[major]]
    for kind in CLASSES[major]:
        assert [variant for variant, other in rows if other == kind] == list(configs())
    assert {kind for _, kind in rows} == CLASSES[major]


@pytest.mark.parametrize("major", CLASSES)
def test_no_error_there_is_more_than_rounding(major):
    assert max(max(errors) for *_, errors in tables()[major]) <= 1e-5
