"""The first lines of a run: is this the paper's phenomenon, in words that follow from numbers."""

import shlex
from dataclasses import asdict

import pytest
import torch

from secondary_sinks.detection import compare_with_paper
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.report.phenomenon import (
    MORE_TEXT,
    TITLE,
    WITH_LATER_SINKS,
    in_words,
    phenomenon_lines,
)
from secondary_sinks.texts import bundled_corpus
from secondary_sinks.types import SinkTable
from tests.detection.traces import sink

LONG = {"a": torch.arange(20_000)}


def told(*secondary, tokens=LONG, theirs=(), others=(), n_layers=24):
    first = [sink(name, 0, 2, 20, kind="primary", mass_max=0.9) for name in tokens]
    ours = SinkTable(sinks=(*first, *secondary, *others))
    found = compare_with_paper(ours, SinkTable(sinks=tuple(theirs)), tokens, n_layers=n_layers)
    return dict(in_words(found))


def test_what_most_sinks_are_and_what_not():
    early = [sink(pos=9 + n, l_start=2) for n in range(3)]
    lines = told(*early, theirs=early[:1])
    assert lines[TITLE] == (
        "No. Of 3 distinct secondary sinks, 3 draw less attention than the primary, 0 arise at a "
        "later layer than the primary, 0 arise in the middle layers and 1 is found by the paper's "
        "rule."
    )
    assert lines["sinks nearer to it"] == WITH_LATER_SINKS


def test_one_sink_that_is_all_of_it_and_needs_no_other_model():
    late = sink(l_start=10)
    lines = told(late, theirs=[late])
    assert lines[TITLE].startswith("Yes. Of 1 distinct secondary sink, 1 draws less attention")
    assert "only" not in lines[TITLE]
    assert "sinks nearer to it" not in lines
    assert "sinks nearer to it" not in told(late), "in part"


def test_criteria_that_different_sinks_meet_are_not_met_together():
    sinks = [sink(pos=9 + n, l_start=10, mass_max=0.95 if n == 0 else 0.5) for n in range(3)]
    assert "But only 1 of them meet" in told(*sinks, theirs=sinks[:2])[TITLE]


def test_every_layer_is_listed_and_one_is_singular():
    sinks = [sink(pos=9 + n, l_start=layer) for n, layer in enumerate([3, 3, 3, 4, 5, 6, 7])]
    lines = told(*sinks)
    assert "layer 3 (3), layer 4 (1), layer 5 (1), layer 6 (1) and layer 7 (1)" in lines["layers"]
    assert "the primary at layer 2 (1): 2 layers later in the median" in lines["layers"]
    assert ": 1 layer later" in told(sink(l_start=3))["layers"]
    assert "The middle third is 8 to 15 of layers 0 to 23" in lines["layers"]
    assert lines["our criterion"].startswith(
        "7 secondary sinks in 1 text, no copies; 0 transient ("
    )


def test_copies_and_transient_tokens_are_counted():
    texts = {name: torch.arange(9_000) for name in "ab"}
    pair = [sink("a"), sink("b", copy_of="a")]
    line = told(*pair, tokens=texts, others=[sink(pos=30, kind="transient")])["our criterion"]
    assert "2 secondary sinks in 2 texts, 1 distinct and 1 copy (the same tokens" in line
    assert line.endswith("; 1 transient (too brief or too weak)")


def test_the_papers_rule_has_labels_of_its_own():
    late = [sink(pos=pos, l_start=10, label="bos_sink", criterion="paper") for pos in (9, 10)]
    line = told(sink(l_start=10), theirs=late)["the paper's rule"]
    assert line == (
        "finds 2 tokens other than the primary: 0 secondary, 2 bos_sink and 0 noise by its own "
        "label (secondary: a lifetime of 5 to 8 layers)"
    )
    shallow = told(sink(l_start=3), theirs=late, n_layers=20)["the paper's rule"]
    assert "impossible in a model of 20 layers" in shallow


def test_a_rate_is_a_plain_number_next_to_those_of_the_paper_or_needs_more_text():
    line = told(*(sink(pos=9 + n) for n in range(250)))["per 10,000 tokens"]
    assert line == (
        "125 by our criterion, 0 by the paper's rule and label; the authors' detections have 0.85 "
        "to 1.3 (DeepSeek-R1-Distill-Qwen-14B) and 3.4 (Qwen3-4B-Base)"
    )
    short = told(sink(), tokens={"a": torch.arange(6_869)})["per 10,000 tokens"]
    assert short == (
        "a rate needs more text: 6,869 tokens would hold 0.58 to 2.3 secondary sinks at the rates "
        "of the authors' detections, 0.85 to 1.3 (DeepSeek-R1-Distill-Qwen-14B) and 3.4 "
        "(Qwen3-4B-Base)"
    )


def test_short_texts_without_sinks_say_nothing_of_the_model():
    assert told()[TITLE] == "No: these texts have no secondary sink."
    assert "too few to say so of the model" in told(tokens={"a": torch.arange(500)})[TITLE]
    assert told()["sinks nearer to it"] == WITH_LATER_SINKS
    short = told(tokens={"a": torch.arange(500)})["sinks nearer to it"]
    assert short == MORE_TEXT + WITH_LATER_SINKS


def test_the_command_names_a_model_and_texts_that_there_are():
    words = shlex.split(WITH_LATER_SINKS)
    assert words[:2] == ["secondary-sinks", "run"]
    assert resolve(words[2]).path == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert bundled_corpus(words[words.index("--texts") + 1].removeprefix("bundled:"))


def test_a_record_gives_the_same_lines_and_an_older_one_says_so():
    found = compare_with_paper(SinkTable(sinks=()), SinkTable(sinks=()), LONG, n_layers=8)
    plain = {name: [*v] if isinstance(v, tuple) else v for name, v in asdict(found).items()}
    assert phenomenon_lines({"phenomenon": plain | {"more": 1}}) == in_words(found)
    with pytest.raises(KeyError):
        phenomenon_lines({"phenomenon": {}})
    assert "made by an older version" in phenomenon_lines({})[0][1]


def test_where_sinks_stand_and_that_a_rate_depends_on_the_length_of_texts():
    early = [sink(pos=pos, l_start=5) for pos in (2, 9, 57)]
    said = told(*early)["in the text"]
    assert said == (
        "at positions 2 to 57 (median 9), in a text of 20,000 tokens: only near the start, so a "
        "rate per token depends on the length of texts"
    )
    spread = told(*early, sink(pos=7_000, l_start=5))["in the text"]
    assert spread == "at positions 2 to 7,000 (median 9), in a text of 20,000 tokens"
    texts = LONG | {"b": torch.arange(100, 30_100)}
    assert told(*early, tokens=texts)["in the text"].endswith(
        ", in texts of 20,000 to 30,000 tokens: only near the start, so a rate per token depends "
        "on the length of texts"
    )
    assert told(sink(pos=7_000, l_start=5))["in the text"].startswith("at position 7,000, in")
    assert "in the text" not in told()


def test_a_record_of_an_older_version_does_not_say_where():
    late = sink(l_start=10)
    ours = SinkTable(sinks=(sink("a", 0, 2, 20, kind="primary", mass_max=0.9), late))
    facts = asdict(compare_with_paper(ours, SinkTable(sinks=()), LONG, n_layers=24))
    del facts["positions"], facts["lengths"]
    assert "in the text" not in dict(phenomenon_lines({"phenomenon": facts}))
