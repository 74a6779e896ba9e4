"""Is it the paper's phenomenon? Planted models whose answer follows from how they were made."""

from dataclasses import asdict, replace

import pytest
import torch

from secondary_sinks import detect, observe, phenomenon
from secondary_sinks.detection import compare_with_paper, n_alike, shared_lengths
from secondary_sinks.detection.phenomenon import CRITERIA, PER, n_distinct_tokens
from secondary_sinks.errors import DetectionError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import SinkTable
from tests.detection.traces import sink

LAYERS = 24
PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
TEXT = torch.arange(20_000)
LONG = {"a": TEXT}


def told(plants, n_layers=LAYERS, texts=None):
    """The answer on a planted text, or on changes of it."""
    planted = plant([PRIMARY, *plants], n_layers=n_layers)
    tokens = [planted.tokens] if texts is None else texts(planted.tokens)
    traces = [observe(planted.model, one, text_id=str(n)) for n, one in enumerate(tokens)]
    return phenomenon(traces, detect(traces))


def of(*secondary, others=(), tokens=LONG, theirs=(), n_layers=LAYERS, primary=2):
    """The answer on a table made by hand."""
    texts = {one.text_id for one in (*secondary, *others)} | set(tokens)
    first = [sink(name, 0, primary, 20, kind="primary", mass_max=0.9) for name in sorted(texts)]
    ours = SinkTable(sinks=(*first, *secondary, *others))
    found = SinkTable(sinks=tuple(replace(one, criterion="paper") for one in theirs))
    return compare_with_paper(ours, found, tokens, n_layers=n_layers)


def test_late_sinks_of_middle_layers_are_the_papers_phenomenon():
    found = told([Plant(pos=20, forming=(9,), dies=16), Plant(pos=30, forming=(12,), dies=20)])
    assert found.answer == "yes"
    assert [getattr(found, name) for name in CRITERIA] == [True] * 4
    assert (found.n_secondary, found.n_distinct, found.n_all, found.n_transient) == (2, 2, 2, 0)
    assert found.layers_after == 9.5
    assert {layer: n for layer, n in enumerate(found.created_at) if n} == {9: 1, 12: 1}
    assert {layer: n for layer, n in enumerate(found.primary_at) if n} == {1: 1}
    assert (found.n_by_paper, found.n_labelled) == (2, (2, 0, 0))
    assert (found.middle, found.label_lifetimes) == ((8, 15), (5, 8))


def test_sinks_that_arise_in_the_primarys_own_layer_are_not():
    found = told([Plant(pos=20, forming=(1,), dies=9), Plant(pos=30, forming=(1,), dies=6)])
    assert found.answer == "no"
    assert (found.after_primary, found.in_middle_layers) == (False, False)
    assert (found.weaker_than_primary, found.found_by_paper) == (True, True)
    assert (found.n_after_primary, found.layers_after) == (0, 0.0)
    assert found.n_labelled == (2, 0, 0), "the label hangs on the lifetime alone"


def test_sinks_of_early_layers_that_arise_after_the_primary_are_so_in_part():
    found = told([Plant(pos=20, forming=(3,)), Plant(pos=30, forming=(3,), dies=9)])
    assert found.answer == "partly"
    assert (found.after_primary, found.in_middle_layers, found.found_by_paper) == (
        True,
        False,
        True,
    )
    assert found.n_labelled == (1, 1, 0), "one lives for 20 of 24 layers: a bos_sink for the rule"


def test_the_papers_label_needs_a_deep_model():
    found = told([Plant(pos=20, forming=(3,), dies=6)], n_layers=8)
    assert found.answer == "yes"
    assert found.n_labelled == (0, 1, 0)
    assert found.label_lifetimes == (5, -8), "no lifetime is secondary"


def test_copies_of_a_prefix_count_once():
    def two_more(tokens):
        other = tokens.clone()
        other[35:] = other[35:].flip(0)
        return tokens, other, tokens

    found = told([Plant(pos=20, forming=(9,)), Plant(pos=30, forming=(9,))], texts=two_more)
    assert (found.n_secondary, found.n_distinct, found.n_after_primary) == (6, 2, 2)
    assert (found.n_texts, found.n_tokens, found.n_tokens_distinct) == (3, 192, 64 + 29)
    assert sum(found.created_at) == found.n_by_paper == 2
    assert sum(found.primary_at) == 3


def test_no_sinks_and_what_is_transient():
    found = told([Plant(pos=20, forming=(9,), dies=11)])
    assert (found.answer, found.n_distinct, found.n_transient) == ("no sinks", 0, 1)
    assert [getattr(found, name) for name in CRITERIA] == [False] * 4
    assert found.layers_after != found.layers_after


def test_most_sinks_decide_and_a_half_is_not_most():
    late, early = [sink(pos=9 + n, l_start=10) for n in range(3)], sink(pos=30, l_start=2)
    assert of(*late, early, theirs=late).answer == "yes"
    two = [*late[:2], early, replace(early, pos=31)]
    half = of(*two, theirs=late)
    assert (half.answer, half.after_primary, half.n_after_primary, half.n_all) == (
        *("partly", False),
        *(2, 2),
    )
    assert of(early, replace(late[0], mass_max=0.95)).answer == "no", "found by ours alone"
    assert of(replace(late[0], mass_max=0.95), theirs=late).weaker_than_primary is False


def test_a_copy_whose_first_is_transient_counts_once():
    first = sink("a", kind="transient")
    found = of(
        sink("b", copy_of="a"),
        sink("c", copy_of="a"),
        others=[first],
        tokens={name: torch.arange(40) for name in "abc"},
    )
    assert (found.n_secondary, found.n_distinct, found.n_transient) == (2, 1, 1)


def test_a_rate_needs_as_much_text_as_holds_three_sinks_at_the_papers_rate():
    enough, late = round(3 / 3.4 * PER) + 1, sink(l_start=10)
    found = of(late, theirs=[replace(late, label="secondary")], tokens={"a": TEXT[:enough]})
    assert found.rate == found.rate_by_paper == pytest.approx(PER / enough)
    assert found.expected == pytest.approx((0.85 / 3.4 * 3, 3), rel=1e-3)
    short = of(late, tokens={"a": TEXT[: enough - 2]})
    assert short.rate != short.rate
    same = of(late, tokens={"a": TEXT[: enough - 2], "b": TEXT[: enough - 2]})
    assert same.rate != same.rate, "the same tokens again are no more text"


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        ([], 0),
        ([[1, 2, 3]], 3),
        ([[1, 2, 3], [1, 2, 3]], 3),
        ([[1, 2, 3], [1, 2], [1, 4, 3]], 5),
        ([[2, 9], [1, 9], [2, 8, 9]], 6),
    ],
)
def test_tokens_of_a_shared_beginning_count_once(texts, number):
    prefixes = {tuple(text[: n + 1]) for text in texts for n in range(len(text))}
    assert n_distinct_tokens(map(torch.tensor, texts)) == number == len(prefixes)


def test_what_earlier_texts_begin_with_is_that_of_comparing_each_with_each():
    chance = torch.Generator().manual_seed(0)
    for _ in range(200):
        lengths = torch.randint(0, 6, (9,), generator=chance).tolist()
        texts = [torch.randint(255, 258, (length,), generator=chance) for length in lengths]
        slow = [max((n_alike(a, b) for a in texts[:n]), default=0) for n, b in enumerate(texts)]
        assert shared_lengths(texts) == slow


def test_other_tables_are_refused():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    for table, said in (
        (detect(trace, criterion="paper"), "criterion 'paper'"),
        (sinks.of_kind("secondary"), "but not its primary"),
        (detect(replace(trace, text_id="b")), "text 'b', of which no trace"),
    ):
        with pytest.raises(DetectionError, match=said):
            phenomenon(trace, table)
    with pytest.raises(DetectionError, match="no trace was given"):
        phenomenon([], sinks)
    assert asdict(phenomenon(trace, sinks)) == asdict(phenomenon([trace], sinks))
