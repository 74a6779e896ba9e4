"""On planted models every verdict is what was planted, in both directions; and what is none."""

import importlib
import math
from dataclasses import replace
from pathlib import Path

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
from secondary_sinks.measures import prefix_entropies
from secondary_sinks.questions.answer import AT_CONTROLS
from secondary_sinks.statistics import median_over_texts, share_over_texts
from secondary_sinks.testing.planted import Plant
from tests.experiments.known import garden
from tests.experiments.observed import planted
from tests.marks import thinned
from tests.questions.gardens import PRIMARY

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
TRUTHS = [
    (norms, "plain", {}, "supported"),
    (norms, "loud", {}, "contradicted"),
    (mlp_anatomy, "plain", {}, "supported"),
    (mlp_anatomy, "attention", {}, "contradicted"),
    (mlp_anatomy, "along everywhere", {}, "inconclusive"),
    (mlp_anatomy, "plain", {"layer": 5}, "contradicted"),
    (mlp_directions, "plain", {}, "supported"),
    (mlp_directions, "five", {"components": 1}, "contradicted"),
    (mlp_directions, "attention", {}, "inconclusive"),
    (mlp_directions, "silent", {}, "inconclusive"),
    (separability, "plain", {}, "supported"),
    (separability, "silent", {}, "contradicted"),
    (norm_and_score, "followed", {"permutations": 999}, "supported"),
    (norm_and_score, "shunned", {"permutations": 999}, "contradicted"),
    (primary_weakening, "some texts", {"restore": False}, "supported"),
    (primary_weakening, "some texts, turns", {"restore": False}, "contradicted"),
    (prefix_entropy, "anisotropic", {}, "supported"),
    (prefix_entropy, "plain", {}, "contradicted"),  # it rises, and rises more at controls
    (prefix_entropy, "own ways", {}, "contradicted"),
    (criterion_check, "plain", {}, "supported"),
    (criterion_check, "anisotropic", {}, "contradicted"),
]
FURTHER = [("silent", {}), ("plain", {"layer": 5}), ("shunned", {"permutations": 999})]


@pytest.mark.parametrize(
    ("module", "name", "options", "outcome"),
    thinned(TRUTHS, [one for one in TRUTHS if one[1:3] not in FURTHER], unpack=True),
    ids=lambda part: getattr(part, "NAME", str(part)),
)
def test_the_verdict_is_what_was_planted(module, name, options, outcome):
    finding = module.run(garden(name), **options)
    assert finding.verdict.outcome == outcome, finding.verdict.why
    assert set(finding.frame.columns) == set(finding.columns)
    assert all(finding.columns.values())
    assert {"figure", *finding.figures} <= finding.captions.keys()
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
    assert "are needed" in finding.verdict.why or "no secondary sink could be tested" in (
        finding.verdict.why
    )
    assert len(finding.frame)
    assert len(finding.figure.data)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_a_module_says_what_it_asks_and_how_to_run_it(module):
    assert module.__doc__.splitlines()[0].endswith(("?", "paper.)"))
    assert module.METHOD
    assert module.REFUTATION
    assert module.QUESTION.endswith("?")
    assert importlib.import_module(f"experiments.{module.NAME}").main is module.main


def test_every_module_is_in_the_table_of_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text("utf-8")
    rows = {row.split("`")[1] for row in page.splitlines() if row.startswith("| `")}
    assert {module.NAME for module in MODULES} <= rows


def test_raw_and_used_keys_are_told_apart():
    """Used keys are twice as long as raw ones: a planted model whose rope is scaled."""
    observed = garden("plain")
    changed = [replace(one, key_norm=2 * one.key_norm_raw) for one in observed.traces]
    finding = norms.run(replace(observed, traces=tuple(changed)))
    medians = finding.frame.groupby("measure")["median"].mean()
    assert medians["key_norm"] == pytest.approx(2 * medians["key_norm_raw"])
    claims = [verdict.claim for verdict in finding.further]
    assert [claim.split(" of ")[0] for claim in claims] == ["raw keys", "used keys"]
    assert {"raw_key_ratio", "used_key_ratio"} <= set(finding.tables["ratios"])


def _at_its_own_place(states, pos):
    """What a token adds to the entropy of the tokens before itself."""
    before, after = prefix_entropies(states, [pos, pos + 1]).tolist()
    return after - before


def _twins_of(sink, control, monkeypatch):
    """Steps of sinks whose control has their very state; and both as each adds at its own place."""
    observed = planted(Plant(pos=sink, forming=(3,), strength=150.0, content=0.1), n_texts=10)
    ask, naive = prefix_entropy._states, []

    def alike(*given):
        for layer, states in ask(*given):
            states = states.clone()
            states[control] = states[sink]
            naive.append([_at_its_own_place(states, pos) for pos in (sink, control)])
            yield layer, states

    monkeypatch.setattr(prefix_entropy, "_states", alike)
    texts = [
        replace(text, cases=tuple(replace(case, control=control) for case in text.cases))
        for text in observed.cases
    ]
    steps = pd.DataFrame([row for one in texts for row in prefix_entropy._steps(observed, one)])
    return observed, steps, pd.DataFrame(naive, columns=["step", "control_step"])


@pytest.mark.parametrize(("control", "fooled"), [(6, True), (10, True), (18, False), (22, False)])
def test_a_control_with_the_state_of_the_sink_supports_nothing_wherever_it_stands(
    control, fooled, monkeypatch
):
    """Naively the entropy falls with sinks; and before them less with the control, by its place."""
    observed, steps, naive = _twins_of(14, control, monkeypatch)
    assert median_over_texts(-naive["step"], steps["text_id"]).low > 0
    by_place = prefix_entropy._verdict(steps.assign(**naive), observed)
    assert (by_place.outcome == "supported") == fooled
    assert (steps["control_step"] == steps["step"]).all()
    verdict = prefix_entropy._verdict(steps, observed)
    assert verdict.outcome == "inconclusive"
    assert AT_CONTROLS in verdict.why


@pytest.mark.parametrize(("step", "control_step"), [(-0.2, -0.2 + 1e-7), (-1e-7, 0.2)])
def test_a_fall_of_the_entropy_within_rounding_is_none(step, control_step):
    """Naively it falls with every sink, and more than with its control."""
    steps = pd.DataFrame({"text_id": [f"t{n}" for n in range(12)], "entropy": 2.0})
    steps = steps.assign(step=step, control_step=control_step)
    for fall in (-steps["step"], steps["control_step"] - steps["step"]):
        assert median_over_texts(fall, steps["text_id"]).low > 0
    assert prefix_entropy._verdict(steps, garden("plain")).outcome == "inconclusive"


@pytest.mark.parametrize("later", [(), (Plant(pos=24, forming=(3,)),)], ids=["alone", "mixed"])
def test_sinks_of_the_first_layer_cannot_show_that_its_mlp_writes_most(later):
    """Naively it writes most at all of them, and at no control: it is the only one compared."""
    primary = replace(PRIMARY, forming=(0,))
    first = Plant(pos=12, forming=(0,), dies=5)
    finding = mlp_anatomy.run(planted(first, *later, primary=primary, n_texts=10))
    written = finding.tables["written"]
    only = written[(written["relative"] == 0) & (written["layer"] == 0)].set_index("text_id")
    wrote = {role: only.loc[only["role"] == role, "along"] > 0 for role in ("sink", "control")}
    naive = (wrote["sink"] & ~wrote["control"]).astype(float)
    assert share_over_texts(naive, naive.index.tolist(), n_claims=2).low > 0.5
    (most,) = finding.further
    assert most.n_sinks == 10 * len(later)
    assert (most.outcome == "supported") == bool(later)
    assert "10 created at layer 0, before which there is no MLP" in most.controls


@pytest.mark.parametrize("of", norms.OF)
@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [(1 - 6e-8, "contradicted"), (1 - 9e-5, "contradicted"), (0.99, "supported")],
)
def test_norms_that_are_equal_within_rounding_are_not_smaller(of, ratio, outcome):
    """Naively the norm is smaller at every sink."""
    names = [f"{one.replace(' ', '_')}_ratio" for one in norms.OF]
    ratios = pd.DataFrame({"text_id": [f"t{n}" for n in range(12)], "norm_ratio": 10.0})
    ratios = ratios.assign(**dict.fromkeys(names, ratio))
    naive = (ratios[names[0]] < 1).astype(float)
    assert share_over_texts(naive, ratios["text_id"].tolist(), n_claims=3).low > 0.5
    assert norms._verdict(ratios, of, garden("plain")).outcome == outcome
