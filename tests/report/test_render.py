import io
import json

import pandas as pd
import pytest

from secondary_sinks.report import render, strips, tables, write_report
from secondary_sinks.report.claims import claims, group_alike, next_step, tally
from secondary_sinks.report.figures import Panel
from secondary_sinks.report.section import Section, in_rows
from secondary_sinks.report.strongest import strongest
from secondary_sinks.runs import RunFolder
from secondary_sinks.statistics import min_texts
from tests.plots import frames
from tests.report.pages import Html, layer_effect, page, record, verdict


def figures(html):
    return {attrs["id"] for attrs in html.of("div") if attrs.get("class") == "figure"}


def test_a_whole_page_has_its_sections_in_order():
    html = Html(page())
    headings = [data for tag, data in html.texts if tag == "h2"]
    assert headings == [
        "Is this the paper's phenomenon?",
        "Verdicts",
        "The sinks in their text",
        "Through the layers",
        "Levels",
        "Necessity",
        "All sinks",
        "Limits",
        "Provenance",
        "Terms",
    ]
    assert figures(html) == {
        "life",
        "profiles",
        "lives",
        "levels",
        "judged-necessity",
        "bars",
        "sinks",
        "controls",
    }
    assert "Secondary attention sinks of tiny" in html.words


def test_the_summary_counts():
    two = frames.sinks(
        frames.sink("one", 0, "primary", mass_max=0.5),
        frames.sink("one", 1, mass_max=0.1),
        frames.sink("one", 3, mass_max=0.3, l_start=2, lifetime=1, censored="right"),
        frames.sink("two", 0, "primary", mass_max=0.7),
        frames.sink("two", 2, "primary_like"),
    )
    words = Html(
        page(record=record("one", "two"), sinks=two, trace=frames.trace("one", "two"))
    ).words
    assert "2 secondary sinks in 2 texts, no copies; 0 transient (" in words
    assert "1 of 2 texts has secondary sinks." in words
    assert "Every text has an active primary sink, “<s>”." in words
    assert "layer 1 (1) and layer 2 (1)" in words
    assert "2 layers (1) and 1 layer (1)" in words
    assert "draws 20% of the attention of the tokens that see it, the strongest 30%" in words
    assert "median primary draws 60%" in words
    assert "1 more sink arises and lasts with the primary" in words
    assert "1 secondary sink is cut off, by the first or last layer" in words


def test_verdicts_are_given_with_interval_and_sample():
    html = Html(page())
    assert "1 claim tested: 1 supported." in html.words
    assert "supported Secondary sinks need the MLP of layer 0 95% 95% interval 90% to 99%" in (
        html.words
    )
    assert "Zeroing it takes nearly all." in html.words
    assert "Share of mass lost beyond controls: 95% , 95% interval 90% to 99%." in html.words
    assert "7 sinks in 3 texts; controls: same edit at token twins." in html.words
    bars = [a["style"] for a in html.of("i")], [a["style"] for a in html.of("b") if a]
    assert bars == (["left:90.0%;width:9.0%"], ["left:95.0%"])
    assert [a["style"] for a in html.of("span") if a.get("class") == "bar"] == ["--at:50.0%"]


def test_the_bar_of_a_verdict_marks_the_line_that_it_was_held_against():
    html = Html(page(record=record(verdicts=[verdict(line=0.1)])))
    assert [a["style"] for a in html.of("span") if a.get("class") == "bar"] == ["--at:10.0%"]


def test_numbers_that_are_no_shares_are_no_percentages():
    words = Html(
        page(
            record=record(verdicts=[verdict(statistic="rank correlation", unit="rank correlation")])
        )
    ).words
    assert "Rank correlation: 0.95 , 95% interval 0.90 to 0.99." in words


@pytest.mark.parametrize("missing", [float("nan"), None])
def test_a_verdict_without_interval_or_number_says_so(missing):
    bare = [verdict(low=missing, high=missing, n_texts=1), verdict(value=missing, n_sinks=0)]
    html = Html(page(record=record(verdicts=bare)))
    assert "95% , without an interval" in html.words
    assert "nan" not in html.words.lower().split()
    assert "0 sinks" not in html.words
    assert not html.of("i")


def test_sinks_are_marked_in_their_text_with_their_numbers():
    html = Html(page())
    marks = [attrs["class"] for attrs in html.of("mark") if "tabindex" in attrs]
    assert marks == ["primary", "secondary"] * 2, "in the excerpt of the strongest, and in the text"
    assert "secondary sink, position 1, layers 1-2, peak mass 25%" in html.words
    assert [data for tag, data in html.texts if tag == "mark"][-2:] == ["<s>", "␣the"]
    assert ("span", "⏎\n") in html.texts


def test_nothing_is_open_that_can_be_folded_but_a_short_text_alone():
    ids = ("one", "two")
    html = Html(page(record=record(*ids), trace=frames.trace(*ids)))
    found = html.of("details")
    assert [attrs for attrs in found if "class" not in attrs] == [{}, {}], "the texts"
    assert not any("open" in attrs for attrs in found)
    (alone,) = [attrs for attrs in Html(page()).of("details") if "class" not in attrs]
    assert "open" in alone


def test_the_first_figure_is_the_life_of_the_strongest_sink_next_to_the_primary():
    table = frames.sinks(
        frames.sink(pos=0, kind="primary", mass_max=0.5),
        frames.sink(pos=2, mass_max=0.1),
        frames.sink(pos=1, mass_max=0.3, segments="1-3"),
    )
    roles = pd.DataFrame(
        {"text_id": "one", "pos": 1, "role": ["writer", "neither"], "layer": [1, 0]}
    )
    found = strongest(frames.trace(), table, roles)
    caption = found.panel.caption
    assert "“␣the” at position 1 of text “one”: layers 1-3, up to 30% of the attention" in caption
    assert "The primary, “<s>” at position 0: layers 1-2, up to 50%" in caption
    assert caption.endswith("Writer: MLP 1.")
    assert "created at layer 1 by MLP 1" in found.panel.data
    drawn = pd.read_csv(io.StringIO(json.loads(found.panel.table)))
    mass = drawn[(drawn["panel"] == "mass") & (drawn["group"] == "secondary")]
    assert mass["x"].tolist() == [0, 1, 2], "the block that reads the last layer does not exist"
    assert mass["value"].tolist() == pytest.approx([0.25] * 3)
    assert [piece.kind for piece in found.strip.pieces[:3]] == ["primary", "secondary", "secondary"]


@pytest.mark.parametrize(
    ("roles", "end"),
    [
        (None, "l + 1."),
        (pd.DataFrame({"text_id": [], "pos": [], "role": [], "layer": []}), "found."),
    ],
)
def test_a_sink_without_a_known_writer_is_given_none(roles, end):
    found = strongest(frames.trace(), frames.sinks(), roles)
    assert found.panel.caption.endswith(end)
    assert " by MLP" not in found.panel.data


def test_the_strongest_is_no_copy_of_a_sink_of_an_earlier_text():
    copy = frames.sink(pos=2, mass_max=0.5, copy_of="zero")
    found = strongest(frames.trace(), frames.sinks(copy, frames.sink(pos=1, mass_max=0.3)), None)
    assert " at position 1 of text “one”" in found.panel.caption
    assert strongest(frames.trace(), frames.sinks(copy), None) is None


def test_without_a_secondary_sink_no_life_is_drawn():
    assert strongest(frames.trace(), frames.no_sinks(), None) is None


def test_the_excerpt_shows_the_primary_and_what_is_near_the_sink(monkeypatch):
    monkeypatch.setattr(strips, "EXCERPT", 1)
    table = frames.sinks(frames.sink(pos=0, kind="primary"), frames.sink(pos=7, token=" w3"))
    shown = [piece.text for piece in strips.excerpt(frames.trace(), table, "one", 7).pieces]
    assert shown == ["<s>", " the", "⏎\n", " … 3 tokens … ", " w2", "␣w3", " w4", " … 3 tokens … "]


def test_questions_that_were_not_asked_take_one_sentence():
    words = Html(page()).words
    assert "Not asked: sufficiency, direction or norm (norm_dose), where a removed" in words
    assert "(eviction). To ask, add --ask NAME or --ask all" in words


def test_a_run_without_sinks_says_so_and_draws_no_empty_figure():
    html = Html(
        page(
            record=record(verdicts=[], layer_effects=[]),
            sinks=frames.no_sinks(),
            effects=frames.no_effects(),
        )
    )
    assert "No: these texts have no secondary sink, and no primary" in html.words
    assert "No text has an active primary sink" in html.words
    assert "There was no sink to ablate, so no MLP was tested." in html.words
    assert figures(html) == {"profiles"}
    assert not html.of("mark")


def test_detection_alone_says_so():
    html = Html(page(record=record(edit=None, verdicts=[]), effects=None))
    assert "Only detection was run: no MLP was ablated." in html.words
    assert figures(html) == {"life", "profiles", "lives", "levels"}
    assert "effects.parquet" not in html.words
    assert "direct effect" not in html.words


def test_only_primary_like_sinks_have_a_map_and_no_bars():
    table = frames.sinks(frames.sink(pos=0, kind="primary"), frames.sink(kind="primary_like"))
    cells = frames.effects().assign(kind="primary_like")
    html = Html(page(sinks=table, effects=cells, record=record(layer_effects=[])))
    assert figures(html) == {"profiles", "judged-necessity", "sinks", "controls"}


def test_of_several_edits_the_maps_show_the_first_and_say_so():
    both = pd.concat([frames.effects(), frames.effects().assign(edit="mean", mass_edited=0.0)])
    html = Html(page(effects=both, record=record(edit="zero, mean")))
    assert figures(html) == {
        "life",
        "profiles",
        "lives",
        "levels",
        "judged-necessity",
        "bars",
        "sinks",
        "controls",
    }
    assert html.words.count("Shown is one of 2 edits: zero, mlp_out, direct.") == 2
    data = {attrs["id"]: json.loads(text) for attrs, text in html.scripts() if "id" in attrs}
    assert data["sinks-table"].count("\n") == 1 + 2
    assert "one of 2 edits" not in Html(page()).words


def test_sinks_whose_mass_is_unknown_have_no_map():
    cells = frames.effects().assign(mass_clean=float("nan"))
    html = Html(page(effects=cells, record=record(layer_effects=[])))
    assert figures(html) == {"life", "profiles", "lives", "levels", "judged-necessity"}
    assert "no loss can be shown" in html.words


def test_bars_come_from_the_record():
    html = Html(page(record=record("one", "two"), effects=frames.effects("one", "two")))
    data = {attrs["id"]: text for attrs, text in html.scripts() if "id" in attrs}
    assert json.loads(data["bars-data"])["data"][0]["y"] == pytest.approx([0.95, 0.0])


def test_the_command_is_shown_where_there_is_one():
    assert not Html(page()).of("pre")
    html = Html(
        page(record=record(command="secondary-sinks run tiny --out 'a b'", commit="c0ffee"))
    )
    assert "secondary-sinks run tiny --out 'a b'" in html.words
    assert "c0ffee" in html.words


def test_what_was_run_is_told():
    words = Html(page()).words
    for part in ("0123456789ab", "cpu, float32", "torch 2.0", "observe 1.2 s", "4 layers, 2 heads"):
        assert part in words
    assert "aligned 0.9 minimum centred cosine with the primary" in words
    assert "one raw 12 0 1" in words


def test_long_texts_are_shown_around_their_sinks(monkeypatch):
    monkeypatch.setattr(strips, "MOST_TOKENS", 5)
    monkeypatch.setattr(strips, "AROUND", 1)
    html = Html(page(sinks=frames.sinks(frames.sink(pos=5, token=" w1"))))
    shown = [data for tag, data in html.texts if tag in {"span", "mark", "em"}]
    start = shown.index(" … 4 tokens … ")
    assert shown[start : start + 5] == [" … 4 tokens … ", " w0", "␣w1", " w2", " … 5 tokens … "]
    assert "Only the surroundings of sinks are shown." in html.words


def test_a_long_table_is_cut_and_that_is_said(monkeypatch):
    monkeypatch.setattr(tables, "MOST_SINKS", 1)
    html = Html(page(record=record()))
    assert "Table of the first 1 of 2 sinks; all are in sinks.parquet" in html.words


def test_a_run_folder_becomes_a_report(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_table("sinks", frames.sinks())
    folder.write_table("trace", frames.trace())
    folder.write_table("effects", frames.effects())
    folder.write_record(record())
    path = write_report(folder)
    assert path == tmp_path / "report.html"
    assert figures(Html(path.read_text(encoding="utf-8"))) == {
        "life",
        "profiles",
        "lives",
        "levels",
        "judged-necessity",
        "bars",
        "sinks",
        "controls",
    }


def test_empty_tables_survive_the_disk(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_table("sinks", frames.no_sinks())
    folder.write_table("trace", frames.trace())
    folder.write_table("effects", frames.no_effects())
    folder.write_record(record(verdicts=[], layer_effects=[]))
    assert "made by an older version" in write_report(folder).read_text(encoding="utf-8")


def test_a_detection_folder_needs_no_effects(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_table("sinks", frames.sinks())
    folder.write_table("trace", frames.trace())
    folder.write_record(record(edit=None, verdicts=[]))
    assert "Only detection was run" in write_report(folder).read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_page():
    assert page() == page()


def test_the_tables_stay_as_they_were():
    given = [frames.sinks(), frames.trace(), frames.effects()]
    before = [frame.copy() for frame in given]
    render(record(), *given)
    for frame, copy in zip(given, before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


def test_verdicts_of_a_question_that_lack_the_same_say_it_once_and_fold_their_claims():
    lacks = "only 1 sink in 1 text; at least 5 sinks in 6 texts are needed"
    few = [
        verdict(outcome="inconclusive", claim=f"claim {n}", why=f"found {n}; {lacks}", lacks=lacks)
        for n in range(3)
    ]
    other = verdict(outcome="inconclusive", claim="another", why="neither")
    html = Html(page(record=record(verdicts=[*few, other], later=[few[0]])))
    heads = [data for tag, data in html.texts if tag == "span" and lacks in data]
    assert heads == [f"Necessity, 3 claims: {lacks}"]
    for n in range(3):
        assert f"Claim {n}" in html.words
        assert f"Found {n}; {lacks}." in html.words, "each claim, once opened, says it whole"
    groups = group_alike([*few, other], lambda one: ("q", one.get("lacks", "")))
    assert [len(group) for group in groups] == [3, 1]


def test_sections_that_fit_into_half_of_the_page_stand_side_by_side():
    def section(name, *heights):
        panels = tuple(
            Panel(name=name, title="", caption="", height=height, data="", table="")
            for height in heights
        )
        return Section(name=name, title=name, says=(), panels=panels)

    given = [section("a", 300), section("b"), section("c", 500, 500), section("d", 200, 300)]
    given += [section("e", 600, 600, 600), section("f", 400), section("g", 300), section("h", 300)]
    rows = [[one.name for one in row] for row in in_rows(given)]
    assert rows == [["a", "b"], ["c"], ["d"], ["e"], ["f", "g"], ["h"]]
    assert [one.half_for_text for one in given[:5]] == [True, False, False, False, True]


def test_of_many_texts_the_first_are_listed_and_the_others_folded():
    ids = ["one", *(f"text {n}" for n in range(13))]
    html = Html(page(record=record(*ids), trace=frames.trace(*ids)))
    assert "Show all: 6 more texts" in html.words
    assert all(f"{name} 12 tokens" in html.words for name in ids)
    few = Html(page(record=record(*ids[:11]), trace=frames.trace(*ids[:11])))
    assert "Show all" not in few.words


def test_what_would_decide_inconclusive_claims_is_told_under_the_tally():
    few = verdict(outcome="inconclusive", n_texts=3, n_claims=9)
    split = verdict(outcome="inconclusive", low=0.4, n_texts=20, n_sinks=40, n_claims=9)
    untested = verdict(outcome="inconclusive", n_sinks=0, n_texts=0)
    assert next_step([verdict(), untested]) == ""
    assert next_step([few, verdict()]).startswith(
        f"1 claim needs more data: at least 5 sinks of its kind, in at least "
        f"{min_texts(9)} texts with one. "
    )
    both = next_step([few, few | {"n_claims": 27}, split])
    assert both.startswith(
        f"2 claims need more data: at least 5 sinks of its kind, in at least "
        f"{min_texts(27)} texts with one."
    )
    assert both.endswith(
        "1 claim has an interval on both sides of the threshold: more texts narrow it."
    )
    words = Html(page(record=record(verdicts=[few]))).words
    assert f"Open one for its reason. {next_step([few])}" in words


def test_a_layer_that_ends_sinks_is_told():
    rows = [layer_effect(0, 0.9), layer_effect(3, 0.0) | {"prolonged": 0.25}]
    words = Html(page(record=record(layer_effects=rows))).words
    assert "With the MLP of layer 3 edited, 25% of the sinks last longer" in words
    assert "Editing the MLP of layer 0" not in words


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((13, 13), "hold jointly at 95%: error rates are divided by 13 (B"),
        ((4, 13), "hold jointly at 90%: error rates are divided by 4 and 13 (B"),
    ],
)
def test_a_page_says_how_surely_all_its_intervals_hold_at_once(numbers, words):
    found = claims({"verdicts": [verdict() | {"n_claims": number} for number in numbers]}, {})
    assert words in tally(found)
    assert f"corrected for {numbers[0]} claims" in found[0].interval
