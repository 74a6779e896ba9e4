"""A run is what observe, detect and ablate give by hand, with a record that names every input."""

import json
import re
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import ablate, detect, observe, runs
from secondary_sinks.errors import RunFolderError, TextError
from secondary_sinks.questions import damage_at_tokens
from secondary_sinks.runs import (
    RunFolder,
    analyse,
    check_lengths,
    describe,
    parquet,
    record,
    save,
)
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Thresholds

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
COMMAND = {"command": "secondary-sinks run"}
INTEGERS = {"pos", "token_id", "l_start", "l_end", "lifetime", "layer", "sink_pos"}
INTEGERS |= {"lifetime_clean", "lifetime_edited"}
WORDS = {"text_id", "token", "kind", "criterion", "censored", "segments", "role", "site", "edit"}
WORDS |= {"effect", "label", "copy_of"}


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


@pytest.fixture(scope="module")
def results(planted, texts):
    return analyse(planted.model, texts)


def test_a_run_is_observe_detect_ablate(planted, texts, results):
    traces = [observe(planted.model, t.tokens, text_id=t.text_id) for t in texts]
    sinks = detect(traces)
    assert {sink.kind for sink in sinks.sinks} >= {"primary", "secondary"}
    pd.testing.assert_frame_equal(results.sinks.to_frame(), sinks.to_frame())
    both = ["zero", "twins"]
    by_hand = [ablate(planted.model, trace, sinks, both).to_frame() for trace in traces]
    assert results.effects is not None
    pd.testing.assert_frame_equal(
        results.effects.to_frame(), pd.concat(by_hand, ignore_index=True), rtol=1e-5
    )


def test_thresholds_and_edit_reach_the_work(planted, texts):
    strict = analyse(planted.model, texts, edit=None, thresholds=Thresholds(outlying=1e6))
    assert strict.sinks.sinks == ()
    assert strict.effects is None
    unchanged = analyse(planted.model, texts[:1], edit="none")
    assert unchanged.roles is None
    no_op = unchanged.effects.to_frame()
    assert set(no_op["edit"]) == {"none"}
    assert no_op["mass_edited"].to_numpy() == pytest.approx(no_op["mass_clean"], rel=1e-4)


def test_progress_counts_tokens_up_to_all_of_them(planted, texts):
    seen = []
    analyse(planted.model, texts, tick=lambda *step: seen.append(step))
    assert seen == [
        (stage, *step)
        for stage in ("observe", "ablate")
        for step in (("a", 0, 128), ("b", 64, 128), ("", 128, 128))
    ] + [("roles", "", done, 2) for done in range(3)]


@pytest.mark.parametrize("length", [8, 65])
def test_lengths_are_checked_before_any_pass(length, planted):
    text = fed(torch.zeros(length, dtype=torch.long), "mine")
    for check in (
        lambda: check_lengths(planted.model, [text], Thresholds()),
        lambda: analyse(planted.model, [text]),
    ):
        with pytest.raises(TextError, match=f"'mine' has {length} tokens"):
            check()


def test_the_folder_holds_what_was_promised(planted, texts, results, tmp_path):
    folder = RunFolder(tmp_path / "run")
    inputs = describe(planted.model, texts, Thresholds(), "zero", seed=3)
    save(folder, results, inputs | {"command": "secondary-sinks run"})
    names = {item.name for item in folder.path.iterdir()}
    assert names == {
        "run.json",
        "sinks.parquet",
        "effects.parquet",
        "trace.parquet",
        "roles.parquet",
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
    pd.testing.assert_frame_equal(runs.open(folder.path).roles[list(results.roles.cells)],
                                  results.roles.cells)  # fmt: skip
    assert_record_is_whole(folder.record(), planted.model)


def test_the_same_text_twice_counts_once(planted, tmp_path):
    twice = [fed(planted.tokens, name="a"), fed(planted.tokens, name="b")]
    folder = RunFolder(tmp_path / "run")
    results = analyse(planted.model, twice)
    save(folder, results, describe(planted.model, twice, Thresholds(), "zero", 0))
    n_secondary = sum(sink.kind == "secondary" for sink in results.sinks.sinks)
    counted = {row["n_sinks"] for row in folder.record()["layer_effects"]}
    assert counted == {n_secondary / 2}


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
    assert set(found["timings_s"]) == {"observe", "detect", "ablate", "roles"}
    assert {verdict["layer"] for verdict in found["writers"]} == {3}
    assert found["primaries"] == {"a": 0, "b": 0}
    assert found["verdicts"]
    assert {"commit", "key", "edit", "command"} <= set(found)


def test_saving_never_replaces_silently(planted, texts, results, tmp_path):
    inputs = describe(planted.model, texts, Thresholds(), None, 0)
    save(RunFolder(tmp_path), results, inputs)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    with pytest.raises(RunFolderError):
        save(RunFolder(tmp_path), results, inputs)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before
    save(RunFolder(tmp_path), replace(results, effects=None), inputs, force=True)
    assert not (tmp_path / "effects.parquet").exists(), "no table of the old run stays"


def test_tables_without_rows_keep_columns_and_types(planted, texts, tmp_path):
    nothing = analyse(planted.model, texts, thresholds=Thresholds(outlying=1e6))
    folder = RunFolder(tmp_path / "run")
    save(folder, nothing, describe(planted.model, texts, Thresholds(outlying=1e6), "zero", 0))
    for name, columns in (("sinks", SINK_COLUMNS), ("effects", EFFECT_COLUMNS)):
        table = folder.table(name)
        assert table.empty
        assert set(table) >= columns
        assert_types(table)
    assert folder.record()["verdicts"][0]["outcome"] == "inconclusive"


def test_tables_with_rows_have_the_same_types(results):
    assert_types(results.sinks.to_frame())
    assert_types(results.effects.to_frame())


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


def test_pages_carry_checksums(planted, texts, results, tmp_path, monkeypatch):
    """The same table without checksums lets a flipped bit pass, so it is they that notice it."""
    folder = RunFolder(tmp_path)
    folder.write_table("effects", results.effects.to_frame())
    assert isinstance(read_with_a_flipped_bit(folder), RunFolderError)
    bare = results.effects.to_frame()
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
    assert record.commit() is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert record.commit() is None, "installed below somebody else's repository"


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert record.commit() is None


def test_descriptions_are_plain_json(planted, texts):
    found = describe(planted.model, texts, Thresholds(), None, 0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_verdicts_may_name_a_layer_and_need_not(planted, texts, results, tmp_path):
    folder = RunFolder(tmp_path / "run")
    save(folder, results, describe(planted.model, texts, Thresholds(), "zero,twins", 0) | COMMAND)
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
