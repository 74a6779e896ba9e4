"""What is given to the plain results comes through unchanged, or is refused by name."""

import inspect

import pytest

from secondary_sinks.errors import DetectionError, EditError
from secondary_sinks.types import (
    Edit,
    Effects,
    Rule,
    SinkTable,
    load_cells,
    parse_layers,
)

NO_EDITS = {
    "an edit of nothing": (Edit.from_json, None, "expected an edit in JSON; got None"),
    "a rule of a number": (Rule.from_json, 3, "expected a rule in JSON; got 3"),
    "lines of nothing": (load_cells, None, "expected lines of edits in JSON; got None"),
    "a donor that is a word": (
        lambda label: Edit.of_label(label, pos=1, layer=0),
        "patch:foo",
        "cannot read edit 'patch:foo' .'foo' is not a whole number in plain digits",
    ),
    "a value that no float equals": (
        lambda label: Edit.of_label(label, pos=1, layer=0),
        "scale:9007199254740993",
        "cannot read edit .* has more digits than a float holds",
    ),
}


@pytest.mark.parametrize(("call", "given", "said"), NO_EDITS.values(), ids=NO_EDITS)
def test_what_is_no_edit_is_refused(call, given, said):
    with pytest.raises(EditError, match=said):
        inspect.unwrap(call)(given)


@pytest.mark.parametrize("words", ["", "2-", "x", "1_0", "\u0661", "3-2", "2, 2"])
def test_what_is_no_list_of_layers_is_refused(words):
    with pytest.raises(ValueError, match=r"not a whole number|not ascending"):
        parse_layers(words)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sinks": "", "thresholds": None}, "sinks is ''; expected a tuple of Sink"),
        ({"sinks": (), "thresholds": 0}, "thresholds is 0; expected Thresholds"),
        ({"sinks": (), "near": [3]}, r"near is \[3\]; expected a tuple of Sink"),
    ],
)
def test_a_table_holds_sinks_and_thresholds(fields, said):
    table = SinkTable(sinks=())
    for name, value in fields.items():
        object.__setattr__(table, name, value)
    with pytest.raises(DetectionError, match=said):
        table.__post_init__()


@pytest.mark.parametrize("rows", ["", 0, [3], None])
def test_effects_hold_effects(rows):
    table = Effects(rows=())
    object.__setattr__(table, "rows", rows)
    with pytest.raises(EditError, match="expected a tuple of Effect"):
        table.__post_init__()


def test_sinks_are_asked_for_by_the_id_of_a_text_and_by_kind():
    table = SinkTable(sinks=())
    with pytest.raises(DetectionError, match="text_id is 5; expected the id of a text"):
        inspect.unwrap(SinkTable.of_text)(table, 5)
    with pytest.raises(DetectionError, match="unknown kind of sink None; expected one of primary"):
        inspect.unwrap(SinkTable.of_kind)(table, None)
