"""Whatever a file or a word holds: something valid, or an error of ours. Nothing else is raised."""

import json
import struct

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secondary_sinks import files
from secondary_sinks.detection import find_levels, read_released
from secondary_sinks.errors import DetectionError, EditError, ModelError, SinkError, TextError
from secondary_sinks.models.gguf.header import read_header, refuse_split
from secondary_sinks.models.original.checkpoint import INDEX, SINGLE, check_weights
from secondary_sinks.models.original.config import read_config, request_dense_weights
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder, parquet, whole_table
from secondary_sinks.runs.schema import COLUMNS
from secondary_sinks.texts import parse_jsonl, read_texts, tokenize
from secondary_sinks.types import Edit
from secondary_sinks.types.edits import load_cells
from secondary_sinks.types.sinks import format_layers, parse_layers
from tests.cli.test_malformed_runs import write_run
from tests.detection.test_authors import entry, line
from tests.fuzz.mutants import damaged, mutants
from tests.models.gguf.files import tiny_model, write
from tests.tiny import TEMPLATE, save_tiny, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::secondary_sinks.errors.SinkWarning")
"""Keys that are not fed are named in a warning."""
quick = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LINES = [
    {"id": "a", "text": "one two"},
    {"prompt": "p", "output": "o"},
    {"messages": [{"role": "user", "content": "c"}]},
]


def attempt(read, kind, word=""):
    """What was read; None where it was refused, with an error that names `word`."""
    try:
        return read()
    except kind as error:
        refusal = str(error)
    assert word in refusal
    return None


def text_of(value):
    """JSON as a careless program writes it, with halves of characters escaped."""
    return json.dumps(value)


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.txt"])
@given(raw=st.binary(max_size=60) | damaged("\n".join(map(json.dumps, LINES)).encode()))
@quick
def test_any_bytes_are_texts_or_a_text_error(name, raw, tmp_path):
    (tmp_path / name).write_bytes(raw)
    texts = attempt(lambda: read_texts(tmp_path / name), TextError, name)
    assert texts is None or all(text.raw.strip() for text in texts)


TOKENIZER = tiny_tokenizer(TEMPLATE)


@given(st.lists(st.sampled_from(LINES).flatmap(mutants).map(text_of), min_size=1, max_size=3))
@quick
def test_any_messages_are_tokens_or_a_text_error(lines):
    try:
        texts = parse_jsonl("\n".join(lines), "mine")
        fed = [tokenize(text, TOKENIZER) for text in texts]
    except TextError:
        return
    assert all(len(text.tokens) >= 2 for text in fed)


RELEASED = json.loads(line(0, 100, 5000, _900=entry(3), _25=entry(2, "noise")))


@given(mutants(RELEASED), st.none() | st.integers(1, 60))
@quick
def test_any_released_line_is_detections_or_a_detection_error(record, n_layers):
    found = attempt(
        lambda: read_released(text_of(record), "mine", n_layers), DetectionError, "mine:1:"
    )
    if found is None:
        return
    find_levels(found.sinks, n_texts=len(found.lines))
    assert found.sinks.to_frame()["lifetime"].ge(1).all()


@given(st.text(max_size=200) | damaged(line(0, 100, 5000, _900=entry(3)).encode(), 2))
@quick
def test_any_released_content_is_detections_or_a_detection_error(content):
    content = content.decode(errors="replace") if isinstance(content, bytes) else content
    found = attempt(lambda: read_released(content, "mine"), DetectionError, "mine")
    assert found is None or found.lines


layer_words = st.text("0123456789-, ", max_size=12) | st.text(max_size=6)


@given(layer_words)
@quick
def test_any_words_are_rising_layers_or_a_value_error(words):
    try:
        layers = parse_layers(words)
    except ValueError:
        return
    assert list(layers) == sorted(set(layers))
    assert parse_layers(format_layers(layers)) == layers


EDITS = [
    {"pos": 3, "layer": [1, 2], "kind": "scale", "value": 0.5, "units": [1], "site": "z"},
    {"pos": [1, 2], "layer": 0, "kind": "patch", "donor": 4, "text": "other"},
    {"pos": 1, "layer": 0, "kind": "rotate", "value": 90, "seed": 3},
    {"pos": 1, "layer": 0, "kind": "patch", "donor": [4, 5]},
]


@given(st.sampled_from(EDITS).flatmap(mutants).map(text_of) | st.text(max_size=30))
@quick
def test_any_line_is_edits_or_an_edit_error(written):
    try:
        cells = load_cells(written)
    except EditError:
        return
    for edit in (edit for cell in cells for edit in cell):
        assert Edit.from_json(edit.to_json()) == edit


kinds = st.sampled_from(["zero", "mean", "scale", "rotate", "resample", "patch", "set_norm", ""])
details = st.sampled_from(["", "1", "nan", "1e999", "-1", "a@3", "9" * 5000, "twins", "1:2", "@"])


@given(st.builds("{}:{}".format, kinds, details | st.text(max_size=5)) | st.text(max_size=8))
@quick
def test_any_label_is_an_edit_or_an_edit_error(label):
    try:
        edit = Edit.of_label(label, pos=1, layer=0)
    except EditError:
        return
    assert Edit.of_label(edit.label, pos=1, layer=0) == edit


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("fuzz") / "tiny")


@given(st.data())
@quick
def test_any_config_is_a_config_or_a_model_error(llama, data):
    good = json.loads((llama / "config.json").read_text())
    place = llama.parent / "mutant"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(text_of(data.draw(mutants(good))))
    try:
        config = read_config(place, "mutant")
        request_dense_weights(config, "mutant")
    except ModelError:
        return
    assert config.model_type


names = st.text(max_size=12) | st.sampled_from(["..", "a/..", "~", "~root", "a@..", "/dev/null"])


@given(names, st.none() | st.text(max_size=6))
@quick
def test_any_name_is_a_source_or_a_model_error(name, revision):
    try:
        source = resolve(name, revision)
    except ModelError:
        return
    assert source.kind in {"embedded", "folder", "gguf", "hub"}
    if source.kind == "hub":
        assert "\\" not in source.path
        assert ".." not in (source.revision or "").split("/")


def header_of(fields):
    words = text_of(fields).encode(errors="replace")
    return len(words).to_bytes(8, "little") + words


TENSORS = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "__metadata__": {"f": "pt"},
}


@given(
    header=mutants(TENSORS).map(header_of) | damaged(header_of(TENSORS)),
    n_bytes=st.integers(0, 40),
)
@quick
def test_any_weight_file_is_counted_or_a_model_error(header, n_bytes, tmp_path):
    (tmp_path / SINGLE).write_bytes(header + b"\1" * n_bytes)
    size = attempt(lambda: check_weights(tmp_path), ModelError, SINGLE)
    assert size is None or size >= 0


@given(index=mutants({"weight_map": {"a": SINGLE, "b": SINGLE}}))
@quick
def test_any_index_is_followed_inside_its_folder_or_a_model_error(index, tmp_path):
    (tmp_path / "shard.safetensors").write_bytes(header_of(TENSORS) + b"\1" * 24)
    (tmp_path / INDEX).write_text(text_of(index))
    with pytest.raises(ModelError, match=r"safetensors"):
        check_weights(tmp_path)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model("qwen2"), "qwen2")


def gguf_value(kind):
    """The bytes of a value of metadata: its type, then itself."""
    scalars = {0: "B", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 12: "d"}
    if kind in scalars:
        numbers = st.floats(width=32) if scalars[kind] in "fd" else st.integers(0, 1)
        return numbers.map(lambda number: struct.pack("<I" + scalars[kind], kind, number))
    if kind == 8:
        return st.text(max_size=5).map(
            lambda word: struct.pack("<IQ", 8, len(word.encode())) + word.encode()
        )
    return st.integers(0, 3).map(
        lambda count: struct.pack("<IIQ", 9, 4, count) + b"\1\0\0\0" * count
    )


@given(st.data())
@quick
def test_any_metadata_of_a_gguf_file_is_read_or_a_model_error(gguf, data):
    """A file with one more entry in front: of any type, under the names that are looked at."""
    content = gguf.read_bytes()
    key = data.draw(
        st.sampled_from([b"general.alignment", b"split.count", b"general.architecture"])
    )
    value = data.draw(st.sampled_from([0, 4, 5, 6, 7, 8, 9, 10, 12, 13]).flatmap(gguf_value))
    version, n_tensors, n_metadata = struct.unpack_from("<IQQ", content, 4)
    start = content[:4] + struct.pack("<IQQ", version, n_tensors, n_metadata + 1)
    path = gguf.with_name("more.gguf")
    path.write_bytes(start + struct.pack("<Q", len(key)) + key + value + content[24:] + b"\0" * 64)
    header = attempt(lambda: read_header(path), ModelError, "more.gguf")
    if header is not None:
        attempt(lambda: refuse_split(header, path), ModelError, "more.gguf")
        assert isinstance(header.architecture, str)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("fuzz") / "run")


@given(st.data())
@settings(quick, max_examples=8)
def test_any_record_is_reported_or_an_error_of_ours(finished, data):
    good = finished.record()
    folder = RunFolder(finished.path.parent / "mutant")
    write_run(folder.path) if not folder.path.exists() else None
    (folder.path / "run.json").write_text(text_of(sealed(data.draw(mutants(good)))))
    page = attempt(lambda: write_report(folder), SinkError, "run.json")
    assert page is None or page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def sealed(record):
    """A record with the hash of its content, so that the content is what is read."""
    return {"sha256": files.sha256_of_json(record)} | record if isinstance(record, dict) else record


def whole(record):
    record["layer_effects"][0] |= {"lost": 1, "sinks_lost": 1, "remark": "a further field"}
    record["verdicts"][0] |= {"value": 1, "high": 1}


@pytest.mark.parametrize("change", [whole, lambda record: record.pop("layer_effects")])
def test_records_of_whole_numbers_or_without_layers_are_reported(change, tmp_path):
    folder = write_run(tmp_path / "run")
    record = folder.record()
    change(record)
    record.pop("sha256", None)
    folder.write_record(record)
    assert "supported" in write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["sinks", "effects", "trace"])
@given(st.data())
@settings(quick, max_examples=15)
def test_any_bytes_of_a_table_are_a_table_or_an_error_of_ours(name, finished, data):
    """Page checksums don't cover the footer: a flip there may rename a column, not crash."""
    folder = RunFolder(finished.path.parent / "bytes")
    write_run(folder.path) if not folder.path.exists() else None
    good = (finished.path / f"{name}.parquet").read_bytes()
    (folder.path / f"{name}.parquet").write_bytes(data.draw(damaged(good)))
    table = attempt(lambda: whole_table(folder, name), SinkError, f"{name}.parquet")
    assert table is None or set(COLUMNS[name]) <= set(table)


def test_a_table_at_which_the_reader_itself_stumbles_is_damaged(finished, monkeypatch):
    """A damaged index within a page is an `ArrowIndexError`, which is no `ValueError`."""

    def stumble(path):
        raise pyarrow.lib.ArrowIndexError("Index 0 out of bounds")

    monkeypatch.setattr(parquet, "read", stumble)
    with pytest.raises(SinkError, match="Index 0 out of bounds"):
        finished.table("trace")
