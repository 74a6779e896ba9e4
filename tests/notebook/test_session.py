"""A session does what was chosen, and gives the numbers that the library gives."""

import json

import pytest
import torch

from secondary_sinks import Edit, ablate, detect, load_model, replay
from secondary_sinks.causal import direct_and_total
from secondary_sinks.detection import phenomenon
from secondary_sinks.errors import DetectionError, EditError, RunFolderError, TextError
from secondary_sinks.notebook import Session
from secondary_sinks.notebook import session as module
from secondary_sinks.notebook.trial import describe_edit
from secondary_sinks.observation import cached_pass
from secondary_sinks.report import render
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import verify
from secondary_sinks.testing import Plant, plant
from secondary_sinks.types import Thresholds
from tests.marks import exhaustive
from tests.tiny import TEMPLATE, tiny_llama, tiny_tokenizer


def same(got, expected):
    """Rows of before and after are equal, numbers nearly."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        near = isinstance(value, float)
        assert got[name] == (pytest.approx(value, rel=1e-4, nan_ok=True) if near else value), name


PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


@pytest.fixture(scope="module")
def planted():
    return plant(
        [PRIMARY, Plant(pos=20, forming=(3,)), Plant(pos=30, forming=(2,), strength=90.0)],
        content_queries=True,
    )


@pytest.fixture
def session(planted):
    return Session(planted.model, planted.tokens)


def test_it_begins_at_the_strongest_secondary_sink_with_nothing_done(session):
    assert (session.choice.pos, session.choice.layer, session.choice.kind) == (30, 2, "none")
    assert session.current is None
    assert session.trials == ()
    assert session.immediate


def test_a_text_without_sinks_begins_at_the_likeliest_primary():
    bare = plant([])
    session = Session(bare.model, bare.tokens)
    assert session.sinks.sinks == ()
    assert session.choice.pos == session.trace.primary
    assert session.choose(kind="zero").rows[0]["lifetime_clean"] == 0


def test_zeroing_the_planted_mlp_gives_the_numbers_of_ablate(planted, session):
    trial = session.choose(pos=20, layer=3, kind="zero")
    sinks = detect(session.trace)
    effects = ablate(planted.model, session.trace, sinks, layers=[3]).to_frame()
    effects = effects[effects["sink_pos"] == 20].set_index("role")
    own, control = trial.rows
    assert (own["lifetime_clean"], own["lifetime_edited"]) == (5, 0)
    for name in ("alignment", "alignment_centred", "norm", "mass"):
        for run in ("clean", "edited"):
            expected = effects.loc["sink", f"{name}_{run}"]
            assert own[f"{name}_{run}"] == pytest.approx(expected, rel=1e-5)
    assert control["token"] == own["token"]
    assert trial.control_kind == "twin"
    assert control["lifetime_clean"] == 0


@pytest.mark.parametrize(
    ("choice", "edit"),
    [
        ({"kind": "mean"}, {"kind": "mean"}),
        ({"kind": "scale", "value": 2}, {"kind": "scale", "value": 2.0}),
        ({"kind": "remove"}, {"kind": "remove"}),
        ({"kind": "patch", "donor": 40}, {"kind": "patch", "donor": 40}),
        (
            {"kind": "zero", "site": "resid_post", "layer": 5},
            {"layer": 5, "kind": "zero", "site": "resid_post"},
        ),
        (
            {"kind": "scale", "value": 2, "site": "z", "units": "0, 2-3"},
            {"kind": "scale", "value": 2.0, "site": "z", "units": (0, 2, 3)},
        ),
        ({"kind": "zero", "site": "v"}, {"kind": "zero", "site": "v"}),
    ],
)
def test_every_kind_of_edit_is_the_edit_that_it_says(planted, session, choice, edit):
    trial = session.choose(**{"pos": 20, "layer": 3} | choice)
    expected = Edit(**{"pos": 20, "layer": 3} | edit)
    assert trial.edits[0] == expected
    norms = replay(planted.model, session.trace, [expected]).norm[list(trial.layers), 0]
    assert trial.rows[0]["norm_edited"] == pytest.approx(float(norms.mean()), rel=1e-5)


def test_units_are_told_and_another_site_means_all_of_it(session):
    session.choose(pos=20, layer=3, kind="zero", site="z", units="2-3")
    assert "head outputs of layer 3 (heads 2-3)" in describe_edit(session.choice)
    assert "units=[2, 3]" in session.to_python()
    assert session.choice.to_dict()["units"] == "2-3"
    session.choose(**session.choice.to_dict() | {"layer": 4})
    assert session.choice.units == (2, 3), "as a page sends it"
    session.choose(site="mlp_out")
    assert session.choice.units == ()


def test_patching_a_sink_into_an_ordinary_token_makes_one(session):
    trial = session.choose(pos=40, layer=3, kind="patch", donor=20)
    assert (trial.rows[0]["lifetime_clean"], trial.rows[0]["lifetime_edited"]) == (0, 5)
    assert trial.layers == (3, 4, 5, 6, 7), "of a token that is no sink: from the edit on"
    assert trial.edits[1].donor == 20


def test_means_over_a_sink_are_over_its_own_layers_wherever_the_edit_is(session):
    assert session.choose(pos=20, layer=5, kind="zero").layers == (3, 4, 5, 6, 7)
    assert session.current.rows[0]["layers"] == session.current.rows[1]["layers"] == "3-7"


def test_a_patch_waits_for_its_donor(session):
    assert session.choose(kind="patch") is None
    assert session.choose(donor=40).edits[0].donor == 40


def test_controls_are_never_sinks_donors_or_the_token_itself(session):
    sinks = {sink.pos for sink in session.sinks.sinks}
    for pos in range(1, 50):
        donor = pos + 1
        trial = session.choose(pos=pos, layer=3, kind="patch", donor=donor)
        control = trial.edits[1].positions[0]
        assert control not in sinks | {pos, donor, session.trace.primary}


def test_each_edit_is_run_once(session, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "replay", lambda *a, **k: calls.append(1) or replay(*a, **k))
    session.choose(kind="zero")
    session.choose(measure="mass")
    session.choose(kind="none")
    session.choose(kind="zero")
    assert len(calls) == len(session.trials) == 1


def test_undo_goes_back_step_by_step_and_forgets_no_trial(session):
    start = session.choice
    session.choose(pos=20, layer=3)
    zeroed = session.choose(kind="zero")
    session.choose(kind="mean")
    assert session.undo() is zeroed
    session.undo()
    assert session.choice.kind == "none"
    assert session.undo() is None
    assert session.choice == start
    assert len(session.trials) == 2
    with pytest.raises(EditError, match="nothing to undo"):
        session.undo()


def test_going_to_a_trial_can_be_undone_and_keeps_the_measure(session):
    first = session.choose(pos=20, layer=3, kind="zero")
    session.choose(kind="mean", measure="mass")
    assert session.go(0) is first
    assert session.choice.measure == "mass"
    session.undo()
    assert session.choice.kind == "mean"
    with pytest.raises(EditError, match="trial 7"):
        session.go(7)
    with pytest.raises(EditError, match="number of a trial is False; expected a whole number"):
        session.go(False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": 8}, "layer is 8; expected a whole number from 0 to 7"),
        ({"pos": -1}, "pos is -1"),
        ({"pos": True}, "pos is True"),
        ({"pos": 30.0}, r"pos is 30\.0; expected a whole number from 0 to 63"),
        ({"kind": ["zero"]}, r"kind is \['zero'\]; expected one of none"),
        ({"units": [True]}, "a unit is True; expected a whole number"),
        ({"units": [-1]}, "a unit is -1"),
        ({"units": [1, 1]}, "units has 1 twice"),
        ({"donor": 64}, "donor is 64"),
        ({"kind": "explode"}, "kind is 'explode'; expected one of none, zero"),
        ({"site": "pattern"}, "site is 'pattern'"),
        ({"kind": "zero", "site": "embed"}, "'embed' is before the first layer"),
        ({"kind": "zero", "site": "z", "units": "9"}, "head 9 is out of range"),
        ({"kind": "zero", "site": "z", "units": "0-x"}, "units '0-x': '0-x' cannot be read"),
        ({"kind": "zero", "site": "z", "units": "0-99999999999"}, "is out of range, expected"),
        ({"kind": "zero", "site": "z", "units": "3-1"}, "'3-1' runs backwards"),
        ({"kind": "zero", "site": "z", "units": 3}, "units is 3; expected numbers"),
        ({"kind": "remove", "site": "z"}, "'remove' .*head outputs|remove"),
        ({"measure": "luck"}, "measure is 'luck'"),
        ({"value": float("nan")}, "value is nan; expected a finite number"),
        ({"value": "2"}, "value is '2'"),
        ({"colour": 1}, "unknown choice 'colour'"),
        ({"kind": "patch", "donor": 30}, "the donor is the token itself"),
    ],
)
def test_what_is_not_possible_is_said_and_changes_nothing(session, changes, words):
    before = session.choice
    with pytest.raises(EditError, match=words):
        session.choose(**changes)
    assert session.choice == before
    assert session.trials == ()


def test_an_edit_that_the_engine_refuses_changes_nothing():
    shallow = plant([Plant(pos=9, forming=(3,), strength=400.0), Plant(pos=20, forming=(4,))])
    session = Session(shallow.model, shallow.tokens)
    unknown = [la for la in range(8) if not session.trace.reference_resid[la].isfinite().all()]
    session.choose(layer=unknown[0])
    before = session.choice
    with pytest.raises(EditError, match="no primary stands out"):
        session.choose(kind="remove")
    assert session.choice == before
    session.choose(kind="zero")


def test_total_effects_are_those_of_recompute(planted, session):
    session.choose(pos=20, layer=3, kind="zero")
    told = []
    trial = session.total(lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1]
    both = direct_and_total(planted.model, session.trace, trial.edits[:1]).set_index("layer")
    assert trial.totals[0]["mass_total"] == pytest.approx(
        both.loc[[4, 5, 6, 7], "mass_total"].mean(), rel=1e-5
    )
    assert trial.totals[0]["loss_change"] == pytest.approx(both["loss_change"].iloc[0], rel=1e-4)
    assert session.total() is trial
    assert session.current is trial


def test_total_and_code_need_an_edit(session):
    for act in (session.total, session.to_python):
        with pytest.raises(EditError, match="no edit is chosen yet"):
            act()


def test_thresholds_and_folders_are_what_they_say(planted, session):
    with pytest.raises(DetectionError, match="thresholds is 0; expected Thresholds"):
        Session(planted.model, planted.tokens, thresholds=0)
    with pytest.raises(RunFolderError, match="the folder is ''; expected its path"):
        session.export("")


@pytest.mark.parametrize(
    "changes",
    [
        {"pos": 20, "layer": 5, "kind": "zero"},
        {"pos": 40, "layer": 3, "kind": "patch", "donor": 20},
        {"pos": 20, "layer": 3, "kind": "scale", "value": 0.25, "site": "resid_post"},
    ],
)
def test_the_code_gives_the_same_numbers(planted, session, changes, capsys):
    trial = session.choose(**changes)
    given = {"model": planted.model}
    exec(session.to_python(), given)
    assert "mass_edited" in capsys.readouterr().out
    for got, expected in zip(given["effects"].to_dict("records"), trial.rows, strict=True):
        same(got, expected)


def test_the_code_has_thresholds_and_totals_where_they_matter(planted):
    session = Session(planted.model, planted.tokens, thresholds=Thresholds(aligned=0.999))
    session.choose(pos=20, layer=4, kind="zero")
    trial, given = session.total(), {"model": planted.model}
    exec(session.to_python(), given)
    assert given["effects"]["lifetime_clean"].tolist() == [r["lifetime_clean"] for r in trial.rows]
    assert trial.rows[0]["lifetime_clean"] == 0, "by the default thresholds it would be 5"
    last = given["totals"].groupby("edit", sort=False)["loss_change"].first()
    assert last.tolist() == pytest.approx([one["loss_change"] for one in trial.totals], rel=1e-4)


def test_the_export_is_a_run_that_readers_and_report_read(session, tmp_path):
    session.choose(pos=20, layer=3, kind="zero")
    zeroed = session.total()
    session.choose(pos=40, kind="patch", donor=20)
    folder = RunFolder(session.export(tmp_path / "explored"))
    record = folder.record()
    effects = folder.table("effects")
    assert record["explored"][0][0] == {"pos": 20, "layer": 3, "kind": "zero"}
    assert effects["effect"].tolist() == ["direct", "total"] * 2 + ["direct"] * 2
    assert effects["role"].tolist() == ["sink", "sink", "control", "control", "token", "control"]
    row = effects.iloc[0]
    assert (row["lifetime_edited"], row["edit"], row["site"]) == (0, "zero", "mlp_out")
    masses = [zeroed.rows[0]["mass_edited"], zeroed.totals[0]["mass_total"]]
    assert effects["mass_edited"][:2].tolist() == masses
    assert masses[0] != masses[1], "later tokens look for something else"
    assert len(folder.table("trace")) == 8 * 64
    assert record["phenomenon"]["answer"] == phenomenon(session.trace, session.sinks).answer
    page = render(record, folder.table("sinks"), folder.table("trace"), None)
    assert "secondary" in page
    assert "older version" not in page
    assert verify(folder.path).complaints == ()
    with pytest.raises(RunFolderError, match="not empty"):
        session.export(tmp_path / "explored")
    session.export(tmp_path / "explored", force=True)


def test_an_export_of_nothing_tried_is_readable_too(session, tmp_path):
    folder = RunFolder(session.export(tmp_path / "explored"))
    assert folder.record()["explored"] == []
    assert len(folder.table("effects")) == 0


def test_all_trials_are_a_frame(session):
    session.choose(pos=20, layer=3, kind="zero")
    session.choose(kind="mean")
    frame = session.to_frame()
    assert frame["role"].tolist() == ["token", "control"] * 2
    assert frame["trial"].tolist() == [0, 0, 1, 1]
    assert json.loads(frame["edit"][2])[0]["kind"] == "mean"


def test_a_long_text_is_walked_again_and_gives_the_same(planted, session, monkeypatch):
    monkeypatch.setattr(cached_pass, "KEPT_AT_MOST", 1000)
    told = []
    slow = Session(planted.model, planted.tokens, progress=lambda *done: told.append(done))
    assert not slow.immediate
    choice = {"pos": 20, "layer": 3, "kind": "mean"}
    same(slow.choose(**choice).rows[0], session.choose(**choice).rows[0])
    assert told == [(layer, 8) for layer in range(1, 9)]


def test_two_tokens_have_no_control(planted):
    session = Session(planted.model, planted.tokens[:2])
    trial = session.choose(pos=1, layer=3, kind="zero")
    assert (len(trial.rows), trial.control_kind) == (1, "")


def test_a_string_needs_a_tokenizer(planted):
    with pytest.raises(TextError, match="no tokenizer"):
        Session(planted.model, "some text")


def test_a_string_is_fed_as_it_is_and_messages_through_the_template():
    model = load_model(tiny_llama(), tokenizer=tiny_tokenizer(TEMPLATE), device="cpu")
    plain, turns = "A text of some thirty characters.", [{"role": "user", "content": "Hello there"}]
    session = Session(model, plain)
    assert "".join(session.trace.token_strings) == plain
    assert (session.text.feed, session.text.fed) == ("raw", plain)
    chat = Session(model, turns, text_id="talk")
    assert (chat.text.feed, chat.text.fed) == ("chat", "<s>user: Hello there</s>")
    assert chat.trace.text_id == "talk"


@exhaustive
@pytest.mark.real
def test_on_real_weights_edits_equal_replays(smollm2, real_tokens, real_trace):
    """What they take, `tools.notebook_latency` measures."""
    session = Session(smollm2, real_tokens, text_id="shortest")
    torch.testing.assert_close(session.trace.mass, real_trace.mass)
    session.choose(kind="zero")
    for layer in (0, 1, 4):
        trial = session.choose(layer=layer)
    norm = replay(smollm2, real_trace, trial.edits).norm[list(trial.layers)].mean(0)
    assert [row["norm_edited"] for row in trial.rows] == pytest.approx(norm.tolist(), rel=1e-4)
    assert session.trials[1].rows[0]["lifetime_edited"] == 0, "layer 0 makes it"
