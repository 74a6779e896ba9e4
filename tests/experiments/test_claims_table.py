"""The table of claims x models: each row is the verdict that is meant, as it was decided."""

import importlib
import re
from pathlib import Path

import pytest

from experiments import mlp_anatomy, norm_and_score, norm_dose, primary_weakening, writers
from experiments.claims import CLAIMS, PARTS, Row
from experiments.claims_table import claims_page, read_models, verdicts_of
from experiments.recorded import is_superseded
from experiments.table import BY_NAME, EXPERIMENTS
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.experiments.records import record_of

DOSE, RESTORED, GIVEN, WEAKER = (
    importlib.import_module(f"secondary_sinks.{name}")
    for name in (
        "questions.dose_verdicts",
        "questions.restoration",
        "questions.redistribution_verdict",
        "detection.weakening_verdict",
    )
)
RANKS = [
    norm_and_score.CLAIM.format(length, words)
    for length in norm_and_score.LENGTHS.values()
    for words in norm_and_score.RESPONSES.values()
]
RESULTS = Path(__file__).parents[2] / "docs" / "results"
MEANT = {
    writers: [writers.CLAIM, writers.MEDIATES, writers.ALONG],
    mlp_anatomy: [mlp_anatomy.CLAIM, mlp_anatomy.MOST],
    norm_and_score: RANKS,
    norm_dose: [DOSE.DOSE, DOSE.LAYERS, DOSE.DIRECTION, DOSE.NORM.format("1/16")],
    primary_weakening: [WEAKER.CLAIM, RESTORED.CLAIM, GIVEN.CLAIM],
}
"""Claims of an experiment's verdicts, at the places that rows of the table point at."""


@pytest.fixture(scope="module")
def small():
    return planted(Plant(pos=20, forming=(3,)), n_texts=2, n_layers=5)


@pytest.mark.parametrize("module", MEANT, ids=lambda module: module.NAME)
def test_a_row_points_at_the_verdict_that_is_meant(module, small):
    options = {"edit": ["zero"]} if module is primary_weakening else {}
    found = [verdict.claim for verdict in module.run(small, **options).verdicts]
    assert found[: len(MEANT[module])] == MEANT[module]
    places = sorted(one.verdict for one in CLAIMS if one.experiment == module.NAME)
    if module is writers:
        assert len(found) == 4
        assert found[places.pop()].startswith("secondary sinks are written")
    assert places == list(range(len(MEANT[module])))


def test_rows_of_all_experiments_stand_in_the_parts():
    names = [part.name for part in PARTS]
    assert list(dict.fromkeys(one.part for one in CLAIMS)) == names
    assert {one.experiment for one in CLAIMS} == BY_NAME.keys()
    causal = {one.name for one in EXPERIMENTS if not one.observes}
    assert causal & {one.experiment for one in CLAIMS if one.part == "writer"}
    assert len({one.sharp for one in CLAIMS}) == len(CLAIMS)


def record(*outcomes, name="writers", n_claims=1, layer=None):
    """A record with one verdict per outcome."""
    whole = record_of(name)
    verdicts = [
        whole["verdict"] | {"outcome": outcome, "n_claims": n_claims, "layer": layer}
        for outcome in outcomes
    ]
    return whole | {"verdict": verdicts[0], "further": verdicts[1:]}


def rows_of(page):
    """Cells of the table, by its first cell."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


ROLE, LEVEL = (one.sharp for one in CLAIMS[:2])
RESTORE = next(one.sharp for one in CLAIMS if one.sharp.startswith("Taken"))


def test_each_cell_has_outcome_number_interval_and_link():
    holds = record(
        "supported", "inconclusive", "inconclusive", "supported", "contradicted", layer=5
    )
    fails = record("contradicted")
    page = claims_page({"one": {"writers": holds}, "two": {"writers": fails}})
    rows = rows_of(page)
    assert rows["claim"] == ["[one](one/index.md)", "[two](two/index.md)"]
    numbers = "0.81 [0.69, 0.94]"
    assert rows[ROLE] == [
        f"[**supported**](one/writers.md) MLP 5: {numbers}",
        f"[**contradicted**](two/writers.md) {numbers}",
    ]
    assert rows[LEVEL][0] == (
        f"[**supported**](one/writers.md) MLP 5: {numbers}<br>"
        f"[**contradicted**](one/writers.md) MLP 5: {numbers}"
    )
    title = next(row for row in rows if row.startswith("**Claim 1"))
    assert rows[title][0] == "2 supported, 1 contradicted, 2 inconclusive"
    assert {name for row in rows.values() for name in re.findall(r"\((\w+)/index", str(row))}


def test_what_was_not_asked_failed_or_is_superseded_decides_nothing():
    old = record("supported") | {"computed_before": "Twins were shared."}
    failed = {"failed": "no", "provenance": {}}
    models = {"a": {}, "b": {"writers": old}, "c": {"writers": failed}}
    page = claims_page(models)
    assert rows_of(page)[ROLE] == [
        "not asked", "[earlier method](b/writers.md)", "[**failed**](c/writers.md)"
    ]  # fmt: skip
    title = next(row for row in rows_of(page) if row.startswith("**Claim 1"))
    assert not any(cell.strip() for cell in rows_of(page)[title])


@pytest.mark.parametrize(
    ("options", "cell"),
    [({"restore": False}, "not asked"), ({}, "[not testable](m/primary_weakening.md)")],
    ids=["left out", "no sinks"],
)
def test_a_verdict_that_is_not_there_was_left_out_or_could_not_be_asked(options, cell):
    one = record("inconclusive", name="primary_weakening")
    one["verdict"] |= {"value": None, "low": None, "high": None}
    one["provenance"] |= {"options": options}
    assert rows_of(claims_page({"m": {"primary_weakening": one}}))[RESTORE] == [cell]


def test_a_verdict_without_a_number_is_counted_as_not_testable():
    """Open because nothing could be computed, unlike open with a number."""
    one = record("inconclusive", "inconclusive")
    one["verdict"] |= {"value": None, "low": None, "high": None}
    rows = rows_of(claims_page({"m": {"writers": one}}))
    assert rows[ROLE] == ["[not testable](m/writers.md)"]
    title = next(row for row in rows if row.startswith("**Claim 1"))
    assert rows[title] == ["1 inconclusive, 3 not testable"]


def stands(tmp_path, created, n_layers, relative):
    """The page of a model with sinks at `created`, whose primary is active from `relative` on."""
    one = record("supported")
    sample = {"n_texts": 2, "n_tokens": 300, "n_sinks": 5, "n_distinct": 3, "created_at": created}
    texts = [{"text_id": "a", "feed": "chat"}, {"text_id": "b", "feed": "raw, first 9 tokens"}]
    made = {"sample": sample, "model": {"n_layers": n_layers}, "texts": texts}
    one["provenance"] |= made
    data = tmp_path / "m" / "data"
    for name, table in (
        ("sink_tokens/places.csv", "text_id,pos\na,2\na,9\nb,57\n"),
        ("primary_weakening/data.csv", relative),
    ):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_text(table)
    return claims_page({"m": {"sink_tokens": one}}, tmp_path)


NO = "None of these models has any of them in the middle third"
ACTIVE = "measure,group,relative,n_sinks\nmass,primary,-{},{}\nmass,primary,0,3\n"


@pytest.mark.parametrize(
    ("created", "relative", "where", "middle"),
    [
        ({"5": 3}, ACTIVE.format(3, 3), "layer 5 of 24, 3 layers after the primary", NO),
        ({"5": 3}, ACTIVE.format(1, 2), "layer 5 of 24, 0 to 1 layers after the primary", NO),
        (
            {"5": 1, "9": 2},
            ACTIVE.format(1, 3),
            "layers 5, 9 of 24, 1 layer after",
            "In 0 of these 1 models all of them arise in the middle third, in 1 more some of them",
        ),
        (
            {"9": 3},
            ACTIVE.format(1, 3),
            "layer 9 of 24, 1 layer after the primary",
            "In 1 of these 1 models all of them arise in the middle third, in 0 more some of them",
        ),
    ],
)
def test_the_page_says_where_in_the_model_sinks_arise(tmp_path, created, relative, where, middle):
    page = stands(tmp_path, created, 24, relative)
    assert f"[m](m/index.md)<br>sinks arise at {where}" in page
    assert middle in page


def test_the_page_says_where_in_the_texts_sinks_stand(tmp_path):
    page = stands(tmp_path, {"5": 3}, 24, ACTIVE.format(3, 3))
    assert "| 2 in 1 of 1 chat; 1 in 1 of 1 raw text; at positions 2 to 57 |" in page


def test_every_published_verdict_has_a_row():
    models = read_models(RESULTS)
    for records in models.values():
        for name, one in records.items():
            if is_superseded(one):
                continue
            rows = [row for row in CLAIMS if row.experiment == name]
            shown = [id(found) for row in rows for found in verdicts_of(row, one)]
            for verdict in (one["verdict"], *one["further"]):
                assert id(verdict) in shown, (name, verdict["claim"])


def test_all_verdicts_from_a_place_on_or_only_the_one():
    several = record("supported", "contradicted", "inconclusive")
    for and_on, n in ((False, 1), (True, 2)):
        row = Row(part="norm", sharp="s", experiment="writers", verdict=1, and_on=and_on)
        found = verdicts_of(row, several)
        assert [one["outcome"] for one in found] == ["contradicted", "inconclusive"][:n]


def test_what_was_looked_at_is_counted():
    one = record("supported")
    sample = {"n_texts": 2, "n_tokens": 300, "n_sinks": 9, "n_distinct": 5}
    one["provenance"] |= {
        "sample": sample | {"created_at": {"4": 2, "5": 3}},
        "model": {"n_layers": 24, "weights_sha256": "ab" * 32},
        "texts": [{"n_tokens": 100}, {"n_tokens": 200}],
        "asked": {"model": "m", "texts": "bundled:claims", "file": "m.gguf", "sha256": "cd" * 32},
    }
    table = claims_page({"m": {"writers": one}}).split("## What was looked at")[1]
    (row,) = [line for line in table.splitlines() if line.startswith("| m (")]
    assert row.split(" | ")[1:6] == [
        "bundled:claims: 2 texts, 300 tokens",
        "9",
        "5",
        "not recorded",
        "4 (2), 5 (3)",
    ]
    assert "m.gguf, sha256 cdcdcdcdcdcd" in row
    assert "24 layers" in row
