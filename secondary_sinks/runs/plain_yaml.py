"""YAML as plain data: limited in size, runs no code, and raises only `ValueError`.

PyYAML itself passes on any error of its converters (`!!bool maybe` is a `KeyError`), expands merge
keys without a limit, and keeps only the last of two equal keys.
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

MOST_VALUES = 20_000
"""Most keys and values of a file, counted with every alias expanded."""


def load(content: str) -> Any:
    """The data of a YAML document. Raises `ValueError` that says what is wrong, and on which line.

    >>> load("a: &x [1, 2]\\nb: *x")
    {'a': [1, 2], 'b': [1, 2]}
    """
    try:
        loader = _Loader(content)
        loader.name = "the file"  # shown in messages, next to the line
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """Loads plain data only; an error of a converter names the value and its line."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        # YAML 1.1 reads 1:30, 010, 1_0 and 0x10 as 90, 8, 10 and 16.
        number = isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float"))
        if number and re.search(r"[:_]|^[-+]?0[0-9box]", node.value):
            raise _at(node, f"{node.value!r:.60} is not decimal; write it so, or put it in quotes")
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # each converter raises errors of its own
            found = f"{node.value!r:.60}" if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
            raise _at(node, f"{found} is not a valid {node.tag.rpartition(':')[2]}") from error


def _check_size(root: Any) -> None:
    """Refuse too many keys and values, counted with every alias expanded."""
    sizes: dict[int, int] = {}

    def size_of(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # while its children are counted
            sizes[id(node)] = 1 + sum(map(size_of, _parts(node)))
        elif not sizes[id(node)]:
            raise _at(node, "a value holds an alias of itself")
        return sizes[id(node)]

    found = size_of(root)
    if found > MOST_VALUES:
        shown = f"{found:,}" if found < 10**12 else "over 10^12"
        raise ValueError(
            f"{shown} keys and values, with aliases written out; expected at most {MOST_VALUES:,}"
        )


def _parts(node: Any) -> Sequence[Any]:
    """The direct children of a node."""
    if isinstance(node, yaml.MappingNode):
        seen = set()  # a repeated key is refused, as in TOML
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise _at(key, f"key {key.value!r:.60} appears twice")
            seen.add((key.tag, key.value))
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _at(node: Any, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
