"""Levels of (l_start, lifetime), of ours and of released detections; what the tokens are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments import sink_levels, sink_tokens
from secondary_sinks import find_levels
from secondary_sinks.detection.levels import assign_levels
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import SinkTable
from tests.detection.traces import sink
from tests.experiments.known import garden


def named(*tokens, others=(" word",)):
    """The plain garden, with strings at the planted positions, and in turn at all other places."""
    observed, traces = garden("plain"), []
    for trace in observed.traces:
        strings = [others[pos % len(others)] for pos in range(len(trace.tokens))]
        for pos, token in zip((12, 24, 36), tokens, strict=True):
            strings[pos] = token
        traces.append(replace(trace, token_strings=tuple(strings)))
    by_pos = dict(zip((12, 24, 36), tokens, strict=True))
    sinks = tuple(
        replace(sink, token=by_pos.get(sink.pos, sink.token)) for sink in observed.sinks.sinks
    )
    return replace(observed, traces=tuple(traces), sinks=replace(observed.sinks, sinks=sinks))


@pytest.mark.parametrize(
    ("tokens", "outcome"),
    [((" ", "7", "\n"), "supported"), ((" the", " a", "7"), "inconclusive"), (("x",) * 3, "con")],
)
def test_tokens_with_and_without_letters(tokens, outcome):
    finding = sink_tokens.run(named(*tokens))
    assert finding.verdict.outcome.startswith(outcome)
    assert sorted(finding.frame["token"]) == sorted(tokens)


@pytest.mark.parametrize(
    ("others", "elsewhere", "outcome"),
    [
        (("+",), 1.0, "inconclusive"),
        (("+", "=", " x"), 0.64, "inconclusive"),
        ((" x", "="), 0.53, "inconclusive"),
        ((" x",) * 11 + ("=",), 0.075, "supported"),
    ],
)
def test_in_a_text_of_symbols_random_tokens_have_no_letter_either(others, elsewhere, outcome):
    """Where few tokens are words, nothing is shown of sinks in particular, nor refuted."""
    verdict = sink_tokens.run(named("+", "=", "7", others=others)).verdict
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(1 - elsewhere, abs=0.005)
    words = f"100% of the sinks hold no letter, and {1 - verdict.value:.0%} of the ordinary tokens"
    assert verdict.why.startswith(words)


def test_tokens_are_counted_against_all_that_there_are():
    finding = sink_tokens.run(named(" the", " ", "7"))
    row = finding.frame[finding.frame["token"] == " the"].iloc[0]
    assert (row["n_sinks"], row["n_texts"], row["n_occurrences"]) == (8, 8, 16)
    assert (row["share"], row["per_10k"]) == (0.5, 1e4 * 8 / (8 * 64))
    assert row["place"] == pytest.approx(12 / 63)
    assert (row["kind"], len(finding.tables["places"])) == ("letters", 24)


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (" the", "letters"),
        ("3rd", "letters"),
        ("中", "letters"),
        (" 42", "digits"),
        ("½", "digits"),
        (", ", "punctuation"),
        ("<", "punctuation"),
        ("\n", "white space"),
        ("<|im_start|>", "special"),
        ("<s>", "special"),
    ],
)
def test_what_a_token_holds(token, kind):
    assert sink_tokens.kind_of(token) == kind


def released(path, pairs):
    """A file in the authors' format: one text per pair of (l_start, lifetime)."""
    lines = []
    for index, (start, lifetime) in enumerate(pairs):
        found = {
            "0": {"layer": list(range(2, 46)), "token_id": 1, "sink_type": "bos_sink"},
            str(100 + index): {
                "layer": list(range(start, start + lifetime)),
                "token_id": 7,
                "sink_type": "secondary",
            },
        }
        lengths = {"prompt_len": 50, "response_len": 950, "full_text_len": 1000}
        lines.append(json.dumps({"candidate_sinks": found, "sample_index": index, **lengths}))
    path.write_text("\n".join(lines))
    return path


SCATTERED = [(4 + 3 * n, 5 + (5 * n) % 17) for n in range(12)]


@pytest.mark.parametrize(
    ("pairs", "outcome", "told"),
    [
        (
            [(22, 23)] * 12 + [(10, 5)] * 6,
            "inconclusive",
            "counted in: 2 levels for 100% of 18 sinks: (10, 5) with 6",
        ),
        (
            [(22, 23)] * 12,
            "inconclusive",
            "one level, not several: 1 level for 100% of 12 sinks: (22, 23) with 12",
        ),
        (
            [(22, 22)] * 6 + [(22, 23)] * 7 + [(22, 24)] * 4,
            "inconclusive",
            "; 2 cells of the heat map with at least 5 sinks",
        ),
        (SCATTERED, "contradicted", "0 levels for 0% of 12 sinks: none"),
        (SCATTERED[:8], "inconclusive", "in fewer than 10 texts a level may remain undetected"),
        # Six levels, two or three texts each: no level is detected, and all sinks are in one.
        ([(4 + 5 * (n % 6), 12) for n in range(16)], "inconclusive", "0 levels for 0% of 16 sinks"),
        ([(22, 23)] * 4, "inconclusive", "no secondary sink could be tested (4 in fewer than 5"),
    ],
    ids=["two levels", "same", "neighbours", "scattered", "few texts", "undetected", "too few"],
)
def test_levels_of_released_detections(tmp_path, pairs, outcome, told):
    path = released(tmp_path / "theirs.jsonl", pairs)
    finding = sink_levels.run(garden("plain"), released=[path])
    theirs = finding.further[0]
    assert (finding.verdict.outcome, theirs.outcome) == ("inconclusive", outcome)
    assert finding.verdict.why.startswith("one level, not several: ")
    assert finding.verdict.n_claims == theirs.n_claims == 2
    assert told in theirs.why
    assert str(path) in theirs.claim
    assert set(finding.frame["model"]) == {"planted", str(path)}
    assert len(finding.figure.data) == 2


def test_levels_that_uniform_noise_seems_to_have_support_nothing():
    """Judged by the same sinks, some of these tables without levels would support the claim."""
    chance, outcomes, several = np.random.default_rng(0), [], 0
    for _ in range(100):
        sinks = tuple(
            sink(text, 9 + number, *map(int, chance.integers(1, 9, 2)))
            for text in range(12)
            for number in range(3)
        )
        source = sink_levels.Source("noise", SinkTable(sinks=assign_levels(sinks)), 12, 20)
        found = find_levels(source.sinks, n_texts=12, resamples=0)
        outcomes.append(sink_levels._verdict(source, found, 1))
        several += len(found.levels) > 1 and outcomes[-1].low > 0.5
    assert several > 10, "the naive answer is wrong too often"
    assert not any(one.outcome == "supported" for one in outcomes)


def test_a_model_without_sinks_beside_one_that_has_some(tmp_path):
    path = released(tmp_path / "theirs.jsonl", [(22, 23)] * 12 + [(10, 5)] * 6)
    finding = sink_levels.run(garden("none"), released=[path])
    assert finding.verdict.outcome == "inconclusive"
    assert "2 levels" in finding.further[0].why
    assert "no secondary sink" in {note.text for note in finding.figure.layout.annotations}


def test_a_file_that_is_none_of_detections_is_named(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text("{}")
    with pytest.raises(DetectionError, match=r"odd\.jsonl"):
        sink_levels.run(garden("plain"), released=[path])
