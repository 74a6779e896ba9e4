"""A sweep that is asked for again grows, reuses nothing stale, and overwrites nothing else."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from secondary_sinks import files, runs, sweeps
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder, parquet
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.tasks import Unit, cell_key, task_key, unit_key
from secondary_sinks.types import Thresholds
from tests.marks import exhaustive
from tests.sweeps.small_sweeps import TEXTS, ZERO, garden, sweep, tables, text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep(out, replace(ZERO, edits=("zero", "mean"), layers=None))
    return out


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
        pytest.param({"layers": (2,)}, "other layers", marks=exhaustive),
        pytest.param({"sites": ("attn_out",)}, "other sites", marks=exhaustive),
        pytest.param({"ordinary": 1}, "other ordinary", marks=exhaustive),
        pytest.param({"seed": 1}, "other seed", marks=exhaustive),
        pytest.param(
            {"thresholds": Thresholds(outlying=4.0)}, "other thresholds", marks=exhaustive
        ),
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


@exhaustive
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
    keys += [
        key(ordinary=1),
        unit_key(task_key(model, "float32", "t", Thresholds()), unit, 0, whole=True),
    ]
    versions = "secondary_sinks.sweeps.tasks.versions_of_code"
    for changed in ({"measures": "m", "engine": "x"}, {"measures": "x", "engine": "e"}):
        monkeypatch.setattr(versions, lambda changed=changed: changed)
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key(model | {"name": "other"}), "names are no part of it"
    assert cell_key("u", "sink", 3) != cell_key("u", "control", 3)


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


def test_status_says_what_is_done_and_verify_what_is_wrong(tmp_path):
    sweep(tmp_path / "out")
    found = sweeps.sweep_status(tmp_path / "out")
    assert (found.n_units, found.n_missing, found.n_cells, found.n_sinks) == (6, 0, 12, 3)
    assert found.finished
    assert sweeps.verify(tmp_path / "out").complaints == ()
    manifest = tmp_path / "out" / "sweep" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0] + lines[1].replace(b'"n_sinks": 1', b'"n_sinks": 2') + lines[2])
    complaints = sweeps.verify(tmp_path / "out").complaints
    assert complaints[0] == "line 2 of manifest.jsonl is damaged"
    assert sweeps.sweep_status(tmp_path / "out").n_missing == 2
    (tmp_path / "out" / "sinks.parquet").unlink()
    assert "table sinks.parquet is missing" in sweeps.verify(tmp_path / "out").complaints


def test_a_manifest_of_another_schema_is_refused_not_recomputed(tmp_path):
    sweep(tmp_path / "out")
    manifest = Manifest(tmp_path / "out")
    line = json.loads(manifest.path.read_bytes().splitlines()[0])
    del line["line"]
    line["schema"] = 99

    manifest.path.write_text(json.dumps(line | {"line": files.sha256_of_json(line)}) + "\n")
    before = sorted((tmp_path / "out" / "sweep" / "shards").iterdir())
    with pytest.raises(RunFolderError, match="another schema"):
        sweep(tmp_path / "out")
    assert sorted((tmp_path / "out" / "sweep" / "shards").iterdir()) == before


def rewrite(folder, effects):
    """Another table of effects, which the record names."""
    folder.write_table("effects", effects)
    folder.write_record(folder.record())


def test_another_schema_is_refused_and_older_tables_are_filled_in(tmp_path, monkeypatch):
    sweep(tmp_path / "out")
    folder = RunFolder(tmp_path / "out")
    bare = folder.table("effects").drop(columns=["model", "donor", "cell"])
    rewrite(folder, bare)
    filled = runs.open(tmp_path / "out").effects
    assert set(filled["model"]) == {"planted"}
    assert filled["donor"].isna().all()
    rewrite(folder, bare.drop(columns="layer"))
    with pytest.raises(RunFolderError, match="no column 'layer'"):
        _ = runs.open(tmp_path / "out").effects
    rewrite(folder, bare.astype({"layer": str}))
    with pytest.raises(RunFolderError, match=r"column 'layer'.*expected int"):
        _ = runs.open(tmp_path / "out").effects
    with monkeypatch.context() as patch:
        patch.setitem(parquet.SCHEMAS, "effects", 2)
        rewrite(folder, bare)
    with pytest.raises(RunFolderError, match="of schema 2; this version reads sinks 1"):
        _ = runs.open(tmp_path / "out").effects
