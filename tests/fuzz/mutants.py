"""Values that are nearly right: a good one with one part replaced, dropped or added."""

import copy

from hypothesis import strategies as st

LARGE = [2**31, 2**53, 2**63, 10**30, -1, 0, 0.5, 1e308, float("inf"), float("nan")]
WORDS = ["", " ", "\0", "../..", "\x1b[2J", "\u202e", "0-3", "null", "x" * 300, "\ud800"]
json_values = st.recursive(
    st.none() | st.booleans() | st.sampled_from(LARGE) | st.sampled_from(WORDS) | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def places(value, at=()):
    """Where in plain data something can be replaced: the paths to all its parts."""
    found = [at]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*at, key))
    return found


@st.composite
def mutants(draw, value, most=2):
    """Plain data like `value`, in which up to `most` parts are others or missing."""
    mutant = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.sampled_from(places(mutant)))
        if not place:
            return draw(json_values)
        parent = mutant
        for key in place[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[place[-1]] = draw(json_values)
        else:
            del parent[place[-1]]
    return mutant


@st.composite
def damaged(draw, content, most=3):
    """Bytes like `content`, cut, or with a few others in the place of some."""
    found = bytearray(
        content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content
    )
    for _ in range(draw(st.integers(0, most)) if found else 0):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found)
