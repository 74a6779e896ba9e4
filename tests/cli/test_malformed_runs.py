"""Folders and files of results that are damaged, foreign or hostile: exit code 2, one line."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secondary_sinks import files
from secondary_sinks.cli.entry import run
from secondary_sinks.runs import RunFolder
from tests.detection.test_authors import entry, line
from tests.plots import frames
from tests.report.pages import layer_effect, phenomenon_of, record, verdict


def write_run(path, **changes):
    folder = RunFolder(path)
    folder.prepare()
    folder.write_table("sinks", frames.sinks())
    folder.write_table("trace", frames.trace())
    folder.write_table("effects", frames.effects())
    texts = [text | {"tokens_sha256": "0" * 64} for text in record()["texts"]]
    folder.write_record(record() | {"texts": texts} | changes)
    return folder


def seal(path):
    """Make the record of a folder name the tables that are there now."""
    tables = {one.stem: files.sha256_of(one) for one in path.glob("*.parquet")}
    RunFolder(path).write_record(RunFolder(path).record() | {"tables": tables})


def table(name, change):
    """A run, one of whose tables is another, which its record names."""

    def damage(path):
        folder = write_run(path)
        folder.write_table(name, change(folder.table(name)))
        folder.write_record(folder.record())

    return damage


def fields(**changes):
    """A run with other fields in its record."""
    return lambda path: write_run(path, **changes)


def raw(name, change):
    """A run, one of whose files has other bytes."""

    def damage(path):
        write_run(path)
        (path / name).write_bytes(change((path / name).read_bytes()))

    return damage


def without(name):
    def damage(path):
        folder = write_run(path)
        found = folder.record()
        found.pop(name)
        folder.write_record(found)

    return damage


def phenomenon(**changes):
    """A run whose record has other lists of numbers about the paper's phenomenon."""
    told = phenomenon_of(record(), frames.sinks())["phenomenon"]
    return fields(phenomenon=told | changes)


def drop(column):
    return lambda frame: frame.drop(columns=column)


def put(column, value):
    return lambda frame: frame.assign(**{column: value})


def sweep_of_none(path):
    """A record of several models, of which there are none."""
    folder = write_run(path)
    found = folder.record()
    found.pop("model")
    folder.write_record(found | {"models": []})


def layers(number):
    """A run whose record says another number of layers."""
    return fields(model=record()["model"] | {"n_layers": number})


def marked(metadata):
    """A run whose table of sinks has other metadata."""

    def damage(path):
        place = write_run(path).path / "sinks.parquet"
        pq.write_table(pq.read_table(place).replace_schema_metadata(metadata), place)
        seal(path)

    return damage


def test_metadata_of_pandas_that_somebody_wrote_are_not_followed(tmp_path, capfd):
    marked({b"pandas": b'{"index_columns": ["pos"], "columns": []}'})(tmp_path / "run")
    assert run(["report", str(tmp_path / "run")]) == 0
    assert run(["levels", str(tmp_path / "run")]) == 0


def test_a_small_file_of_a_table_beyond_memory_is_refused_with_the_numbers(tmp_path, capfd):
    folder = write_run(tmp_path / "run")
    place = folder.path / "sinks.parquet"
    column = pa.array(np.zeros(10**6, dtype=np.int8))
    with pq.ParquetWriter(place, pa.schema({f"c{n}": pa.int8() for n in range(50)})) as writer:
        table = pa.table({f"c{n}": column for n in range(50)})
        for _ in range(2):
            writer.write_table(table)
    seal(folder.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secondary_sinks.runs.parquet.free_bytes", lambda: 700_000_000)
        named = "holds 2,000,000 rows of 50 columns, which need 0.8 GB of memory; 0.7 GB is free"
        refused(["levels", str(folder.path)], named, tmp_path, capfd)
    assert place.stat().st_size < 1_000_000


def test_a_small_file_of_texts_beyond_memory_is_refused_with_the_numbers(tmp_path, capfd):
    folder = write_run(tmp_path / "run")
    place = folder.path / "sinks.parquet"
    word = pa.array(["x" * 1_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000, dtype=np.int32)), word)
    pq.write_table(pa.table({"token": column}), place, store_schema=False)  # read as plain text
    seal(folder.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secondary_sinks.runs.parquet.free_bytes", lambda: 700_000_000)
        named = "holds 2,000 rows of 1 columns, which need 2.0 GB of memory; 0.7 GB is free"
        refused(["report", str(folder.path)], named, tmp_path, capfd)
    assert place.stat().st_size < 1_000_000


def answer(question, *tables):
    told = {"tables": list(tables), "left_out": {}, "n_censored": 0, "verdicts": []}
    return {"question": question, **told}


REPORT = {
    "record cut": (raw("run.json", lambda raw: raw[:40]), "run.json' is damaged"),
    "record in UTF-16": (raw("run.json", lambda raw: raw.decode().encode("utf-16")), "run.json"),
    "record of NUL": (raw("run.json", lambda raw: b"\0" * len(raw)), "run.json' is damaged"),
    "record without end": (raw("run.json", lambda raw: b"[" * 100_000), "run.json' is damaged"),
    "record of a later version": (raw("run.json", lambda raw: b'{"schema": 99}'), "schema 1"),
    "record almost empty": (lambda path: write_run(path).write_record({}), "has no 'key'"),
    "record without a hash": (raw("run.json", lambda raw: b'{"schema": 1}'), "has no sha256"),
    "no model": (without("model"), "it has no 'model'"),
    "no texts": (without("texts"), "it has no 'texts'"),
    "a text twice": (fields(texts=2 * record()["texts"][:1]), "expected an id that no text has"),
    "a text below nothing": (
        fields(texts=[record()["texts"][0] | {"n_tokens": -1}]),
        "texts[0].n_tokens is -1; expected at least 1",
    ),
    "an unknown dtype": (fields(dtype="float9"), "dtype is 'float9'; expected one of float32"),
    "model a word": (fields(model="tiny"), "model is 'tiny'; expected an object"),
    "model without layers": (fields(model={}), "model has no 'name'"),
    "texts an object": (fields(texts={}), "texts is {}; expected a list"),
    "text a word": (fields(texts=["one"]), "texts[0] is 'one'; expected an object"),
    "tokens a word": (
        fields(texts=[{"text_id": "a", "feed": "raw", "n_tokens": "many"}]),
        "texts[0].n_tokens is 'many'; expected int",
    ),
    "tokens without end": (
        fields(texts=[{"text_id": "a", "feed": "raw", "n_tokens": 10**40}]),
        "texts[0].n_tokens is 1000",
    ),
    "edit a number": (fields(edit=7), "edit is 7; expected str or null"),
    "thresholds by words": (fields(thresholds={"aligned": "much"}), "thresholds.aligned is 'much'"),
    "verdicts a number": (fields(verdicts=3), "verdicts is 3; expected a list"),
    "outcome unknown": (
        fields(verdicts=[verdict(outcome="\x1b[2Jproven")]),
        "verdicts[0].outcome is '\\x1b[2Jproven'; expected supported",
    ),
    "verdict without a number": (fields(verdicts=[{"claim": "x"}]), "verdicts[0] has no 'outcome'"),
    "layer effect by words": (
        fields(layer_effects=[layer_effect(0, 0.5) | {"layer": "first"}]),
        "layer_effects[0].layer is 'first'; expected int",
    ),
    "answers a word": (fields(answers="all"), "answers is 'all'; expected a list"),
    "answer without tables": (fields(answers=[{"question": "harm"}]), "answers[0] has no 'tables'"),
    "answer to another question": (fields(answers=[answer("../x")]), "answers[0] is '../x' with"),
    "answer of another table": (fields(answers=[answer("harm", "x")]), "'harm' with tables ['x']"),
    "times by words": (fields(timings_s={"observe": "long"}), "timings_s.observe is 'long'"),
    "no models": (fields(models=[], model=None), "model is None"),
    "models empty": (sweep_of_none, "models is []; expected at least one"),
    "layers below zero": (layers(-1), "model.n_layers is -1; expected 1 to 1,000"),
    "layers without end": (layers(10**9), "model.n_layers is 1000000000; expected 1 to 1,000"),
    "layers too few": (layers(1), "l_start is 1 in a model of 1 layers"),
    "a trace without rows": (table("trace", lambda frame: frame[:0]), "has no rows of this model"),
    "a trace with a token missing": (
        table(
            "trace",
            lambda frame: frame.assign(token=frame["token"].astype("str").where(frame["pos"] < 0)),
        ),
        "has missing values in column 'token'; expected str",
    ),
    "a trace beyond the text": (table("trace", put("pos", 10**6)), "position 1000000, layer 0"),
    "a trace before the text": (table("trace", put("pos", -1)), "position -1, layer 0"),
    "a trace beyond the layers": (table("trace", put("layer", 99)), "position 0, layer 99"),
    "a trace of another text": (table("trace", put("text_id", "x")), "the trace has text 'x'"),
    "table with a mark of a list": (marked({b"secondary_sinks": b"[1]"}), "its schema is [1]"),
    "table with a mark of bytes": (
        marked({b"secondary_sinks": b"\xff"}),
        "sinks.parquet' is damaged",
    ),
    "table of a name that is a list": (
        marked({b"secondary_sinks": b'{"table": [1], "schema": 1}'}),
        "its schema is {'table': [1]",
    ),
    "table cut": (raw("sinks.parquet", lambda raw: raw[: len(raw) // 2]), "sinks.parquet' is dam"),
    "table empty": (raw("trace.parquet", lambda raw: b""), "trace.parquet' is damaged"),
    "table of text": (raw("effects.parquet", lambda raw: b"a,b\n1,2"), "effects.parquet' is dam"),
    "table without a column": (table("sinks", drop("kind")), "has no column 'kind'"),
    "trace without a column": (table("trace", drop("mass")), "has no column 'mass'"),
    "effects without a column": (table("effects", drop("role")), "has no column 'role'"),
    "one position of three": (
        phenomenon(positions=[3]),
        "phenomenon.positions is [3]; expected 3 numbers",
    ),
    "three lifetimes of two": (
        phenomenon(label_lifetimes=[1, 2, 3]),
        "phenomenon.label_lifetimes is [1, 2, 3]; expected 2 numbers",
    ),
    "positions by words": (table("sinks", put("pos", "first")), "in column 'pos'; expected int"),
    "masses by words": (table("effects", put("mass_clean", "much")), "column 'mass_clean'"),
    "tokens by numbers": (table("trace", put("token", 3)), "column 'token'; expected str"),
    "tokens missing": (table("sinks", put("token", None)), "column 'token'; expected str"),
    "text ids as bytes": (table("sinks", put("text_id", b"one")), "column 'text_id'"),
}


@pytest.mark.parametrize(("damage", "named"), REPORT.values(), ids=REPORT)
def test_a_report_of_a_damaged_run_is_one_line_and_writes_nothing(damage, named, tmp_path, capfd):
    damage(tmp_path / "run")
    refused(["report", str(tmp_path / "run")], named, tmp_path, capfd)


ONLY_A_SCHEMA = {
    "report": (["report", "{}"], "has no 'key'"),
    "compare": (["compare", "{}", "--out", "{}.html"], "has no 'key'"),
    "levels": (["levels", "{}"], "has no 'texts'"),
    "export": (["export", "{}"], "does not name the model"),
    "status": (["status", "{}"], "has no 'key'"),
    "verify": (["verify", "{}"], "has no 'key'"),
    "merge": (["merge", "{}", "--out", "{}2"], "not a sweep folder"),
}


@pytest.mark.parametrize("content", [{}, {"models": [3], "texts": 4}])
@pytest.mark.parametrize(("words", "named"), ONLY_A_SCHEMA.values(), ids=ONLY_A_SCHEMA)
def test_a_record_of_a_schema_alone_is_one_line(words, named, content, tmp_path, capfd):
    write_run(tmp_path / "run")
    RunFolder(tmp_path / "run").write_record(content)
    named = named if "models" not in content else "run"
    refused([word.format(tmp_path / "run") for word in words], named, tmp_path, capfd)


def test_a_run_without_tables_is_not_exported(tmp_path, capfd):
    folder = write_run(tmp_path / "run")
    for name in ("sinks", "trace", "effects"):
        (folder.path / f"{name}.parquet").unlink()
    refused(["export", str(folder.path)], "has no tables to export", tmp_path, capfd)


def deep(**changes):
    return line(0, 100, 5000, _900=entry(22) | changes)


LEVELS = {
    "no file": (None, [], "is not a file"),
    "a list": ("[]", [], ":1: expected a JSON object, got list"),
    "cut": (deep()[:50], [], ":1: broken JSON"),
    "no detections": ("\n \n", [], "holds no detections"),
    "without end": ("[" * 100_000, [], ":1: broken JSON"),
    "number of 5000 digits": (deep().replace("220", "9" * 5000), [], ":1:"),
    "token too large": (
        deep(token_id=2**31),
        [],
        "token_id must be a whole number, got 2147483648",
    ),
    "token a fraction": (deep(token_id=1.5), [], "got 1.5"),
    "token true": (deep(token_id=True), [], "got True"),
    "layer too large": (deep(layer=[2**40]), [], "layer must be a list of ascending layers"),
    "layer of no model": (deep(layer=[10**9]), [], "layer 1000000000; expected layers below 100,0"),
    "layers beyond memory": (
        "\n".join(line(n, 100, 5000 + n, _900=entry(22) | {"layer": [99_999]}) for n in range(300)),
        [],
        "300 texts with layers up to 99,999 and lifetimes up to 1 make 60,000,000 cells",
    ),
    "layers falling": (deep(layer=[3, 2]), [], "got [3, 2]"),
    "layers a word": (deep(layer="all"), [], "got 'all'"),
    "type unknown": (deep(sink_type="\x1b[1mbig"), [], "unknown sink_type '\\x1b[1mbig'"),
    "type a list": (deep(sink_type=[]), [], "unknown sink_type []"),
    "position beyond": (line(0, 100, 500, _900=entry(22)), [], "'900' is not a position"),
    "position of 5000 digits": (
        deep().replace('"900"', f'"{"9" * 4000}"'),
        [],
        "is not a position",
    ),
    "no layers": (deep(), ["--layers", "0"], "'0' is not a whole number from 1"),
    "negative layers": (deep(), ["--layers", "-3"], "'-3' is not a whole number"),
    "too few layers": (deep(), ["--layers", "5"], "in a model of 5 layers"),
    "seed too large": (deep(), ["--seed", str(2**64)], str(2**64)),
}


@pytest.mark.parametrize(("content", "options", "named"), LEVELS.values(), ids=LEVELS)
def test_levels_of_a_bad_file_is_one_line(content, options, named, tmp_path, capfd):
    path = tmp_path / "released.jsonl"
    if content is not None:
        path.write_text(content)
    refused(["levels", str(path), *options], named, tmp_path, capfd)


RUNS = {
    "layers by words": (table("sinks", put("segments", "all of them")), "not a table of sinks"),
    "layers without end": (table("sinks", put("segments", f"0-{10**12}")), "not ascending layers"),
    "layers missing": (table("sinks", put("segments", None)), "layers is None; expected str"),
    "layers falling": (table("sinks", put("segments", "3-1")), "'3-1' are not ascending layers"),
    "layers of no model": (
        table("sinks", put("l_start", 10**9)),
        "l_start is 1000000000; expected",
    ),
    "layers below zero": (table("sinks", put("l_start", -1)), "l_start is -1; expected 0 to"),
    "position below zero": (table("sinks", put("pos", -5)), "pos is -5; expected 0 to"),
    "lifetime without end": (table("sinks", put("lifetime", 2**62)), "expected 0 to 100000"),
    "lifetime a fraction": (table("sinks", put("lifetime", 1.5)), "lifetime is 1.5; expected int"),
    "kind a number": (table("sinks", put("kind", 7)), "kind is 7; expected str"),
    "texts without tokens": (fields(texts=[{"text_id": "a"}]), "texts[0] has no 'n_tokens'"),
    "no sinks": (lambda path: (write_run(path).path / "sinks.parquet").unlink(), "has no sinks"),
}


@pytest.mark.parametrize(("damage", "named"), RUNS.values(), ids=RUNS)
def test_levels_of_a_damaged_run_is_one_line(damage, named, tmp_path, capfd):
    damage(tmp_path / "run")
    refused(["levels", str(tmp_path / "run")], named, tmp_path, capfd)


def refused(arguments, named, place, capfd):
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    code = run(arguments)
    printed, error = capfd.readouterr()
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error
    assert len(error) < 700
    assert all(char.isprintable() for char in error[:-1])
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before


def test_an_undamaged_run_is_reported_and_has_levels(tmp_path, capfd):
    write_run(tmp_path / "run")
    assert run(["report", str(tmp_path / "run")]) == 0
    assert run(["levels", str(tmp_path / "run"), "--json"]) == 0
    assert '"n_sinks": 1' in capfd.readouterr().out


def test_what_a_foreign_table_says_cannot_steer_the_terminal(tmp_path, capfd):
    """Labels and tokens of a table of somebody else: escapes and markup are only shown."""
    hostile = "\x1b[2J[red]\u202enoise[/red]"
    folder = write_run(tmp_path / "run")
    rows = [frames.sink(label=hostile, token=hostile)]
    folder.write_table("sinks", pd.DataFrame(rows))
    seal(folder.path)
    assert run(["levels", str(tmp_path / "run")]) == 0
    printed = "".join(capfd.readouterr().out.split())
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "[red]" in printed
