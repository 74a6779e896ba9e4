"""A sweep is what `ablate` gives by hand, and skips what fails."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import ablate, detect, observe, replay, roles, runs
from secondary_sinks.causal.controls import owners_of
from secondary_sinks.causal.recipes import edit_at
from secondary_sinks.errors import EditError, RunFolderError, SweepError, TextError
from secondary_sinks.observation import cached_pass
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import ModelSpec, compute
from secondary_sinks.sweeps.config import parse_layers
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Edit
from tests.marks import exhaustive, thinned
from tests.sweeps.small_sweeps import PLANTED, SPEC, TEXTS, ZERO, garden, sweep, tables


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep(out, replace(ZERO, edits=("zero", "mean"), layers=None))
    return out


def test_a_sweep_is_observe_detect_and_ablate(finished):
    traces = [observe(PLANTED.model, t.tokens, text_id=t.text_id) for t in TEXTS]
    sinks = detect(traces)
    found = runs.open(finished)
    pd.testing.assert_frame_equal(
        found.sinks.drop(columns="model"), sinks.to_frame(), check_like=True
    )
    by_hand = pd.concat(
        ablate(PLANTED.model, trace, sinks, edit).to_frame()
        for trace in traces
        for edit in ("zero", "mean")
    )
    cells = ["text_id", "edit", "layer", "pos"]
    both = [
        frame[by_hand.columns].sort_values(cells, ignore_index=True)
        for frame in (found.effects, by_hand)
    ]
    assert len(both[0]) == 3 * 2 * 4 * 2
    divergences = [frame.pop("kl_at_token").to_numpy() for frame in both]
    pd.testing.assert_frame_equal(*both, rtol=1e-5)
    # a difference of numbers near 5 nats in float32, in batches of other sizes
    assert divergences[0] == pytest.approx(divergences[1], rel=1e-4, abs=5e-6)
    assert found.effects["cell"].is_unique


def test_units_in_one_walk_are_the_same_bits_alone():
    trace = observe(PLANTED.model, PLANTED.tokens)
    groups = [
        [Edit.of_label(label, pos=pos, layer=layer) for pos in (12, 20)]
        for label in ("zero", "mean", "resample:1")
        for layer in range(4)
    ]
    together = compute.replay_groups(PLANTED.model, trace, groups, kl=True)
    for group, one in zip(groups, together, strict=True):
        alone = replay(PLANTED.model, trace, group, kl=True)
        for name in ("norm", "alignment_centred", "mass", "key_norm", "kl"):
            assert torch.equal(getattr(one, name), getattr(alone, name)), name


def test_one_bad_text_is_recorded_and_skipped(tmp_path):
    short = TokenizedText(text_id="short", tokens=TEXTS[0].tokens[:5], feed="raw", fed="x")
    told = []
    found = sweep(
        tmp_path / "out", texts=[short, *TEXTS], tell=lambda event, **facts: told.append(event)
    )
    assert not found.complete
    assert [failure["text_id"] for failure in found.failed] == ["short"]
    assert "has 5 tokens" in found.failed[0]["message"]
    assert "failed" in told
    assert set(runs.open(tmp_path / "out").effects["text_id"]) == {"t0", "t1", "t2"}
    with pytest.raises(TextError, match="'short' has 5 tokens"):
        sweep(tmp_path / "none", texts=[short])
    assert not (tmp_path / "none").exists()


ERRORS = [torch.OutOfMemoryError("full"), EditError("no"), ValueError()]


@pytest.mark.parametrize("error", thinned(ERRORS, ERRORS[:1]))
def test_a_cell_that_fails_takes_only_its_unit_with_it_and_is_tried_again(
    error, tmp_path, monkeypatch
):
    plain = compute.replay_groups

    def failing(model, trace, groups, **asked):
        if any(cell.layers == (2,) for group in groups for cell in group):
            raise error
        return plain(model, trace, groups, **asked)

    with monkeypatch.context() as patch:
        patch.setattr(compute, "replay_groups", failing)
        found = sweep(tmp_path / "out")
    assert not found.complete
    assert {failure["unit"]["layer"] for failure in found.failed} == {2}
    kinds = {torch.OutOfMemoryError: "OutOfMemory"}
    assert found.failed[0]["kind"] == kinds.get(type(error), type(error).__name__)
    assert set(runs.open(tmp_path / "out").effects["layer"]) == {1}
    assert sweep(tmp_path / "out").n_computed == 3, "the units that failed, and no other"
    sweep(tmp_path / "fresh")
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")


def test_a_text_that_cannot_be_observed_is_skipped(tmp_path, monkeypatch):
    plain = compute.CachedPass.if_small

    def failing(model, tokens):
        if tokens.tolist() == TEXTS[1].tokens.tolist():
            raise RuntimeError("CUDA out of memory")
        return plain(model, tokens)

    monkeypatch.setattr(compute.CachedPass, "if_small", failing)
    found = sweep(tmp_path / "out")
    assert [(one["text_id"], one["kind"]) for one in found.failed] == [("t1", "OutOfMemory")]
    assert "t1" not in set(runs.open(tmp_path / "out").sinks["text_id"])
    assert "t1" in json.dumps(RunFolder(tmp_path / "out").record()["sweep"]["failed"])


@exhaustive
def test_a_text_too_long_to_keep_gives_the_same_tables(tmp_path, monkeypatch):
    config = replace(ZERO, edits=("zero", "twins"))
    sweep(tmp_path / "kept", config)
    monkeypatch.setattr(cached_pass, "KEPT_AT_MOST", 1)
    sweep(tmp_path / "passed", config)
    kept, passed = (RunFolder(tmp_path / name) for name in ("kept", "passed"))
    for name in ("sinks", "effects", "trace", "roles"):  # floats to rounding: other kernels
        pd.testing.assert_frame_equal(kept.table(name), passed.table(name), rtol=1e-5, atol=1e-6)


def test_patches_from_twins_and_sinks_and_what_cannot_be(tmp_path):
    config = replace(ZERO, edits=("patch:twin", "patch:sink", "mean:twins", "patch:47", "patch:99"))
    sweep(tmp_path / "out", replace(config, layers=(2,)), texts=TEXTS[:1])
    rows = runs.open(tmp_path / "out").effects.to_dict("records")
    cells = {(row["edit"], row["role"]): row for row in rows}
    noised, denoised = cells["patch:twin", "sink"], cells["patch:sink", "control"]
    assert noised["donor"] == denoised["pos"]
    assert noised["lifetime_edited"] == 0, "necessary"
    assert denoised["donor"] == 12
    assert denoised["lifetime_edited"] > 0, "sufficient"
    assert ("patch:sink", "sink") not in cells
    assert "patch:99" not in {edit for edit, _ in cells}
    (left_out,) = RunFolder(tmp_path / "out").record()["sweep"]["left_out"]
    assert left_out["the donor position is outside the text"] == 2
    assert left_out["a sink cannot be patched from itself"] == 1


def test_several_models_are_told_apart_and_reported_by_name(tmp_path):
    other = garden(seed=3)
    other.model.cfg.model_name = "second"
    config = replace(ZERO, models=(SPEC, ModelSpec(name="other")))
    models = {"planted": PLANTED.model, "other": other.model}
    sweep(tmp_path / "out", config, models=models)
    found = runs.open(tmp_path / "out")
    assert [model["label"] for model in found.models] == ["planted", "second"]
    assert found.effects.groupby("model", sort=False).size().tolist() == [12, 12]
    folder = RunFolder(tmp_path / "out")
    with pytest.raises(RunFolderError, match="use --model with one of planted, second"):
        write_report(folder)
    assert "second" in write_report(folder, "second").read_text("utf-8")
    assert sweep(tmp_path / "out", config, models=models).nothing_to_do


@exhaustive
def test_the_report_of_a_sweep_works_and_needs_the_trace(tmp_path):
    sweep(tmp_path / "out")
    assert write_report(RunFolder(tmp_path / "out")).is_file()
    sweep(tmp_path / "bare", replace(ZERO, trace=False))
    assert not (tmp_path / "bare" / "trace.parquet").exists()
    with pytest.raises(RunFolderError, match="without --no-trace"):
        write_report(RunFolder(tmp_path / "bare"))
    assert sweep(tmp_path / "bare", force=True).n_computed == 0
    assert write_report(RunFolder(tmp_path / "bare")).is_file()


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"models": ()}, SweepError, "needs models"),
        ({"edits": ()}, SweepError, "needs edits"),
        ({"edits": ("zero", "zero")}, SweepError, "'zero' twice"),
        ({"layers": (1, 1)}, SweepError, "1 twice"),
        ({"layers": (4,)}, SweepError, "layer 4 is out of range"),
        ({"edits": ("zeroo",)}, EditError, "'zeroo'"),
        ({"edits": ("patch:twins",)}, EditError, "patch:twin and patch:sink"),
        ({"edits": ("patch:a@3",)}, EditError, "another text"),
        ({"edits": ("mean:reference",)}, EditError, "reference corpus"),
        ({"sites": ("nowhere",)}, EditError, "'nowhere'"),
        ({"sites": ("embed",)}, SweepError, "'embed' is before the first layer"),
        ({"feed": "chatt"}, TextError, "'chatt'"),
    ],
)
def test_a_sweep_that_cannot_be_leaves_nothing(change, error, named, tmp_path):
    with pytest.raises(error, match=named):
        sweep(tmp_path / "deep" / "out", replace(ZERO, **change))
    assert not (tmp_path / "deep").exists()


def test_a_site_before_the_layers_is_edited_once():
    config = replace(ZERO, sites=("mlp_out", "embed"), layers=None)
    config.check(there=["planted"])
    units = [(unit.site, unit.layer) for unit in config.units(3)]
    assert units == [("mlp_out", 0), ("mlp_out", 1), ("mlp_out", 2), ("embed", 0)]


@pytest.mark.parametrize(
    ("words", "layers"), [("3", (3,)), ("0-2,7", (0, 1, 2, 7)), (" 4 - 5 , 0", (4, 5, 0))]
)
def test_layers_in_words(words, layers):
    assert parse_layers(words) == layers


@pytest.mark.parametrize("words", ["", "a", "1-", "-1", "3-1", "1,,2", "1-2-3", "0,0", "²", "1.5"])
def test_layers_that_are_none(words):
    with pytest.raises(SweepError, match="layers"):
        parse_layers(words)


def test_a_direction_that_is_not_there_yet_is_left_out_not_skipped():
    trace = observe(PLANTED.model, PLANTED.tokens)
    trace.reference_resid[0] = torch.nan
    sinks = detect(trace)
    owners = owners_of(trace, sinks)
    first, later = (
        edit_at("remove", trace, sinks, owners, pos=12, layer=layer, site="resid_post")
        for layer in (0, 2)
    )
    assert first == "the primary has no direction yet at this layer"
    assert later == Edit(pos=12, layer=2, kind="remove", site="resid_post")


def test_frames_know_their_schema_units_and_provenance(finished):
    found = runs.open(finished)
    assert found.tables == ["sinks", "effects", "trace"]
    assert found.effects.attrs["units"]["mass_clean"] == "share of attention"
    assert found.effects.attrs["schema"] == 1
    provenance = found.sinks.attrs["provenance"]
    assert provenance["models"][0]["weights_sha256"]
    assert provenance["versions"]["torch"] == torch.__version__


def test_with_twins_a_sweep_has_the_roles_whichever_layers_it_edits(tmp_path):
    zero_only = sweep(tmp_path / "out")
    assert not (tmp_path / "out" / "roles.parquet").exists()
    summary = sweep(tmp_path / "out", replace(ZERO, edits=("zero", "twins")))
    assert summary.n_units == zero_only.n_units + 3 * (2 + 1)
    traces = [observe(PLANTED.model, t.tokens, text_id=t.text_id) for t in TEXTS]
    found = runs.open(tmp_path / "out")
    n_claims = found.record["writers"][0]["n_claims"]
    by_hand = roles(PLANTED.model, traces, detect(traces), n_claims=n_claims)
    pd.testing.assert_frame_equal(found.roles.drop(columns="model"), by_hand.cells, rtol=1e-5)
    assert [verdict["layer"] for verdict in found.record["writers"]] == [2]
    assert found.record["writers"][0]["why"] == by_hand.verdicts[0].why
    write_report(RunFolder(tmp_path / "out"))
    assert "Writer: MLP 2" in (tmp_path / "out" / "report.html").read_text()


def test_roles_that_fail_are_skipped_and_done_by_the_same_command(tmp_path, monkeypatch):
    twins = replace(ZERO, edits=("twins",))

    def fail(*given, **options):
        raise RuntimeError("no roles today")

    with monkeypatch.context() as patched:
        patched.setattr(compute, "roles", fail)
        failed = sweep(tmp_path / "out", twins)
    assert {one["message"] for one in failed.failed} == {"no roles today"}
    assert {one["unit"]["edit"] for one in failed.failed} == {"roles"}
    assert not (tmp_path / "out" / "roles.parquet").exists()
    again = sweep(tmp_path / "out", twins)
    assert (again.n_computed, again.complete) == (3, True)
    assert len(runs.open(tmp_path / "out").roles) == 3 * 3


@pytest.mark.parametrize("edits", [("twins", "mean:twins"), ("mean:twins", "zero", "twins")])
def test_one_edit_by_two_names_is_refused(edits):
    with pytest.raises(SweepError, match=r"has '(mean:)?twins' and '(mean:)?twins', the same"):
        replace(ZERO, edits=edits).check(["planted"])
