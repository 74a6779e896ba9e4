"""On planted models every verdict is what was planted, in both directions; and what is none."""

import functools
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import (
    criterion_check,
    mlp_anatomy,
    mlp_directions,
    norm_and_score,
    norms,
    prefix_entropy,
    primary_weakening,
    separability,
    sink_levels,
    sink_tokens,
)
from experiments.members import Members
from secondary_sinks.errors import AttributionError, DetectionError
from secondary_sinks.models.planted import Plant
from tests.experiments.observed import planted
from tests.questions.gardens import PRIMARY, three

MODULES = (
    criterion_check,
    mlp_anatomy,
    mlp_directions,
    norm_and_score,
    norms,
    prefix_entropy,
    primary_weakening,
    separability,
    sink_levels,
    sink_tokens,
)
STRENGTHS = (60.0, 30.0, 120.0, 45.0, 100.0)
"""In no order along the text, so that places don't tell them."""
FIVE = (10, 18, 26, 34, 42)


def loud(model):
    """Values that grow with the sink direction, and are written nowhere."""
    for block in model.blocks:
        block.attn.W_V.data[:, 0, 7] = 5.0
        block.attn.W_O.data[:, 7] = 0.0


def attend(sign):
    """Attention to the planted tokens that follows their strength, or goes against it."""

    def change(model):
        for block in model.blocks:
            for index, strength in enumerate(STRENGTHS, start=1):
                block.attn.W_K.data[:, 3 + 2 * index, 4] += sign * (strength - 70) / 50

    return change


def mute(model):
    """MLPs that write nothing but what is planted in them."""
    for block in model.blocks:
        block.mlp.W_out.data[len(block.mlp.W_out) - 16 :] = 0.0


def strong(**more):
    return [
        Plant(pos=pos, forming=(3,), strength=strength, **more)
        for pos, strength in zip(FIVE, STRENGTHS, strict=True)
    ]


def dying(deaths):
    pairs = zip(FIVE, STRENGTHS, deaths, strict=True)
    return [Plant(pos=pos, forming=(2,), strength=s, dies=d) for pos, s, d in pairs]


def twice():
    """Four sinks of one layer, and one more where the primary has little left to lose."""
    layers = (6, 6, 6, 6, 16)
    return [Plant(pos=8 + 6 * n, forming=(layer,)) for n, layer in enumerate(layers)]


def turns():
    """Four sinks that end in the layer in which another begins; nothing is before the four."""
    first = [Plant(pos=pos, forming=(2,), dies=8, strength=120.0) for pos in (9, 15, 21, 27)]
    return [*first, Plant(pos=35, forming=(8,), strength=30.0)]


GARDENS = {
    "plain": lambda: planted(*three(forming=(3,))),
    "five": lambda: planted(*[Plant(pos=pos, forming=(3,)) for pos in FIVE]),
    "none": lambda: planted(),
    "one": lambda: planted(Plant(pos=20, forming=(3,)), n_texts=1),
    "no twins": lambda: planted(*three(forming=(3,)), twins=False),
    "attention": lambda: planted(
        *[
            Plant(pos=pos, forming=(layer,), by="attention")
            for pos, layer in ((12, 3), (24, 4), (36, 5))
        ]
    ),
    "silent": lambda: planted(
        *[Plant(pos=pos, forming=(3,), by="attention") for pos in (12,)], n_texts=6, change=mute
    ),
    "fewer texts": lambda: planted(*three(forming=(3,)), n_texts=3, n_layers=5),
    "loud": lambda: planted(*three(forming=(3,)), change=loud),
    "anisotropic": lambda: planted(*three(forming=(3,)), anisotropy=30.0),
    "followed": lambda: planted(*strong(attended=True), change=attend(1), n_texts=6),
    "shunned": lambda: planted(*strong(attended=True), change=attend(-1), n_texts=6),
    "strong live": lambda: planted(*dying((5, 3, 7, 4, 6)), n_texts=6),
    "strong die": lambda: planted(*dying((5, 7, 3, 6, 4)), n_texts=6),
    "twice": lambda: planted(*twice(), n_layers=26, n_texts=3),
    "turns": lambda: planted(*turns(), n_layers=14),
    "own ways": lambda: planted(*three(forming=(3,), attended=True, strength=120.0)),
    "one alone": lambda: planted(Plant(pos=20, forming=(3,)), n_layers=5),
}


@functools.cache
def garden(name):
    return GARDENS[name]()


TRUTHS = [
    (norms, "plain", {}, "supported"),
    (norms, "loud", {}, "contradicted"),
    (mlp_anatomy, "plain", {}, "supported"),
    (mlp_anatomy, "attention", {}, "contradicted"),
    (mlp_anatomy, "plain", {"layer": 5}, "contradicted"),
    (mlp_directions, "plain", {}, "supported"),
    (mlp_directions, "five", {"components": 1}, "contradicted"),
    (mlp_directions, "attention", {}, "inconclusive"),
    (mlp_directions, "silent", {}, "inconclusive"),
    (separability, "plain", {}, "supported"),
    (separability, "silent", {}, "contradicted"),
    (norm_and_score, "followed", {"resamples": 199}, "supported"),
    (norm_and_score, "shunned", {"resamples": 199}, "contradicted"),
    (primary_weakening, "twice", {"restore": False}, "supported"),
    (primary_weakening, "turns", {"restore": False}, "contradicted"),
    (prefix_entropy, "plain", {}, "supported"),
    (prefix_entropy, "own ways", {}, "contradicted"),
    (criterion_check, "plain", {}, "supported"),
    (criterion_check, "anisotropic", {}, "contradicted"),
]


@pytest.mark.parametrize(
    ("module", "name", "options", "outcome"),
    TRUTHS,
    ids=lambda part: getattr(part, "NAME", str(part)),
)
def test_the_verdict_is_what_was_planted(module, name, options, outcome):
    finding = module.run(garden(name), **options)
    assert finding.verdict.outcome == outcome, finding.verdict.why
    assert set(finding.frame.columns) == set(finding.columns)
    assert all(finding.columns.values())
    assert len(finding.frame)
    assert len(finding.figure.data)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_without_secondary_sinks_everything_says_so(module):
    finding = module.run(garden("none"))
    assert finding.verdict.outcome == "inconclusive"
    assert math.isnan(finding.verdict.value)
    assert "secondary sink" in finding.verdict.why or "nothing to compare" in finding.verdict.why
    said = finding.figure.layout.annotations[0].text.replace("<br>", " ")
    assert said == finding.verdict.why
    assert list(finding.frame.columns) == list(module.COLUMNS)
    assert finding.frame.empty


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_one_sink_is_shown_and_nothing_is_claimed(module):
    finding = module.run(garden("one"))
    assert finding.verdict.outcome == "inconclusive"
    assert "are needed" in finding.verdict.why or "no secondary sink could be asked" in (
        finding.verdict.why
    )
    assert len(finding.frame)
    assert len(finding.figure.data)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_a_module_says_what_it_asks_and_how_to_run_it(module):
    words = module.__doc__
    assert f"python -m experiments.{module.NAME} " in words
    for word in ("laim", "Method:", "What would refute it:"):
        assert word in words
    assert words.splitlines()[0].endswith(("?", "paper.)"))
    assert module.QUESTION.endswith("?")
    assert importlib.import_module(f"experiments.{module.NAME}").main is module.main


def test_every_module_is_in_the_table_of_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text("utf-8")
    rows = {row.split("`")[1] for row in page.splitlines() if row.startswith("| `")}
    assert {module.NAME for module in MODULES} <= rows


@pytest.mark.parametrize("module", [norms, mlp_anatomy, prefix_entropy], ids=lambda m: m.NAME)
def test_without_token_twins_neighbours_are_the_controls(module):
    observed = garden("no twins")
    assert {case.kind for _, case in observed.pairs()} == {"neighbour"}
    assert module.run(observed).verdict.outcome == "supported"


@pytest.mark.parametrize("module", [mlp_anatomy, mlp_directions, separability])
@pytest.mark.parametrize("layer", [-1, 8])
def test_layers_that_are_not_there_are_refused(module, layer):
    with pytest.raises(AttributionError, match=f"layer {layer} is out of range; expected 0 to 7"):
        module.run(garden("plain"), layer=layer)


@pytest.mark.parametrize("module", [mlp_directions, separability])
def test_a_layer_that_creates_no_sink_is_told_with_those_that_do(module):
    finding = module.run(garden("attention"), layer=6)
    assert finding.verdict.outcome == "inconclusive"
    assert finding.verdict.why == (
        "layer 6 creates no secondary sink; layers that do: 3 (5), 4 (5), 5 (5)"
    )


def test_only_the_sinks_of_the_layer_are_compared_and_the_others_counted():
    finding = separability.run(garden("attention"))
    assert "10 created at other layers" in finding.verdict.controls
    assert finding.verdict.n_sinks == 5


def test_a_mlp_that_forms_no_sink_is_not_asked():
    verdict = mlp_directions.run(garden("attention")).verdict
    assert "5 that this MLP does not form" in verdict.controls


def test_lifetime_and_length():
    found = {
        name: {v.claim: v.outcome for v in norm_and_score.run(garden(name), resamples=199).verdicts}
        for name in ("strong live", "strong die", "followed")
    }
    claim = "the longer what the MLP writes at the creation layer, the longer the sink lives"
    assert [found[name][claim] for name in found] == ["supported", "contradicted", "inconclusive"]


def test_of_five_texts_no_correlation_is_claimed():
    observed = planted(*strong(attended=True), change=attend(1), n_texts=5)
    verdict = norm_and_score.run(observed, resamples=199).verdict
    assert verdict.value > 0.8
    assert verdict.outcome == "inconclusive"
    assert verdict.why.startswith("5 texts are too few for an interval (6 are needed); lengths")


@pytest.mark.parametrize(("step", "known"), [(1e-6, False), (1e-2, True)])
def test_lengths_that_differ_by_rounding_show_nothing(step, known):
    texts = [f"t{number}" for number in range(6)]
    sinks = pd.DataFrame({"text_id": texts, "mass": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    sinks = sinks.assign(mlp_norm=60 + step * sinks["mass"] * 10, even_share=[2, 1, 3, 1, 2, 3])
    found = norm_and_score._correlation(sinks, "mlp_norm", "mass", 199, 0)
    assert math.isnan(found.value) != known
    assert not known or found.value == pytest.approx(1.0)


def test_who_gets_the_attention_of_a_sink_that_is_removed():
    alone, several = (primary_weakening.run(garden(name)) for name in ("one alone", "fewer texts"))
    assert [verdict.outcome for verdict in alone.further] == ["supported"]
    assert [verdict.outcome for verdict in several.further] == ["contradicted"]
    assert set(several.tables) == {"changes", "restored", "cells"}
    assert len(several.figures["restored"].data) == 3


def test_the_window_and_the_ways_to_remove_are_options():
    finding = primary_weakening.run(garden("one alone"), window=1, edit=["zero"])
    assert "1 layers from l_start" in finding.verdict.statistic
    assert set(finding.tables["cells"]["edit"]) == {"zero"}


def test_what_the_primary_loses_is_drawn_from_the_creation_layer_on():
    frame = primary_weakening.run(garden("twice"), restore=False).frame
    mass = frame[frame["measure"] == "mass"].set_index("relative")["mean"]
    assert mass[-1] - mass[0] > 5 * abs(mass[-2] - mass[-1])


def test_noise_is_not_told_from_noise():
    """Of as many coordinates as here, a classifier that has seen a text tells all of it."""
    texts = [f"t{number}" for number in range(8) for _ in range(6)]
    frame = pd.DataFrame({"text_id": texts, "role": ["sink", "control"] * 24})
    members = Members(layer=0, frame=frame, left_out={})
    told = separability._told(np.random.default_rng(0).normal(size=(48, 200)), members)
    assert 0.2 < told.mean() < 0.8


def test_components_come_from_other_texts():
    """Each text has a sink that no other has: others' components hold what they share by chance."""
    observed = garden("five")
    own = dict(zip([trace.text_id for trace in observed.traces], FIVE, strict=True))
    kept = [s for s in observed.sinks.sinks if s.kind == "primary" or own[s.text_id] == s.pos]
    alone = replace(observed, sinks=replace(observed.sinks, sinks=tuple(kept)))
    known, unknown = (mlp_directions.run(one, components=5) for one in (observed, alone))
    assert (known.verdict.outcome, unknown.verdict.outcome) == ("supported", "inconclusive")
    assert unknown.verdict.n_sinks == 5
    assert known.tables["cut"]["kept_by_sinks"].min() > 0.9
    assert unknown.tables["cut"]["kept_by_sinks"].max() < 0.9


def test_keys_and_values_are_those_of_the_blocks_that_read_the_sink():
    observed = garden("plain")
    row = norms.run(observed).tables["ratios"].iloc[0]
    trace, (_, case) = observed.traces[0], observed.pairs()[0]
    assert case.sink.layers == (3, 4, 5, 6, 7)
    values, control = trace.value_norm[4:8, row["pos"]], trace.value_norm[4:8, row["control_pos"]]
    assert row["value_ratio"] == pytest.approx(float(values.mean() / control.mean()))
    lengths, other = trace.norm[3:8, row["pos"]], trace.norm[3:8, row["control_pos"]]
    assert row["norm_ratio"] == pytest.approx(float(lengths.mean() / other.mean()))


def test_a_text_that_was_not_seen_tells_nothing_alone():
    finding = separability.run(garden("one"))
    assert finding.frame["right"].isna().all()


def test_reasons_of_the_two_criteria():
    frame = criterion_check.run(garden("anisotropic")).frame
    assert set(frame[frame["found"] == "both"]["reason"]) == {"agreement"}
    assert set(frame[frame["found"] == "paper"]["reason"]) == {"not aligned once centred"}
    assert sorted(frame[frame["found"] == "both"]["pos"].unique()) == [12, 24, 36]


def test_sinks_of_an_episode_that_the_paper_does_not_look_at():
    first = Plant(pos=0, forming=(1,), strength=400.0, dies=5)
    late = Plant(pos=0, forming=(6,), strength=480.0)
    observed = planted(*three(forming=(2,), dies=4), late, primary=first, n_layers=10)
    finding = criterion_check.run(observed)
    assert set(finding.frame["found"]) == {"joint"}
    assert set(finding.frame["reason"]) == {"outside the layers that the paper looks at"}
    assert finding.verdict.outcome == "contradicted"


def named(*tokens):
    """The plain garden, with other strings at the planted positions."""
    observed, traces = garden("plain"), []
    for trace in observed.traces:
        strings = list(trace.token_strings)
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
    [((" ", "7", "\n"), "supported"), ((" the", " a", "7"), "contradicted"), (("x",) * 3, "con")],
)
def test_tokens_with_and_without_letters(tokens, outcome):
    finding = sink_tokens.run(named(*tokens))
    assert finding.verdict.outcome.startswith(outcome)
    assert sorted(finding.frame["token"]) == sorted(tokens)


def test_tokens_are_counted_against_all_that_there_are():
    finding = sink_tokens.run(named(" the", " ", "7"))
    row = finding.frame[finding.frame["token"] == " the"].iloc[0]
    assert (row["n_sinks"], row["n_texts"], row["n_occurrences"]) == (5, 5, 10)
    assert (row["share"], row["per_10k"]) == (0.5, 1e4 * 5 / (5 * 64))
    assert row["place"] == pytest.approx(12 / 63)
    assert (row["kind"], len(finding.tables["places"])) == ("letters", 15)


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
        ([(22, 23)] * 12, "supported", "1 level(s) hold 100% of 12 sinks: (22, 23) with 12"),
        (SCATTERED, "contradicted", "0 level(s) hold 0% of 12 sinks: none"),
        (SCATTERED[:6], "inconclusive", "in fewer than 10 texts a level may go unseen"),
        ([(22, 23)] * 4, "inconclusive", "no secondary sink could be asked (4 in fewer than 5"),
    ],
    ids=["same", "scattered", "few texts", "too few"],
)
def test_levels_of_released_detections(tmp_path, pairs, outcome, told):
    path = released(tmp_path / "theirs.jsonl", pairs)
    finding = sink_levels.run(garden("plain"), released=[path])
    theirs = finding.further[0]
    assert (finding.verdict.outcome, theirs.outcome) == ("supported", outcome)
    assert told in theirs.why
    assert str(path) in theirs.claim
    assert set(finding.frame["model"]) == {"planted", str(path)}
    assert len(finding.figure.data) == 2


def test_a_model_without_sinks_beside_one_that_has_some(tmp_path):
    path = released(tmp_path / "theirs.jsonl", [(22, 23)] * 12)
    finding = sink_levels.run(garden("none"), released=[path])
    assert finding.verdict.outcome == "inconclusive"
    assert finding.further[0].outcome == "supported"
    assert "no secondary sink" in {note.text for note in finding.figure.layout.annotations}


def test_a_file_that_is_none_of_detections_is_named(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text("{}")
    with pytest.raises(DetectionError, match=r"odd\.jsonl"):
        sink_levels.run(garden("plain"), released=[path])


def test_norms_by_kind_are_percentiles_over_tokens():
    observed = garden("plain")
    frame = norms.run(observed).frame.set_index(["kind", "layer", "measure"])
    row = frame.loc["secondary", 4, "norm"]
    lengths = pd.Series([t.norm[4, pos].item() for t in observed.traces for pos in (12, 24, 36)])
    assert row["n_tokens"] == 15
    assert row["median"] == pytest.approx(lengths.median())
    assert row["high"] == pytest.approx(lengths.quantile(0.9))
    assert frame.loc["ordinary", 4, "norm"]["n_tokens"] == 5 * (64 - 4)
    assert PRIMARY.strength == pytest.approx(frame.loc["primary", 4, "norm"]["median"], rel=0.02)
