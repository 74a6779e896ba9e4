"""The widget shows its session, and passes on what the browser sends; without a browser."""

import base64
import dataclasses
import json
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from secondary_sinks import notebook
from secondary_sinks.notebook import SinkExplorer
from secondary_sinks.notebook import widget as module
from secondary_sinks.notebook.choice import MEASURES
from secondary_sinks.observation import cached_pass
from secondary_sinks.runs import RunFolder
from secondary_sinks.testing import Plant, plant
from secondary_sinks.types import read_by_next

HERE = Path(module.__file__).parent
PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


@pytest.fixture(scope="module")
def planted():
    return plant([PRIMARY, Plant(pos=20, forming=(3,))])


@pytest.fixture
def explorer(planted):
    return SinkExplorer(planted.model, planted.tokens)


@pytest.fixture(scope="module")
def long():
    """An explorer of a text of three pages."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))], n_pos=600)
    return SinkExplorer(planted.model, planted.tokens)


def numbers(sent):
    """An array as plotly sends it: bytes in base64, and a shape."""
    bytes_ = bytearray(base64.b64decode(sent["bdata"]))
    kind = {"f4": torch.float32, "f8": torch.float64}[sent["dtype"]]
    return torch.frombuffer(bytes_, dtype=kind).reshape([int(n) for n in sent["shape"].split(",")])


def click(explorer, **changes):
    """What the page does when something is chosen."""
    explorer.set_state({"choice": explorer.choice | changes})


def send(explorer, **content):
    """What the page does when a button is pressed."""
    explorer._handle_custom_msg(content, [])


def test_what_is_sent_is_small_plain_and_without_nan(long):
    click(long, kind="zero", measure="mass")
    state = long.get_state()
    shown = {
        name: state[name] for name in ("setup", "choice", "page", "map", "marks", "curves", "table")
    }
    assert len(json.dumps(shown, allow_nan=False)) < 100_000
    assert len(long.page["tokens"]) == len(long.page["excess"]) == module.PAGE


def test_a_click_runs_the_edit_and_says_what_it_did(explorer):
    click(explorer, pos=20, layer=3)
    assert explorer.table == {}
    assert explorer.code == ""
    click(explorer, kind="zero")
    assert explorer.status.startswith("Zero the MLP output of layer 3 at '[1]' (position 20): ")
    assert "lifetime 5 to 0 layers" in explorer.status
    assert "Control '[1]' (position 19), twin: lifetime 0 to 0 layers" in explorer.status
    rows = {title: cells for title, *cells in explorer.table["rows"]}
    assert rows["lifetime (layers)"] == ["5", "0", "0", "0"]
    assert len(explorer.curves["data"]) == 4
    assert explorer.trials == [explorer.status]
    assert explorer.choice == explorer.session.choice.to_dict()


def test_python_can_do_what_clicks_do(explorer):
    explorer.choose(pos=20, layer=3, kind="zero")
    assert explorer.choice["kind"] == "zero"
    assert explorer.result["lifetime_edited"].tolist() == [0, 0]
    explorer.undo()
    assert explorer.choice["kind"] == "none"
    explorer.choice = explorer.choice | {"kind": "mean"}
    assert len(explorer.trials) == 2


def test_where_no_widget_is_drawn_it_says_what_there_is_and_what_to_install(explorer):
    explorer.choose(pos=20, layer=3, kind="zero")
    said = repr(explorer)
    assert said.startswith(
        "SinkExplorer(64 tokens, 8 layers; 1 secondary sink. Zero the MLP output"
    )
    assert "pip install '.[notebook]'" in said
    assert explorer._repr_mimebundle_()[0]["text/plain"] == said


def test_a_patch_says_that_it_waits_for_a_donor(explorer):
    click(explorer, kind="patch")
    assert explorer.status == "A patch of '[1]' (position 20) at layer 3: choose a donor."
    click(explorer, donor=40)
    assert "from position 40" in explorer.status


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"layer": 99}, "layer is 99"), ({"kind": "patch", "donor": 20}, "the token itself")],
)
def test_what_cannot_be_done_is_said_in_words_and_the_page_goes_back(explorer, changes, words):
    before = explorer.choice
    click(explorer, **changes)
    assert words in explorer.error
    assert explorer.choice == before
    click(explorer, kind="zero")
    assert explorer.error == ""


def test_buttons(explorer, tmp_path):
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), "progress")
    click(explorer, kind="zero")
    send(explorer, do="total")
    assert explorer.table["rows"][-2][0] == "attention mass, total effect"
    assert seen[-2:] == [1.0, -1.0]
    assert "direct_and_total" in explorer.code
    assert explorer.status.count(", in total to ") == 2  # at the token and at its control
    send(explorer, do="undo")
    assert explorer.choice["kind"] == "none"
    send(explorer, do="undo")
    assert "nothing to undo" in explorer.error
    send(explorer, do="total")
    assert "no edit is chosen yet" in explorer.error
    send(explorer, do="go", number=0)
    assert (explorer.choice["kind"], explorer.error) == ("zero", "")
    send(explorer, do="export", folder=str(tmp_path / "explored"))
    assert explorer.status == f"Written to {tmp_path / 'explored'}."
    assert RunFolder(tmp_path / "explored").record()["explored"]
    send(explorer, do="export", folder=str(tmp_path / "explored"))
    assert "is not empty" in explorer.error
    assert explorer.table, "an error takes nothing away"


@pytest.mark.parametrize(
    "content",
    [
        *({"do": "fly"}, {}, "nonsense", {"do": "page"}, {"do": "go", "number": 0.5}),
        *(
            {"do": "page", "number": "0"},
            {"do": "export", "folder": ""},
        ),
    ],
)
def test_a_message_that_means_nothing_is_no_crash(explorer, content):
    explorer._handle_custom_msg(content, [])
    assert explorer.error


def test_an_equal_choice_of_another_type_is_refused_by_name(explorer):
    pos = explorer.choice["pos"]
    explorer.choice = explorer.choice | {"pos": float(pos)}
    assert explorer.error.startswith(f"pos is {float(pos)}; expected a whole number")
    assert type(explorer.choice["pos"]) is int


def test_a_long_text_says_that_edits_take_a_while_and_shows_progress(planted, monkeypatch):
    monkeypatch.setattr(cached_pass, "KEPT_AT_MOST", 1000)
    explorer, seen = SinkExplorer(planted.model, planted.tokens), []
    assert explorer.setup["found"].endswith("A long text: each edit needs a pass over all of it.")
    explorer.observe(lambda change: seen.append(change["new"]), "progress")
    click(explorer, kind="zero")
    assert seen == [layer / 8 for layer in range(1, 9)] + [-1.0]


def test_pages_turn_by_themselves_and_by_hand(long):
    assert long.setup["pages"] == 3
    click(long, pos=590)
    assert (long.page["number"], long.page["start"]) == (2, 512)
    assert len(long.page["tokens"]) == 600 - 512
    send(long, do="page", number=1)
    assert long.page["number"] == 1
    assert long.choice["pos"] == 590
    click(long, layer=5)
    assert long.page["number"] == 1, "only another token turns the page"
    send(long, do="page", number=9)
    assert long.page["number"] == 2


def test_the_strip_is_coloured_by_what_the_states_of_the_chosen_layer_draw(long):
    click(long, pos=21, layer=4)
    excess = read_by_next(long.session.trace.mass_excess)
    assert long.page["excess"] == [round(v, 4) for v in excess[4, : module.PAGE].tolist()]
    click(long, layer=7)
    assert set(long.page["excess"]) == {None}, "no block reads the last layer"


def test_what_few_later_tokens_see_is_not_coloured(explorer):
    known = [value is not None for value in explorer.page["excess"]]
    assert known == [True] * 57 + [False] * 7, "of 64 tokens, 8 queries see the one at 56"


@pytest.mark.parametrize("measure", MEASURES)
def test_the_map_holds_the_measure_of_every_layer_and_token_of_the_page(long, measure):
    click(long, pos=300, measure=measure)
    figure = go.Figure(long.map | {"layout": long.map["layout"] | {"shapes": long.marks}})
    trace = long.session.trace
    values = getattr(trace, measure)
    values = read_by_next(values) if measure == "mass" else values
    torch.testing.assert_close(
        numbers(figure.data[0].customdata), values[:, 256:512], equal_nan=True
    )
    assert figure.data[0].x[0] == 256
    frame = figure.layout.shapes[-1]
    assert ((frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2) == (300, long.choice["layer"])


def test_a_click_on_the_same_page_sends_marks_and_no_map(long):
    click(long, pos=300, layer=2, measure="norm_ratio")
    before = long.map
    click(long, pos=310, layer=4)
    assert long.map is before
    assert (long.marks[0]["y0"], long.marks[1]["x0"]) == (4, 309.5)
    for changes in ({"pos": 20}, {"measure": "mass"}):
        before = long.map
        click(long, **changes)
        assert long.map != before, changes


def test_hostile_tokens_reach_plotly_as_escapes_and_the_strip_as_plain_text(planted):
    evil = "<img src=x onerror=alert(1)>"
    explorer = SinkExplorer(planted.model, planted.tokens)
    strings = (evil, *explorer.session.trace.token_strings[1:])
    explorer.session.trace = dataclasses.replace(explorer.session.trace, token_strings=strings)
    explorer.choose(pos=0)
    assert explorer.page["tokens"][0] == evil.replace(" ", "\u2423")
    assert explorer.page["labels"][0].startswith("&lt;img")
    script = (HERE / "explorer.js").read_text("utf-8")
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script
    assert "http" not in script, "nothing comes from a network"


def test_plotly_comes_from_the_installed_package_when_the_page_asks(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers: sent.append((content, buffers)))
    send(explorer, do="plotly")
    ((content, (source,)),) = sent
    assert content == {"plotly": True}
    assert source[:100].lstrip().startswith(b"/**\n* plotly.js")


def test_without_anywidget_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "secondary_sinks.notebook.widget", raising=False)
    assert notebook.Session
    with pytest.raises(ModuleNotFoundError, match="needs anywidget") as refused:
        notebook.__getattr__("SinkExplorer")
    assert "pip install 'secondary-sinks[notebook]'" in str(refused.value)
