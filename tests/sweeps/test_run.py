"""A run is what observe, detect and ablate give by hand; it resumes, and its record is whole."""

import json
import os
import re
import subprocess
from dataclasses import asdict, replace
from importlib import import_module

import pandas as pd
import pytest
import torch

from secondary_sinks import ablate, detect, observe, phenomenon, roles, runs, sweeps
from secondary_sinks.errors import RunFolderError, SweepError, TextError
from secondary_sinks.questions import damage_at_tokens, family_of, n_claims_of
from secondary_sinks.runs import RunFolder, check_lengths, describe, parquet, record
from secondary_sinks.runs.answers import read_answers
from secondary_sinks.runs.plain import without_nan
from secondary_sinks.runs.schema import PHENOMENON
from secondary_sinks.sweeps import ModelSpec, SweepConfig, compute, output
from secondary_sinks.sweeps.assemble import Assembly
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.output import Additions
from secondary_sinks.sweeps.status import status_lines
from secondary_sinks.sweeps.stored_config import read_stored
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Thresholds
from tests.marks import exhaustive, thinned
from tests.sweeps.small_sweeps import sweep
from tests.tolerance import ROOM, UNIT

SINK_COLUMNS = {
    *("text_id", "pos", "token_id", "token", "kind", "criterion", "l_start", "l_end", "lifetime"),
    *("label", "level", "copy_of", "censored", "alignment_max", "alignment_centred_max"),
    *("norm_max", "norm_ratio_max", "mass_max", "mass_excess_max"),
}
EFFECT_COLUMNS = {
    *("text_id", "pos", "token", "role", "layer", "site", "edit", "effect"),
    *("lifetime_clean", "lifetime_edited", "alignment_clean", "alignment_edited"),
    *("norm_clean", "norm_edited", "mass_clean", "mass_edited"),
}
NAMED = SweepConfig(models=(ModelSpec(name="planted"),))
INTEGERS = {"pos", "token_id", "l_start", "l_end", "lifetime", "layer", "sink_pos"}
INTEGERS |= {"lifetime_clean", "lifetime_edited"}
WORDS = {"text_id", "token", "kind", "criterion", "censored", "segments", "role", "site", "edit"}
WORDS |= {"effect", "label", "copy_of", "model", "cell", "impossible"}


def with_sinks():
    return plant([Plant(pos=0, forming=(1,)), Plant(pos=20, forming=(3,), dies=6)])


def fed(tokens, name="a"):
    return TokenizedText(text_id=name, tokens=tokens, feed="raw", fed="as planted")


@pytest.fixture(scope="module")
def planted():
    return with_sinks()


@pytest.fixture(scope="module")
def texts(planted):
    other = planted.tokens.clone()
    other[40:] = other[40:].flip(0)
    return [fed(planted.tokens, "a"), fed(other, "b")]


def run(planted, texts, out, *, asked=(), force=False, tell=None, **changes):
    return sweeps.run(
        replace(NAMED, **changes),
        out,
        asked=asked,
        models={"planted": planted.model},
        texts=texts,
        force=force,
        command=lambda asked: " ".join(["secondary-sinks run", *asked]),
        tell=tell,
    )


@pytest.fixture(scope="module")
def whole(planted, texts, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("run") / "out"
    run(planted, texts, out, seed=3)
    return out


def tables(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_run_is_observe_detect_ablate_and_roles(planted, texts, whole):
    traces = [observe(planted.model, t.tokens, text_id=t.text_id) for t in texts]
    sinks = detect(traces)
    assert {sink.kind for sink in sinks.sinks} >= {"primary", "secondary"}
    found = runs.open(whole)
    pd.testing.assert_frame_equal(found.sinks.drop(columns="model"), sinks.to_frame())
    by_hand = [
        ablate(planted.model, trace, sinks, ["zero", "twins"]).to_frame() for trace in traces
    ]
    expected = pd.concat(by_hand, ignore_index=True)
    cells = ["text_id", "edit", "layer", "pos"]
    effects = found.effects[expected.columns].replace({"edit": {"twins": "mean:twins"}})
    effects, expected = (
        table.sort_values(cells, ignore_index=True) for table in (effects, expected)
    )
    # A divergence is a sum of differences of log-probabilities, each rounded to UNIT of its size.
    assert effects["kl_at_token"].to_numpy() == pytest.approx(
        expected["kl_at_token"], rel=1e-5, abs=ROOM * UNIT
    )
    pd.testing.assert_frame_equal(
        effects.drop(columns="kl_at_token"), expected.drop(columns="kl_at_token"), rtol=1e-5
    )
    n_claims = n_claims_of(family_of((), edited=True), sinks)
    answer = roles(planted.model, traces, sinks, n_claims=n_claims)
    pd.testing.assert_frame_equal(found.roles.drop(columns="model"), answer.cells, rtol=1e-5)
    assert [one["why"] for one in found.record["writers"]] == [v.why for v in answer.verdicts]


@pytest.mark.parametrize(("free", "names"), [(0, set()), (10**12, {"a", "b"}), (None, {"a", "b"})])
def test_passes_wait_for_the_roles_only_where_much_memory_is_free(
    planted, texts, tmp_path, monkeypatch, free, names
):
    module, seen = import_module("secondary_sinks.sweeps.run"), []

    def asked(*given, kept, **options):
        seen.append(set(kept))
        return roles(*given, kept=kept, **options)

    monkeypatch.setattr(module, "free_bytes", lambda device: free)
    monkeypatch.setattr(module, "roles", asked)
    run(planted, texts, tmp_path / "out", edits=("zero",), layers=(3,))
    assert seen == [names]


def test_a_run_records_whether_its_sinks_are_the_papers_phenomenon(planted, texts, whole):
    traces = [observe(planted.model, t.tokens, text_id=t.text_id) for t in texts]
    found = runs.whole_record(RunFolder(whole), {"phenomenon": PHENOMENON})["phenomenon"]
    expected = asdict(phenomenon(traces, detect(traces)))
    assert (expected["n_secondary"], expected["n_distinct"], expected["n_by_paper"]) == (2, 1, 1)
    assert without_nan(found) == without_nan(expected)


def test_texts_of_a_version_without_the_papers_rule_give_no_answer(planted, texts, tmp_path):
    """As in a merge of sweeps that an older version computed."""
    run(planted, texts, tmp_path / "out", edits=())
    manifest = Manifest(tmp_path / "out")
    manifest.read()
    (plan,) = read_stored(tmp_path / "out").plans(manifest)
    part = Assembly(plan, "planted", manifest)
    frame, _ = part.sinks()
    assert part.phenomenon(frame).answer == "yes"
    for entry in manifest.entries:
        del entry.shards["paper"]
    assert part.phenomenon(frame) is None
    told = output.SweepOutput(RunFolder(tmp_path), NAMED, {})._model(part, frame, [], Additions())
    assert "phenomenon" not in told


def test_thresholds_that_the_papers_rule_cannot_use_are_refused_before_work(
    planted, texts, tmp_path
):
    with pytest.raises(SweepError, match="paper_first is 5; expected 1 to 4"):
        run(planted, texts, tmp_path / "out", thresholds=Thresholds(paper_first=5))
    assert not (tmp_path / "out").exists()


def test_thresholds_and_edits_reach_the_work(planted, texts, tmp_path):
    run(planted, texts, tmp_path / "strict", edits=(), thresholds=Thresholds(outlying=1e6))
    assert runs.open(tmp_path / "strict").sinks.empty
    assert runs.open(tmp_path / "strict").tables == ["sinks", "trace"]
    run(planted, texts[:1], tmp_path / "none", edits=("none",))
    found = runs.open(tmp_path / "none")
    assert found.tables == ["sinks", "effects", "trace"]
    assert set(found.effects["edit"]) == {"none"}
    assert found.effects["mass_edited"].to_numpy() == pytest.approx(
        found.effects["mass_clean"], rel=1e-4
    )


def test_a_knockout_is_made_at_sinks_and_controls_after_its_key(planted, texts, tmp_path):
    run(planted, texts, tmp_path, edits=("knockout:19",), sites=("attn_scores",), layers=(4,))
    effects = runs.open(tmp_path).effects
    assert {*effects["edit"]} == {"knockout:19"}
    assert {*effects["site"]} == {"attn_scores"}
    assert effects["pos"].min() > 19


@pytest.mark.parametrize("length", [8, 65])
def test_lengths_are_checked_before_any_pass(length, planted, tmp_path):
    text = fed(torch.zeros(length, dtype=torch.long), "mine")
    for check in (
        lambda: check_lengths(planted.model, [text], Thresholds()),
        lambda: run(planted, [text], tmp_path / "out"),
    ):
        with pytest.raises(TextError, match=f"'mine' has {length} tokens"):
            check()


def test_the_folder_holds_what_was_promised(planted, whole):
    folder = RunFolder(whole)
    assert {item.name for item in whole.iterdir()} == {
        "run.json",
        "sinks.parquet",
        "effects.parquet",
        "trace.parquet",
        "roles.parquet",
        "sweep",
    }
    assert set(folder.table("sinks")) >= SINK_COLUMNS
    assert set(folder.table("effects")) >= EFFECT_COLUMNS
    assert len(folder.table("trace")) == 2 * 8 * 64
    damage = damage_at_tokens(folder.table("effects"), folder.table("roles")).to_dict("records")
    assert folder.record()["damage"] == damage
    assert {(row["role"], row["layer"], row["edit"]) for row in damage} == {
        ("writer", 3, "zero"),
        ("writer", 3, "mean:twins"),
    }
    assert_record_is_whole(folder.record(), planted.model)


def test_the_same_text_twice_counts_once(planted, tmp_path):
    twice = [fed(planted.tokens, name="a"), fed(planted.tokens, name="b")]
    run(planted, twice, tmp_path / "run")
    found = runs.open(tmp_path / "run")
    n_secondary = (found.sinks["kind"] == "secondary").sum()
    rows = found.record["layer_effects"]
    assert {row["n_sinks"] + row["n_impossible"] for row in rows} == {n_secondary / 2}
    assert {row["n_sinks"] for row in rows} == {n_secondary / 2, 0}


def assert_record_is_whole(found, model):
    assert found["model"]["name"] == "planted"
    assert re.fullmatch("[0-9a-f]{64}", found["model"]["weights_sha256"])
    assert found["model"]["n_layers"] == model.cfg.n_layers
    assert {"torch", "transformers", "transformer-lens", "python"} <= set(found["versions"])
    assert (found["device"], found["dtype"], found["seed"]) == ("cpu", "float32", 3)
    assert found["thresholds"]["aligned"] == 0.9
    assert [text["text_id"] for text in found["texts"]] == ["a", "b"]
    assert len({text["tokens_sha256"] for text in found["texts"]}) == 2
    assert {text["fed"] for text in found["texts"]} == {"as planted"}
    assert set(found["timings_s"]) == {"observe", "detect", "edit", "roles"}
    assert {verdict["layer"] for verdict in found["writers"]} == {3}
    assert found["primaries"] == {"a": 0, "b": 0}
    assert found["verdicts"]
    assert {"commit", "key", "edit", "command"} <= set(found)


def test_a_run_of_other_inputs_is_refused_and_force_replaces_it(planted, texts, tmp_path):
    run(planted, texts, tmp_path / "out", asked=["harm"])
    before = tables(tmp_path / "out")
    for change in ({"edits": ("zero",)}, {"edits": ("zero", "twins", "mean")}, {"seed": 1}):
        with pytest.raises(RunFolderError, match=f"other inputs: other {next(iter(change))}"):
            run(planted, texts, tmp_path / "out", **change)
    with pytest.raises(RunFolderError, match=r"'b' was [0-9a-f]{12}, is not there"):
        run(planted, texts[:1], tmp_path / "out")
    longer = [*texts, fed(planted.tokens.flip(0), "c")]
    with pytest.raises(RunFolderError, match="'c' was not there"):
        run(planted, longer, tmp_path / "out")
    assert tables(tmp_path / "out") == before
    run(planted, texts[:1], tmp_path / "out", edits=(), force=True)
    assert set(tables(tmp_path / "out")) == {"sinks.parquet", "trace.parquet"}
    assert RunFolder(tmp_path / "out").record()["asked"] == []


def test_a_run_and_a_sweep_do_not_take_each_others_folder(planted, texts, whole, tmp_path):
    with pytest.raises(RunFolderError, match="a run, not a sweep"):
        sweep(whole, replace(NAMED, seed=3), texts, {"planted": planted.model})
    sweep(tmp_path, NAMED, texts[:1], {"planted": planted.model})
    with pytest.raises(RunFolderError, match="a sweep, not a run"):
        run(planted, texts[:1], tmp_path)
    with pytest.raises(SweepError, match="use `run`"):
        sweep(tmp_path, replace(NAMED, pooled=True), texts[:1], {"planted": planted.model})


def stop_at(event, number):
    """A listener that interrupts at an event of a name."""
    seen = []

    def tell(name, **facts):
        seen.append(name)
        if name == event and seen.count(name) == number:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize(
    ("event", "left"),
    thinned([("task", 17), ("tables", 0), ("stage", 0)], [("task", 17)], unpack=True),
)
def test_an_interrupted_run_goes_on_where_it_was(event, left, planted, texts, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(planted, texts, tmp_path / "out", seed=3, tell=stop_at(event, 1))
    assert not RunFolder(tmp_path / "out").has_record()
    status = sweeps.sweep_status(tmp_path / "out")
    again = run(planted, texts, tmp_path / "out", seed=3)
    assert again.n_computed == status.n_missing
    assert (again.n_computed > 0) == (left > 0)
    assert tables(tmp_path / "out") == tables(whole)


def test_a_run_that_was_cut_short_between_its_tables_goes_on(
    planted, texts, whole, tmp_path, monkeypatch
):
    write = output.write_table

    def after_one(path, name, frames):
        if name == "effects":
            raise KeyboardInterrupt
        return write(path, name, frames)

    with monkeypatch.context() as patch:
        patch.setattr(output, "write_table", after_one)
        with pytest.raises(KeyboardInterrupt):
            run(planted, texts, tmp_path / "out", seed=3)
    assert (tmp_path / "out" / "sinks.parquet").exists()
    assert run(planted, texts, tmp_path / "out", seed=3).n_computed == 0
    assert tables(tmp_path / "out") == tables(whole)


@exhaustive
def test_a_run_that_was_killed_after_its_first_table_goes_on(planted, texts, whole, tmp_path):
    child = os.fork()
    if not child:
        try:
            output.write_table = lambda path, *rest: path.write_bytes(b"half") and os._exit(9)
            run(planted, texts, tmp_path / "out", seed=3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "out" / "sinks.parquet").read_bytes() == b"half"
    assert run(planted, texts, tmp_path / "out", seed=3).n_computed == 0
    assert tables(tmp_path / "out") == tables(whole)
    assert sweeps.verify(tmp_path / "out").complaints == ()


def test_answers_are_kept_one_by_one_and_asked_once(planted, texts, tmp_path):
    def at_second(name, **facts):
        if facts.get("stage") == "harm":
            raise KeyboardInterrupt

    asked = ["sufficiency", "harm"]
    with pytest.raises(KeyboardInterrupt):
        run(planted, texts, tmp_path / "out", asked=asked, tell=at_second)
    assert list(read_answers(RunFolder(tmp_path / "out"))) == ["sufficiency"]
    stages = []
    run(planted, texts, tmp_path / "out", asked=asked,
        tell=lambda name, **facts: stages.append(facts.get("stage")))  # fmt: skip
    assert ("harm" in stages, "sufficiency" in stages) == (True, False)
    assert run(planted, texts, tmp_path / "out").nothing_to_do, "asking nothing more"
    run(planted, texts, tmp_path / "whole", asked=asked)
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    told = RunFolder(tmp_path / "out").record()
    assert told["command"] == "secondary-sinks run sufficiency harm"
    assert status_lines(tmp_path / "out")[-1] == "  questions sufficiency, harm"
    whole = RunFolder(tmp_path / "whole").record()
    assert told["answers"] == whole["answers"]
    assert told["verdicts"] == whole["verdicts"]


@exhaustive
def test_a_damaged_table_of_a_run_is_made_again_and_its_questions_asked(planted, texts, tmp_path):
    run(planted, texts, tmp_path / "out", asked=["harm"])
    before = tables(tmp_path / "out")
    (tmp_path / "out" / "harm.cells.parquet").write_bytes(b"PAR1")
    assert sweeps.verify(tmp_path / "out").complaints
    assert run(planted, texts, tmp_path / "out").n_computed == 0
    assert tables(tmp_path / "out") == before
    assert sweeps.verify(tmp_path / "out").complaints == ()


def test_a_text_that_cannot_be_computed_is_an_error_and_the_others_are_kept(
    planted, texts, whole, tmp_path, monkeypatch
):
    plain = compute._observe

    def failing(model, task):
        if list(task.tokens) == texts[1].tokens.tolist():
            raise RuntimeError("CUDA out of memory")
        return plain(model, task)

    with monkeypatch.context() as patch:
        patch.setattr(compute, "_observe", failing)
        with pytest.raises(SweepError, match=r"1 of 2 texts .* 'b': OutOfMemory: CUDA .* kept"):
            run(planted, texts, tmp_path / "out", seed=3)
    assert not RunFolder(tmp_path / "out").has_record()
    run(planted, texts, tmp_path / "out", seed=3)
    assert tables(tmp_path / "out") == tables(whole)


def test_tables_without_rows_keep_columns_and_types(planted, texts, tmp_path):
    run(planted, texts, tmp_path, thresholds=Thresholds(outlying=1e6))
    folder = RunFolder(tmp_path)
    for name, columns in (("sinks", SINK_COLUMNS), ("effects", EFFECT_COLUMNS)):
        table = folder.table(name)
        assert table.empty
        assert set(table) >= columns
        assert_types(table)
    assert folder.record()["verdicts"][0]["outcome"] == "inconclusive"


def test_tables_with_rows_have_the_same_types(whole):
    assert_types(RunFolder(whole).table("sinks"))
    assert_types(RunFolder(whole).table("effects"))


def assert_types(table):
    for name, column in table.items():
        if name in INTEGERS:
            assert pd.api.types.is_integer_dtype(column), name
        elif name in WORDS:
            assert pd.api.types.is_string_dtype(column), name
        elif name == "within_rounding":
            assert pd.api.types.is_bool_dtype(column), name
        else:
            assert pd.api.types.is_float_dtype(column), name


def test_pages_carry_checksums(whole, tmp_path, monkeypatch):
    """The same table without checksums lets a flipped bit pass, so it is they that notice it."""
    folder, bare = RunFolder(tmp_path), RunFolder(whole).table("effects")
    folder.write_table("effects", bare)
    assert isinstance(read_with_a_flipped_bit(folder), RunFolderError)
    write_table = parquet.pq.write_table
    monkeypatch.setattr(
        parquet.pq,
        "write_table",
        lambda table, where, **options: write_table(
            table, where, **options | {"write_page_checksum": False, "compression": None}
        ),
    )
    folder.write_table("effects", bare)
    assert not isinstance(read_with_a_flipped_bit(folder), RunFolderError)


def read_with_a_flipped_bit(folder):
    """The table of effects, or the error, after one bit of the values of a page has changed."""
    import pyarrow.parquet as pq

    path = folder.path / "effects.parquet"
    meta = pq.ParquetFile(path).metadata.row_group(0)
    columns = {meta.column(i).path_in_schema: meta.column(i) for i in range(meta.num_columns)}
    column = columns["norm_edited"]
    content = bytearray(path.read_bytes())
    content[column.data_page_offset - 9] ^= 1  # the last values of the dictionary page
    path.write_bytes(content)
    try:
        return folder.table("effects")
    except RunFolderError as error:
        return error


def key_of(planted, tokens=None, limits=None, edit="zero", seed=0, fed_as="raw", name="a"):
    ids = planted.tokens if tokens is None else tokens
    text = TokenizedText(text_id=name, tokens=ids, feed=fed_as, fed="as planted")
    return describe(planted.model, [text], limits or Thresholds(), edit, seed)["key"]


def changed_weight():
    other = with_sinks()
    with torch.no_grad():
        other.model.blocks[3].mlp.W_out[0, 0] += 1e-3
    return other


def changed_setting():
    other = with_sinks()
    other.model.cfg.eps *= 10
    return other


def changed_rope():
    other = with_sinks()
    for block in other.model.blocks:
        block.attn.rotary_cos = torch.ones(4, 2)
    return other


def changed_tokens(planted):
    tokens = planted.tokens.clone()
    tokens[30] = (tokens[30] + 1) % 32
    return tokens


def test_the_key_changes_with_every_input_and_only_then(planted):
    keys = [
        key_of(planted),
        key_of(changed_weight()),
        key_of(changed_setting()),
        key_of(changed_rope()),
        key_of(planted, tokens=changed_tokens(planted)),
        key_of(planted, tokens=planted.tokens[:-1]),
        key_of(planted, limits=Thresholds(aligned=0.91)),
        key_of(planted, edit="mean"),
        key_of(planted, edit=None),
        key_of(planted, seed=1),
        key_of(planted, name="b"),
    ]
    assert len(set(keys)) == len(keys)
    again = with_sinks()
    again.model.cfg.model_name = "another name of the same weights"
    assert key_of(again, tokens=planted.tokens.clone()) == keys[0]


def test_a_copy_that_is_in_no_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    (tmp_path / "record.py").write_text("")
    assert record.commit.__wrapped__() is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert record.commit.__wrapped__() is None, "installed below somebody else's repository"


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert record.commit.__wrapped__() is None


def test_descriptions_are_plain_json(planted, texts):
    found = describe(planted.model, texts, Thresholds(), None, 0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_verdicts_may_name_a_layer_and_need_not(planted, texts, tmp_path):
    run(planted, texts[:1], tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    (told,) = runs.whole_records(folder)
    assert told["writers"][0]["layer"] == 3
    before = [{k: v for k, v in one.items() if k != "layer"} for one in told["verdicts"]]
    folder.write_record(told | {"verdicts": before})
    assert runs.whole_records(folder)[0]["verdicts"] == before
    folder.write_record(told | {"writers": [told["writers"][0] | {"layer": "three"}]})
    with pytest.raises(
        RunFolderError, match=r"writers\[0\].layer is 'three'; expected int or null"
    ):
        runs.whole_records(folder)
