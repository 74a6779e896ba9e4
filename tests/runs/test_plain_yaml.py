"""YAML is plain data within bounds, or a `ValueError` that names the line and the number."""

import time

import pytest

from secondary_sinks.runs.plain_yaml import MOST_VALUES, load

TAGS = ["bool", "int", "float", "timestamp", "map", "seq", "set", "omap", "pairs", "null", "str"]
TAGS += ["binary", "merge", "value"]
VALUES = ["maybe", '""', "x", "[a]", "{a: b}", "{=: x}", "-", "_", "0x", "1:99:", "~", "[[a, b]]"]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("value", VALUES)
def test_any_value_behind_any_tag_is_data_or_one_error(tag, value):
    try:
        load(f"key: !!{tag} {value}")
    except ValueError as error:
        assert "line 1" in str(error)  # noqa: PT017  most of these values are right


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a: 1\ntrace: !!bool maybe", "'maybe' is not a valid bool in \"the file\", line 2"),
        ('a: 1\nlayers: !!int ""', "'' is not a valid int in \"the file\", line 2"),
        ('layers: !!float ""', "'' is not a valid float"),
        ("seed: !!timestamp x", "'x' is not a valid timestamp"),
        ("thresholds: !!map [a]", "expected a mapping node, but found sequence"),
        ("trace: !!bool {=: maybe}", "a mapping is not a valid bool"),
        ("date: 2024-13-45", "'2024-13-45' is not a valid timestamp"),
        ("a: 1\na: 2", "key 'a' appears twice in \"the file\", line 2"),
        ("a: {b: 1, 3: x, 3: y}", "key '3' appears twice"),
        ("layers: 1:30", "'1:30' is not decimal"),
        ("seed: 010", "'010' is not decimal"),
        ("seed: 1_0", "'1_0' is not decimal"),
        ("outlying: 1_0.5", "'1_0.5' is not decimal"),
        ("aligned: 1:30.5", "'1:30.5' is not decimal"),
        ("a: &a [*a]", "holds an alias of itself"),
    ],
)
def test_a_fault_is_named_with_its_line(content, named):
    with pytest.raises(ValueError, match="line") as error:
        load(content)
    assert named in str(error.value)


def nested(first, again, depth):
    """Every anchor holds the one before nine times."""
    lines = [f"a0: &a0 {first}"]
    return "\n".join(lines + [f"a{n}: &a{n} {again(f'*a{n - 1}')}" for n in range(1, depth)])


BOMBS = {
    "aliases": nested("[x]", lambda one: f"[{', '.join([one] * 9)}]", 11),
    "merge keys": nested("{x: y}", lambda one: f"{{<<: [{', '.join([one] * 9)}]}}", 11),
    "endless": nested("[x]", lambda one: f"[{', '.join([one] * 9)}]", 40),
    "many keys": "\n".join(f"k{n}: 1" for n in range(10_001)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_grow_is_refused_with_the_number(name):
    began = time.process_time()
    with pytest.raises(ValueError, match=r"[\d^,]+ keys and values, .* expected at most 20,000"):
        load(BOMBS[name])
    assert name == "many keys" or time.process_time() - began < 1


def test_as_many_values_as_are_allowed_are_read():
    content = f"[{'x,' * (MOST_VALUES - 1)}]"
    assert len(load(content)) == MOST_VALUES - 1


def test_numbers_are_what_they_look_like():
    found = load("[0, 7, -3, 0.5, -0.25, 1e3, 1.0e+3, '0:11', '010', 10:x]")
    assert found == [0, 7, -3, 0.5, -0.25, "1e3", 1000.0, "0:11", "010", "10:x"]


def test_aliases_and_merge_keys_are_written_out():
    found = load(
        "base: &b {x: 1, y: 2}\nmine:\n  deep: &d\n    <<: *b\n    y: 3\nlast: {<<: *d, z: 4}"
    )
    assert found["mine"] == {"deep": {"x": 1, "y": 3}}
    assert found["last"] == {"x": 1, "y": 3, "z": 4}
