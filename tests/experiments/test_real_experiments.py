"""On real weights, one short text: each experiment runs, says no more than it may, and is right."""

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
from experiments.shared import observe_fed
from secondary_sinks.texts import TokenizedText
from tests.marks import exhaustive

pytestmark = [pytest.mark.real, exhaustive]


@pytest.fixture(scope="module")
def observed(smollm2, real_tokens):
    text = TokenizedText(text_id="shortest", tokens=real_tokens, feed="chat", fed="")
    return observe_fed(smollm2, [text])


@pytest.fixture(scope="module")
def findings(observed):
    quick = {primary_weakening: {"restore": False}, norm_and_score: {"permutations": 99}}
    modules = (
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
    return {module.NAME: module.run(observed, **quick.get(module, {})) for module in modules}


def test_of_one_text_nothing_is_claimed(findings):
    assert {one.verdict.outcome for one in findings.values()} == {"inconclusive"}
    assert all(len(one.frame) and len(one.figure.data) for one in findings.values())


def test_the_mlp_of_layer_2_writes_along_the_primary_at_sinks_only(findings):
    frame = findings["mlp_anatomy"].frame.set_index(["role", "stage"])["cosine"]
    assert frame["sink", "written"] > 0.95
    assert frame["sink", "input"] < 0.6
    assert frame["control", "written"] < 0.5
    curves = findings["mlp_directions"].frame.set_index(["component", "scale"])
    assert curves.loc[("sinks 1", 1.0), "cosine"] > 0.9


def test_sinks_have_short_values_and_the_longer_draw_more(findings):
    assert findings["norms"].tables["ratios"]["value_ratio"].median() < 0.6
    table = findings["norm_and_score"].tables["correlations"]
    assert table.set_index(["length", "response"])["correlation"]["mlp_norm", "mass"] > 0.8


def test_sinks_are_spaces_and_articles_which_the_clip_of_the_paper_leaves_out(findings):
    assert set(findings["sink_tokens"].frame["token"]) <= {" the", " "}
    reasons = set(findings["criterion_check"].frame["reason"])
    assert reasons == {"not a sink at the layers that the paper examines"}
    assert findings["prefix_entropy"].tables["steps"]["step"].median() < 0
