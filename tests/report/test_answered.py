"""What the page shows of causal questions is what their answers hold."""

import base64
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from secondary_sinks import ablate, questions
from secondary_sinks.questions.dose_figures import DOSED
from secondary_sinks.report import render
from secondary_sinks.report.claims import ROLES, TITLES, claims
from secondary_sinks.report.words import percent
from secondary_sinks.runs.folder import ANSWERS
from secondary_sinks.testing.planted import Plant
from tests.questions.gardens import Garden
from tests.report.pages import Html, record


@pytest.fixture(scope="module")
def garden():
    return Garden(Plant(pos=12, forming=(3,)), n_texts=2)


@pytest.fixture(scope="module")
def answers(garden):
    return {name: getattr(questions, name)(*garden.asked) for name in ANSWERS}


@pytest.fixture(scope="module")
def who(garden):
    """The roles of the MLPs."""
    return questions.roles(*garden.asked)


@pytest.fixture(scope="module")
def told(garden, who, answers):
    found = record(*(trace.text_id for trace in garden.traces), verdicts=[], edit=None)
    found["model"]["n_layers"] = garden.model.cfg.n_layers
    for text, trace in zip(found["texts"], garden.traces, strict=True):
        text["n_tokens"] = len(trace.tokens)
    later = questions.later_verdict(answers["necessity"].cells)
    return found | {"writers": [asdict(one) for one in who.verdicts], "later": [asdict(later)]}


@pytest.fixture(scope="module")
def html(garden, answers, told, who):
    import pandas as pd

    trace = pd.concat([one.to_frame() for one in garden.traces])
    return Html(render(told, garden.sinks.to_frame(), trace, None, answers, who.cells))


@pytest.fixture(scope="module")
def drawn(html):
    """Figures and their tables by name."""
    return {a["id"]: json.loads(text) for a, text in html.scripts() if "id" in a}


def test_every_question_has_its_figures_in_order(html, answers):
    """But that of readers of the primary: in no block of this model do its heads differ."""
    assert answers["reader_heads"].tables["sinks"]["share"].isna().all()
    ids = [attrs["id"] for attrs in html.of("div") if attrs.get("class") == "figure"]
    assert ids == [
        *("life", "profiles", "lives", "levels", "judged-roles"),
        *("judged-necessity", "ways", "judged-sufficiency", "denoising", "noising"),
        *("judged-norm_dose", "dose", "judged-redistribution", "redistribution"),
        *("judged-restoration", "restoration"),
        *("judged-sparsity", "neurons", "judged-harm", "harm", "circuit-0", "circuit-1"),
        *("judged-trigger", "trigger", "judged-writer", "coordinates"),
        *("scores", "function"),
    ]
    assert "Not asked" not in html.words
    numbered = [data for tag, data in html.texts if tag == "b" and data.startswith("Figure")]
    assert [line.split(".")[0] for line in numbered] == [f"Figure {n}" for n in range(1, 29)]


def test_what_was_not_asked_says_how_to_ask(garden, told, answers):
    import pandas as pd

    trace = pd.concat([one.to_frame() for one in garden.traces])
    some = {name: answers[name] for name in ("harm", "sparsity")}
    words = Html(render(told, garden.sinks.to_frame(), trace, None, some)).words
    assert (
        "Not asked: sufficiency, direction or norm (norm_dose), where a removed sink's attention "
        "goes (redistribution), attention the primary regains (restoration), trigger, writer, "
        "heads that read the sinks (reader_heads), no-op or broadcast (function) and keys dropped "
        "from the cache (eviction). To ask, add --ask NAME"
    ) in words
    assert "Ways to ablate that were tried: 1. --ask necessity tries four" in words


def test_the_roles_are_a_claim_and_a_table_of_those_that_are_not_always_neither(html, who, answers):
    (own,), (verdict, *_) = who.verdicts, answers["writer"].verdicts
    assert (verdict.claim, verdict.n_sinks) == (own.claim, own.n_sinks)
    assert f"{verdict.why[1:]}" in html.words
    assert "Which MLP writes the sinks" in html.words
    shares = [percent(share) for share in (1.0, 0.0, 0.0, 0.0)]
    row = ["secondary sinks", "3", *shares, str(verdict.n_sinks), "2"]
    assert " ".join(row) in html.words


def test_the_table_of_roles_tells_the_damage_of_every_layer_by_zero_and_by_twins(garden, told, who):
    effects = pd.concat([ablate(garden.model, t, garden.sinks, ["zero", "twins"]).to_frame()
                         for t in garden.traces])  # fmt: skip
    trace = pd.concat([one.to_frame() for one in garden.traces])
    asked = told | {"edit": "zero,twins"}
    words = Html(render(asked, garden.sinks.to_frame(), trace, effects, {}, who.cells)).words
    rows = effects[(effects["role"] == "sink") & (effects["layer"] == 3)]
    kl = rows.groupby("edit")["kl_at_token"].median()
    numbers = [f"{kl[edit]:.2g}" for edit in ("zero", "mean:twins")]
    assert "KL, zeroed KL, twin mean" in words
    assert " ".join(["secondary sinks 3 100% 0.0% 0.0% 0.0%", *numbers]) in words
    assert kl["zero"] > 0.001


def test_all_verdicts_are_claims_with_their_reasons(html, told, answers):
    found = claims(told, answers)
    n_verdicts = sum(len(answer.verdicts) for answer in answers.values())
    assert len(found) == n_verdicts + len(told["later"]), "writers are not said twice"
    assert {claim.question for claim in found} == set(TITLES.values()) - {ROLES}
    assert len({(claim.claim, claim.why) for claim in found}) == len(found)
    only = claims(told, {"harm": answers["harm"]})
    assert [claim.question for claim in (only[0], found[0])] == [ROLES, TITLES["writer"]]
    assert only[0].claim == found[0].claim
    for answer in answers.values():
        for verdict in answer.verdicts:
            assert verdict.claim[1:] in html.words
            assert verdict.why[1:] in html.words


def test_limits_say_what_the_roles_did_test(told):
    from secondary_sinks.report.tested import limits

    said = " ".join(limits(told, True, {}))
    assert "was tested at token twins only" in said
    without = " ".join(limits({**told, "writers": []}, True, {}))
    assert "(sufficiency) was not tested" in without
    assert "Attention heads were not edited" in said
    assert "Attention heads" not in " ".join(limits(told, True, {"trigger": None}))


def test_verdicts_of_several_edits_stand_for_those_of_one(told, answers):
    from tests.report.pages import verdict

    one = told | {"verdicts": [verdict()]}
    assert claims(one, {})[1].claim == verdict()["claim"]
    assert len(claims(one, answers)) == len(claims(told, answers))


def values(figure, index):
    """The numbers of a trace, which plotly packs."""
    packed = figure["data"][index]["y"]
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])


def test_the_figure_of_a_section_draws_what_its_badges_judge(drawn, answers, who):
    for answer in (who, *answers.values()):
        known = [one for one in answer.verdicts if one.value == one.value]
        if not known:  # these texts are too short, or have no keys of equal attention
            assert answer.question in ("eviction", "function", "reader_heads")
            continue
        dots, lines = drawn[f"judged-{answer.question}-data"]["data"]
        assert dots["x"] == [one.value for one in known]
        assert lines["x"] == [one.line for one in known]
        for one, up, down in zip(
            known, dots["error_x"]["array"], dots["error_x"]["arrayminus"], strict=True
        ):
            if one.low == one.low:
                assert (one.value + up, one.value - down) == pytest.approx((one.high, one.low))
            else:
                assert up is None
                assert down is None
        rows = drawn[f"judged-{answer.question}-table"].splitlines()
        assert len(rows) == 1 + len(known)


def test_verdicts_that_are_held_against_other_lines_than_one_half_say_so(answers):
    lines = {name: {one.line for one in answer.verdicts} for name, answer in answers.items()}
    assert lines.pop("redistribution") == {0.01}
    assert lines.pop("harm") == lines.pop("eviction") == {0.01}
    assert lines.pop("reader_heads") == {0.0, 0.5}
    assert lines.pop("restoration") == {0.0}
    assert set.union(*lines.values()) == {0.5}


def test_lines_of_necessity_are_its_effects(drawn, answers):
    effects = answers["necessity"].effects
    zero = effects[effects["edit"] == "zero"]
    names = [trace.get("name") for trace in drawn["ways-data"]["data"]]
    assert names.index("zero") >= 0
    line = values(drawn["ways-data"], names.index("zero"))
    np.testing.assert_allclose(line, zero["removed"])


def test_the_dose_figure_has_the_means_of_its_cells(drawn, answers):
    cells = answers["norm_dose"].cells
    part = cells[(cells["test"] == "dose") & (cells["role"] == "sink")]
    means = part.groupby("factor")[[*DOSED]].mean()
    names = [trace.get("name") for trace in drawn["dose-data"]["data"]]
    lines = [number for number, name in enumerate(names) if name == "sinks"]
    for number, response in zip(lines, DOSED, strict=True):
        np.testing.assert_allclose(values(drawn["dose-data"], number), means[response])
    axis = drawn["dose-data"]["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["ticktext"] == ["1/16", "1/8", "1/4", "1/2", "1", "2", "4"]


def test_the_tables_are_those_of_the_answers(drawn, answers):
    for name, question in (("harm", "harm"), ("redistribution", "redistribution")):
        assert drawn[f"{name}-table"] == answers[question].effects.to_csv(
            index=False, lineterminator="\n"
        )


def test_the_forming_mlps_are_counted(html):
    assert "forming MLPs (layers) the sink needs sinks 3 this MLP 2" in html.words
