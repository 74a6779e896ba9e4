"""The circuit in the most obvious way is the one that the package reports, on a planted Llama."""

import json
import re
from pathlib import Path

import pytest
import torch

from secondary_sinks import load_model
from secondary_sinks.errors import TextError
from secondary_sinks.testing import families
from secondary_sinks.texts import Text
from tests import planted_llama as planted
from tools import plain_circuit
from tools.plain_model import PlainModel, read_plain
from tools.plain_parts import Row
from tools.plain_rule import Rule

ROUNDING = 1e-5
TEXT = Text(text_id="one", plain=planted.TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted.save_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def ours(folder):
    hooked = load_model(str(folder), device="cpu")
    return plain_circuit.ask_package(hooked, TEXT, planted.SINK)


@pytest.fixture(scope="module")
def compared(folder, ours):
    return plain_circuit.compare(ours, PlainModel(read_plain(folder), ours.trace.tokens))


def test_a_number_that_is_missing_on_both_sides_is_no_difference():
    nan = float("nan")
    same, one = (Row(part="p", edited="e", measure="m", ours=nan, plain=x) for x in (nan, 1.0))
    assert (same.difference, one.difference) == (0.0, float("inf"))
    assert "| none | none | 0 |" in plain_circuit.as_markdown([same])


def test_ours_and_plain_agree_in_every_part(compared):
    _, rows = compared
    assert {one.part for one in rows} == {"detection", "trigger", "writer", "reader", "function"}
    for one in rows:
        assert one.plain == pytest.approx(one.ours, rel=ROUNDING, abs=ROUNDING), one
    assert sum(one.judged for one in rows) > 25


def test_the_plain_way_finds_what_was_planted(compared):
    judged, rows = compared
    assert judged.twins == list(planted.TWINS)
    assert judged.rule.primary == 0
    assert judged.rule.layers[planted.SINK] == [2, 3, 4, 5]
    found = {(one.edited, one.measure): one.plain for one in rows if one.judged}
    assert found[f"1.0<{planted.SOURCE}", "ended, cut"] == 1
    assert found["head 1.0", "ended, each twin"] == found["head 1.0", "created in twins"] == 1
    assert found["MLP 2 (writer)", "created in twins"] == 1
    assert found["MLP 0 (neither)", "ended, each twin"] == 0
    assert found["1 coordinate of MLP 2", "ended"] == found["1 neuron of MLP 2", "ended"] == 1


def test_a_wrong_number_of_ours_shows(ours, compared):
    judged, _ = compared
    edges = plain_circuit.only_of(ours.answers["trigger"].cells, planted.SINK)
    cuts = edges[(edges["site"] == "attn_scores") & (edges["measure"] == "ended")]
    wrong = cuts.assign(effect=1 - cuts["effect"])
    found = list(plain_circuit.trigger_rows(judged, wrong, most=1))
    assert len(found) == len(cuts)
    assert {abs(one.difference) for one in found} == {1}


def test_attention_by_hand_is_that_of_the_library(folder, ours):
    theirs = read_plain(folder)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        made = theirs(ours.trace.tokens[None], output_attentions=True)
    plain = PlainModel(read_plain(folder), ours.trace.tokens).run(logits=True)
    torch.testing.assert_close(plain.logits, made.logits[0])
    torch.testing.assert_close(plain.weights, torch.cat(made.attentions))


def test_a_model_of_another_kind_is_refused():
    for variant in ("gemma3", "qwen2-window"):
        with pytest.raises(ValueError, match="expected layers of"):
            PlainModel(families.tiny(variant), torch.arange(3, 40))


def test_a_random_model_has_no_sinks_and_no_error():
    run = PlainModel(families.tiny("qwen2"), torch.arange(3, 60)).run()
    rule = Rule(run)
    assert [rule.kind(pos) for pos in range(1, 50)].count("secondary") == 0


def test_the_command_writes_its_part_of_a_page(folder, ours, compared, tmp_path, monkeypatch):
    texts, page = tmp_path / "texts.jsonl", tmp_path / "page.md"
    texts.write_text(json.dumps({"id": "one", "text": planted.TEXT}))
    page.write_text("# A page\n\nWords.\n")
    monkeypatch.setattr(plain_circuit, "ask_package", lambda hooked, text, pos: ours)
    monkeypatch.setattr(plain_circuit, "compare", lambda ours, plain, most: compared)
    words = [str(folder), "--texts", str(texts), "--out", str(page), "--pos", str(planted.SINK)]
    with pytest.raises(SystemExit, match="0"):
        plain_circuit.main([*words, "--text", "one"])
    written = page.read_text()
    assert re.search(r"Of \d+ outcomes of edits, 0 differ", written)
    assert written.startswith("# A page\n\nWords.\n\n<!-- measured: one 21 -->\n")
    assert "| 2 | yes, yes |" in written


def test_no_difference_on_the_page_is_more_than_rounding():
    page = (Path(__file__).parents[2] / "docs" / "plain_circuit.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.count(" | ") > 4]
    numbers = [float(row[5]) for row in rows if row[0] != "part"]
    assert len(numbers) > 150
    assert max(map(abs, numbers)) <= ROUNDING


def test_what_is_not_there_is_refused(folder, tmp_path, capsys):
    words = [str(folder), "--texts", "bundled:claims", "--out", str(tmp_path / "page.md")]
    with pytest.raises(SystemExit, match="2"):
        plain_circuit.main([*words, "--text", "no-such-text", "--pos", "5"])
    assert "no text has the id 'no-such-text'" in capsys.readouterr().err
    with pytest.raises(TextError, match="no sink to ask about at position 5"):
        plain_circuit.ask_package(load_model(str(folder), device="cpu"), TEXT, 5)
