"""A sweep is what `ablate` gives by hand, grows, reuses nothing stale, and skips what fails."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import ablate, detect, observe, replay, runs
from secondary_sinks.causal.controls import owners_of
from secondary_sinks.causal.recipes import edit_at
from secondary_sinks.errors import EditError, RunFolderError, SweepError, TextError
from secondary_sinks.report import write_report
from secondary_sinks.runs import ModelSpec, RunFolder, SweepConfig, compute, parquet
from secondary_sinks.runs.keys import cell_key, task_key, unit_key
from secondary_sinks.runs.manifest import Manifest
from secondary_sinks.runs.sweep_config import parse_layers
from secondary_sinks.runs.tasks import Unit
from secondary_sinks.testing import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Edit, Thresholds

SPEC = ModelSpec(name="planted")
ZERO = SweepConfig(models=(SPEC,), edits=("zero",), layers=(1, 2))


def garden(seed=0):
    plants = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=12, forming=(2,))]
    return plant(plants, n_layers=4, n_pos=48, seed=seed)


PLANTED = garden()


def text(number, tokens=PLANTED.tokens):
    changed = tokens.clone()
    changed[2:11] = tokens[2:11].roll(number)
    return TokenizedText(text_id=f"t{number}", tokens=changed, feed="raw", fed="as planted")


TEXTS = [text(number) for number in range(3)]


def sweep(out, config=ZERO, texts=TEXTS, models=None, **options):
    return runs.sweep(
        config, out, texts=texts, models=models or {"planted": PLANTED.model}, **options
    )


def tables(folder):
    return {name: (folder / f"{name}.parquet").read_bytes() for name in ("sinks", "effects")}


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
    pd.testing.assert_frame_equal(*both, rtol=1e-5)
    assert found.effects["cell"].is_unique


def test_units_in_one_walk_are_the_same_bits_alone():
    trace = observe(PLANTED.model, PLANTED.tokens)
    groups = [
        [Edit.of_label(label, pos=pos, layer=layer) for pos in (12, 20)]
        for label in ("zero", "mean", "resample:1")
        for layer in range(4)
    ]
    together = compute.replay_groups(PLANTED.model, trace, groups)
    for group, one in zip(groups, together, strict=True):
        alone = replay(PLANTED.model, trace, group)
        for name in ("norm", "alignment_centred", "mass", "key_norm"):
            assert torch.equal(getattr(one, name), getattr(alone, name)), name


def test_a_finished_sweep_has_nothing_to_do_and_touches_nothing(tmp_path):
    sweep(tmp_path / "out")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("*")}
    again = sweep(tmp_path / "out")
    assert again.nothing_to_do
    assert again.n_computed == 0
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("*")} == before


def test_a_sweep_grows_by_what_is_missing_and_is_then_as_if_begun_so(tmp_path):
    larger = replace(ZERO, edits=("zero", "patch:twin"), layers=(0, 1, 2))
    sweep(tmp_path / "out", texts=TEXTS[:2])
    assert sweep(tmp_path / "out").n_computed == 2, "one more text, two layers"
    assert sweep(tmp_path / "out", larger).n_computed == 3 * (6 - 2)
    sweep(tmp_path / "at-once", larger)
    assert tables(tmp_path / "out") == tables(tmp_path / "at-once")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"edits": ("mean",)}, "other edits"),
        ({"layers": (2,)}, "other layers"),
        ({"sites": ("attn_out",)}, "other sites"),
        ({"ordinary": 1}, "other ordinary"),
        ({"seed": 1}, "other seed"),
        ({"thresholds": Thresholds(outlying=4.0)}, "other thresholds"),
        ({"texts": TEXTS[1:]}, "other texts"),
        ({"models": {"planted": garden(seed=1).model}}, "other weights or settings"),
    ],
)
def test_other_inputs_refuse_and_force_replaces_but_reuses_nothing_stale(change, named, tmp_path):
    given = {name: change.pop(name) for name in ("texts", "models") if name in change}
    sweep(tmp_path / "out")
    before = tables(tmp_path / "out")
    with pytest.raises(RunFolderError, match=named):
        sweep(tmp_path / "out", replace(ZERO, **change), **given)
    assert tables(tmp_path / "out") == before
    forced = sweep(tmp_path / "out", replace(ZERO, **change), force=True, **given)
    sweep(tmp_path / "fresh", replace(ZERO, **change), **given)
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")
    kept = {"other layers": 3, "other seed": 6, "other texts": 4}
    assert forced.n_units - forced.n_computed == kept.get(named, 0)


def test_a_changed_text_of_a_sweep_that_was_cut_short_is_computed_anew(tmp_path):
    sweep(tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    changed = [*TEXTS[:2], replace(text(5), text_id="t2")]
    assert sweep(tmp_path / "out", texts=changed).n_computed == 2
    sweep(tmp_path / "fresh", texts=changed)
    assert tables(tmp_path / "out") == tables(tmp_path / "fresh")


def test_the_same_tokens_under_two_names_are_computed_once_and_are_in_the_tables_twice(tmp_path):
    copy = replace(TEXTS[0], text_id="again")
    assert sweep(tmp_path / "out", texts=[TEXTS[0], copy]).n_computed == 2
    sinks = runs.open(tmp_path / "out").sinks
    assert sinks.groupby("text_id").size().to_dict() == {"t0": 2, "again": 2}
    assert set(sinks.loc[sinks["text_id"] == "again", "copy_of"]) == {"t0"}


def test_every_input_is_part_of_the_key(monkeypatch):
    model = {"weights_sha256": "w", "config_sha256": "c", "class": "k", "name": "n"}
    unit = Unit(edit="zero", site="mlp_out", layer=1)

    def key(model=model, dtype="float32", tokens="t", limits=None, unit=unit, ordinary=0):
        return unit_key(task_key(model, dtype, tokens, limits or Thresholds()), unit, ordinary)

    keys = [key(), *(key(model | {name: "x"}) for name in list(model)[:3])]
    keys += [key(dtype="bfloat16"), key(tokens="u"), key(limits=Thresholds(aligned=0.8))]
    keys += [key(unit=replace(unit, **{name: v})) for name, v in
             (("edit", "mean"), ("site", "z"), ("layer", 2))]  # fmt: skip
    keys += [key(ordinary=1)]
    versions = "secondary_sinks.runs.keys.versions_of_code"
    for changed in ({"measures": "m", "engine": "x"}, {"measures": "x", "engine": "e"}):
        monkeypatch.setattr(versions, lambda changed=changed: changed)
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key(model | {"name": "other"}), "names are no part of it"
    assert cell_key("u", "sink", 3) != cell_key("u", "control", 3)


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


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), EditError("no"), ValueError()])
def test_a_cell_that_fails_takes_only_its_unit_with_it_and_is_tried_again(
    error, tmp_path, monkeypatch
):
    plain = compute.replay_groups

    def failing(model, trace, groups):
        if any(cell.layers == (2,) for group in groups for cell in group):
            raise error
        return plain(model, trace, groups)

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
    plain = compute.observe

    def failing(model, tokens, text_id):
        if tokens.tolist() == TEXTS[1].tokens.tolist():
            raise RuntimeError("CUDA out of memory")
        return plain(model, tokens, text_id=text_id)

    monkeypatch.setattr(compute, "observe", failing)
    found = sweep(tmp_path / "out")
    assert [(one["text_id"], one["kind"]) for one in found.failed] == [("t1", "OutOfMemory")]
    assert "t1" not in set(runs.open(tmp_path / "out").sinks["text_id"])
    assert "t1" in json.dumps(RunFolder(tmp_path / "out").record()["sweep"]["failed"])


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
    assert left_out["the donor lies beyond the text"] == 2
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


def test_the_report_of_a_sweep_works_and_needs_the_trace(tmp_path):
    sweep(tmp_path / "out")
    assert write_report(RunFolder(tmp_path / "out")).is_file()
    sweep(tmp_path / "bare", replace(ZERO, trace=False))
    assert not (tmp_path / "bare" / "trace.parquet").exists()
    with pytest.raises(RunFolderError, match="without --no-trace"):
        write_report(RunFolder(tmp_path / "bare"))
    assert sweep(tmp_path / "bare", force=True).n_computed == 0
    assert write_report(RunFolder(tmp_path / "bare")).is_file()


def test_a_sweep_and_a_run_do_not_overwrite_each_other(tmp_path, finished):
    run = RunFolder(tmp_path / "run")
    run.prepare()
    run.write_table("sinks", pd.DataFrame({"a": [1]}))
    run.write_record({"key": "k"})
    with pytest.raises(RunFolderError, match="a finished run of other inputs"):
        sweep(tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds a sweep"):
        RunFolder(finished).prepare(force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(RunFolderError, match=r"notes\.txt"):
            sweep(tmp_path / "mine", force=force)


def test_merging_parts_gives_the_whole(tmp_path):
    sweep(tmp_path / "a", texts=TEXTS[:2])
    sweep(tmp_path / "b", texts=TEXTS[1:])
    sweep(tmp_path / "whole")
    found = runs.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert (found.n_tasks, found.n_cells, found.n_missing) == (3, 12, 0)
    assert tables(tmp_path / "both") == tables(tmp_path / "whole")
    assert sweep(tmp_path / "both").n_computed == 0
    sweep(tmp_path / "c", replace(ZERO, edits=("mean",)), texts=TEXTS[:1])
    assert runs.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "ac").n_missing == 2
    assert runs.standing(tmp_path / "ac").n_missing == 2


def test_what_cannot_be_merged_is_named(tmp_path):
    sweep(tmp_path / "a")
    sweep(tmp_path / "b", replace(ZERO, ordinary=1))
    with pytest.raises(RunFolderError, match="other ordinary"):
        runs.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    sweep(tmp_path / "c", texts=[replace(TEXTS[1], text_id="t0")])
    with pytest.raises(RunFolderError, match="another text 't0'"):
        runs.merge([tmp_path / "a", tmp_path / "c"], tmp_path / "both")
    next((tmp_path / "a" / "sweep" / "shards").iterdir()).write_bytes(b"")
    with pytest.raises(RunFolderError, match="is damaged"):
        runs.merge([tmp_path / "a"], tmp_path / "both")
    with pytest.raises(RunFolderError, match="no folder of a sweep"):
        runs.merge([tmp_path], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_status_says_what_is_done_and_verify_what_is_wrong(tmp_path):
    sweep(tmp_path / "out")
    found = runs.standing(tmp_path / "out")
    assert (found.n_units, found.n_missing, found.n_cells, found.n_sinks) == (6, 0, 12, 3)
    assert found.finished
    assert runs.verify(tmp_path / "out").complaints == ()
    manifest = tmp_path / "out" / "sweep" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0] + lines[1].replace(b'"n_sinks": 1', b'"n_sinks": 2') + lines[2])
    complaints = runs.verify(tmp_path / "out").complaints
    assert complaints[0] == "line 2 of manifest.jsonl is damaged"
    assert runs.standing(tmp_path / "out").n_missing == 2
    (tmp_path / "out" / "sinks.parquet").unlink()
    assert "table sinks.parquet is missing" in runs.verify(tmp_path / "out").complaints


def test_a_manifest_of_another_schema_is_refused_not_recomputed(tmp_path):
    sweep(tmp_path / "out")
    manifest = Manifest(tmp_path / "out")
    line = json.loads(manifest.path.read_bytes().splitlines()[0])
    del line["line"]
    line["schema"] = 99
    from secondary_sinks.runs import durable

    manifest.path.write_text(json.dumps(line | {"line": durable.sha256_of_json(line)}) + "\n")
    before = sorted((tmp_path / "out" / "sweep" / "shards").iterdir())
    with pytest.raises(RunFolderError, match="another schema"):
        sweep(tmp_path / "out")
    assert sorted((tmp_path / "out" / "sweep" / "shards").iterdir()) == before


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
        ({"feed": "chatt"}, TextError, "'chatt'"),
    ],
)
def test_a_sweep_that_cannot_be_leaves_nothing(change, error, named, tmp_path):
    with pytest.raises(error, match=named):
        sweep(tmp_path / "deep" / "out", replace(ZERO, **change))
    assert not (tmp_path / "deep").exists()


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
    trace.primary_resid[0] = torch.nan
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


def test_another_schema_is_refused_and_older_tables_are_filled_in(tmp_path, monkeypatch):
    sweep(tmp_path / "out")
    folder = RunFolder(tmp_path / "out")
    bare = folder.table("effects").drop(columns=["model", "donor", "cell"])
    folder.write_table("effects", bare)
    filled = runs.open(tmp_path / "out").effects
    assert set(filled["model"]) == {"planted"}
    assert filled["donor"].isna().all()
    folder.write_table("effects", bare.drop(columns="layer"))
    with pytest.raises(RunFolderError, match="no column 'layer'"):
        _ = runs.open(tmp_path / "out").effects
    folder.write_table("effects", bare.astype({"layer": str}))
    with pytest.raises(RunFolderError, match=r"column 'layer'.*expected int"):
        _ = runs.open(tmp_path / "out").effects
    with monkeypatch.context() as patch:
        patch.setitem(parquet.SCHEMAS, "effects", 2)
        folder.write_table("effects", bare)
    with pytest.raises(RunFolderError, match="of schema 2; this version reads sinks 1"):
        _ = runs.open(tmp_path / "out").effects
