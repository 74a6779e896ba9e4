"""How results show themselves: short lines, safe HTML, figures, slices, frames."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

import secondary_sinks
from secondary_sinks import Edit, SinkTable, display, plot, plots
from secondary_sinks.errors import DetectionError, EditError, SinkError
from secondary_sinks.questions import later_verdict, layer_verdicts
from secondary_sinks.testing import Plant, plant

PLANTS = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))]
HOSTILE = "<script>alert(1)</script>\u202e&\"'\n"
EDITS = [Edit(pos=20, layer=3), Edit(pos=21, layer=2, kind="scale", value=0.5)]


@pytest.fixture(scope="module")
def results():
    """One of each result, of a text whose tokens hold markup."""
    model, planted = (planted := plant(PLANTS)).model, planted
    trace = secondary_sinks.observe(model, planted.tokens, text_id=HOSTILE)
    trace = replace(trace, token_strings=(HOSTILE,) * len(trace))
    sinks = secondary_sinks.detect(trace)
    answer = secondary_sinks.necessity(model, trace, sinks)
    hostile = replace(answer[0], claim=HOSTILE, outcome=HOSTILE, why=HOSTILE)
    return {
        "Trace": trace,
        "SinkTable": sinks,
        "Effects": secondary_sinks.ablate(model, trace, sinks, edit=["zero", "mean"]),
        "Replay": secondary_sinks.replay(model, trace, EDITS),
        "Recomputed": secondary_sinks.recompute(model, trace, EDITS, by_query=True),
        "Answer": replace(answer, question=HOSTILE, verdicts=(hostile,)),
        "Verdict": hostile,
        "Levels": secondary_sinks.find_levels(sinks),
        "Formation": secondary_sinks.formation(model, trace, sinks),
        "MlpAnatomy": secondary_sinks.mlp_anatomy(model, trace, sinks),
        "Weakening": secondary_sinks.primary_weakening(trace, sinks),
        "Phenomenon": secondary_sinks.phenomenon(trace, sinks),
    }


class Tags(HTMLParser):
    """Names of the tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_every_result_is_a_line_in_a_shell_and_inert_html_in_a_notebook(results):
    for name, result in results.items():
        line, page = repr(result), Tags(result._repr_html_())
        assert line.startswith(f"{name}("), name
        assert len(line) < 230, name
        assert line.isprintable()
        known = {"div", "code", "table", "thead", "tbody", "tr", "th", "td", "p", "span"}
        assert page.tags <= known | {"b", "small", "br"}, name
        assert "\u202e" not in page.text
        assert len(result.to_frame().columns), name
    assert "<script>" in Tags(results["Trace"]._repr_html_()).text  # told as text


def test_lines_say_what_is_in_them(results):
    assert repr(results["SinkTable"]) == "SinkTable(1 primary, 1 secondary; 1 text)"
    told = "Phenomenon(yes: all four criteria are met by 1 of 1 distinct secondary sink)"
    assert repr(results["Phenomenon"]) == told
    assert repr(results["Replay"]) == "Replay(2 cells x 8 layers: zero, scale:0.5)"
    assert repr(Edit(pos=(3, 4), layer=2)) == "Edit(pos=(3, 4), layer=2, kind='zero')"


def test_the_repr_of_an_edit_is_the_edit():
    for edit in (*EDITS, Edit(pos=1, layer=range(3), kind="patch", donor=[4, 5])):
        assert eval(repr(edit)) == edit


def test_results_of_many_are_sequences(results):
    sinks, effects = results["SinkTable"], results["Effects"]
    assert [*sinks] == list(sinks.sinks)
    assert sinks[-1] is sinks.sinks[-1]
    assert isinstance(sinks[:1], SinkTable)
    assert len(sinks[:1]) == 1
    assert sinks[:1].thresholds is sinks.thresholds
    assert len(effects[3:5]) == 2
    assert effects[3] in [*effects]
    assert [*results["Answer"]] == [results["Answer"][0]]
    assert len(results["Trace"]) == 64


@pytest.mark.parametrize("name", ["Replay", "Recomputed"])
def test_a_part_of_a_result_has_the_numbers_of_its_cells(results, name):
    whole = results[name]
    for part in (whole[1], whole[1:], [*whole][1]):
        assert part.cells == whole.cells[1:]
        torch.testing.assert_close(part.norm, whole.norm[:, 1:])
        torch.testing.assert_close(part.kl, whole.kl[1:], equal_nan=True)
    with pytest.raises(IndexError):
        whole[2]


def test_frames_of_a_replay_and_a_recomputation_hold_their_tensors(results):
    replayed, recomputed = results["Replay"], results["Recomputed"]
    row = replayed.to_frame().query("cell == 1 and layer == 5").iloc[0]
    assert row["mass"] == replayed.mass[5, 1]
    assert row["pos"] == 21
    assert row["edit"] == "scale:0.5 of mlp_out, layer 2, position 21"
    row = recomputed.to_frame().query("cell == 0 and layer == 5 and pos == 21").iloc[0]
    assert row["norm"] == recomputed.norm[5, 0, recomputed.column(21)]


def test_long_tables_and_texts_say_how_much_is_left_out(results):
    table = Tags(results["Effects"]._repr_html_()).text
    assert "and 12 further rows" in table
    strip = display.strip_html(["a"] * 405, [0.0] * 405, ["x"] * 405)
    assert "5 further tokens" in Tags(strip).text


def test_figures(results):
    trace, sinks, effects = (results[name] for name in ("Trace", "SinkTable", "Effects"))
    lives = trace.plot()
    assert lives.data[0].y[0] == pytest.approx(float(trace.mass[1, 0]))
    assert {"primary (1)", "secondary (1)"} <= {one.name for one in trace.plot(sinks=sinks).data}
    assert sinks.plot().data[0].type == effects.plot(edit="mean").data[0].type == "heatmap"
    assert plot([*results["Answer"]]).data[0].x[0] == results["Verdict"].value
    with pytest.raises(SinkError, match="choose one: edit='zero' or 'mean'"):
        effects.plot()
    with pytest.raises(SinkError, match=r"Replay has no figure of its own; draw its \.to_frame"):
        results["Replay"].plot()


def test_unknown_words_are_refused_at_once_with_the_known_ones(results):
    with pytest.raises(EditError, match="unknown edit 'foo'; expected one of none, zero"):
        Edit(pos=1, layer=0, kind="foo")
    with pytest.raises(EditError, match=r"layer of an edit is 2\.5; expected a whole number"):
        Edit(pos=1, layer=2.5)
    with pytest.raises(DetectionError, match="did you mean 'secondary'"):
        results["SinkTable"].of_kind("seconday")


def test_whole_numbers_of_other_libraries_are_whole_numbers():
    edit = Edit(pos=torch.tensor(7), layer=[torch.tensor(2), 3])
    assert edit == Edit(pos=7, layer=(2, 3))
    assert type(edit.pos) is int


def test_the_version_is_that_of_the_installed_package():
    assert secondary_sinks.__version__.count(".") == 2


def test_plots_and_verdicts_take_results_for_their_frames(results):
    trace, sinks = results["Trace"], results["SinkTable"]
    frames = trace.to_frame(), sinks.to_frame()
    effects = results["Effects"][:16]
    for draw in (plots.layer_profiles, plots.profile_table, plots.attention_around_life):
        assert str(draw([trace], sinks)) == str(draw(*frames))
    assert str(plots.ablation_heatmap(effects)) == str(plots.ablation_heatmap(effects.to_frame()))
    assert repr(layer_verdicts(effects)) == repr(layer_verdicts(effects.to_frame()))
    assert repr(later_verdict(effects)) == repr(later_verdict(effects.to_frame()))
    assert len(plots.verdict_table(results["Answer"])) == 1
