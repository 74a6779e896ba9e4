"""What the page shows of causal questions is what their answers hold."""

import base64
import json
from dataclasses import asdict

import numpy as np
import pytest

from secondary_sinks import questions
from secondary_sinks.report import render
from secondary_sinks.report.claims import TITLES, claims
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
def told(garden, who):
    found = record(*(trace.text_id for trace in garden.traces), verdicts=[], edit=None)
    found["model"]["n_layers"] = garden.model.cfg.n_layers
    return found | {"writers": [asdict(verdict) for verdict in who.verdicts]}


@pytest.fixture(scope="module")
def html(garden, answers, told, who):
    import pandas as pd

    trace = pd.concat([one.to_frame() for one in garden.traces])
    return Html(render(told, garden.sinks.to_frame(), trace, None, answers, who.cells))


@pytest.fixture(scope="module")
def drawn(html):
    """Figures and their tables by name."""
    return {a["id"]: json.loads(text) for a, text in html.scripts() if "id" in a}


def test_every_question_has_its_figures_in_order(html):
    ids = [attrs["id"] for attrs in html.of("div") if attrs.get("class") == "figure"]
    assert ids == [
        *("profiles", "levels", "ways", "denoising", "noising"),
        *("dose", "redistribution", "restoration", "neurons", "harm"),
    ]
    assert "Not asked" not in html.words
    numbered = [data for tag, data in html.texts if tag == "b" and data.startswith("Figure")]
    assert [line.split(".")[0] for line in numbered] == [f"Figure {n}" for n in range(1, 11)]


def test_what_was_not_asked_says_how_to_ask(garden, told, answers):
    import pandas as pd

    trace = pd.concat([one.to_frame() for one in garden.traces])
    some = {name: answers[name] for name in ("harm", "sparsity")}
    words = Html(render(told, garden.sinks.to_frame(), trace, None, some)).words
    for name in ("sufficiency", "norm_dose", "redistribution", "restoration"):
        assert f"Not asked in this run: add --ask {name} to the command below." in words
    assert words.count("Not asked") == 4
    assert "1 way to ablate tried; --ask necessity tries four" in words


def test_the_roles_are_a_claim_and_a_table_of_those_that_are_not_always_neither(html, who):
    (verdict,) = who.verdicts
    assert f"{verdict.why[1:]}" in html.words
    assert "Which MLP writes the sinks" in html.words
    shares = [percent(share) for share in (1.0, 0.0, 0.0, 0.0)]
    row = ["secondary sinks of no level", "3", *shares, str(verdict.n_sinks), "2"]
    assert " ".join(row) in html.words


def test_all_verdicts_are_claims_with_their_reasons(html, told, answers):
    found = claims(told, answers)
    n_verdicts = sum(len(answer.verdicts) for answer in answers.values())
    assert len(found) == n_verdicts + len(told["writers"])
    assert {claim.question for claim in found} == set(TITLES.values())
    for answer in answers.values():
        for verdict in answer.verdicts:
            assert verdict.claim[1:] in html.words
            assert verdict.why[1:] in html.words


def test_verdicts_of_several_edits_stand_for_those_of_one(told, answers):
    from tests.report.pages import verdict

    one = told | {"verdicts": [verdict()]}
    assert claims(one, {})[1].claim == verdict()["claim"]
    assert len(claims(one, answers)) == len(claims(told, answers))


def values(figure, index):
    """The numbers of a trace, which plotly packs."""
    packed = figure["data"][index]["y"]
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])


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
    means = part.groupby("factor")["lifetime_edited"].mean()
    names = [trace.get("name") for trace in drawn["dose-data"]["data"]]
    np.testing.assert_allclose(values(drawn["dose-data"], names.index("sinks")), means)
    axis = drawn["dose-data"]["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["ticktext"] == ["1/16", "1/8", "1/4", "1/2", "1", "2", "4"]


def test_the_tables_are_those_of_the_answers(drawn, answers):
    for name, question in (("harm", "harm"), ("redistribution", "redistribution")):
        assert drawn[f"{name}-table"] == answers[question].effects.to_csv(
            index=False, lineterminator="\n"
        )


def test_the_forming_mlps_are_counted(html):
    assert "forming MLPs (layers) how sinks 3 this MLP alone 2" in html.words
