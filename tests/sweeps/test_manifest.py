"""A manifest believes only lines that are what was written, and leads to no other folder."""

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import durable
from secondary_sinks.sweeps.entries import Entry
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.tasks import Failure, ModelSpec, Outcome, Task, Unit

UNIT = Unit(edit="zero", site="mlp_out", layer=1)
KEY = "ab" * 32


def outcome(**changes):
    task = Task(
        key=KEY, spec=ModelSpec(name="m"), weights_sha256="w", tokens=(1, 2, 3), units=(UNIT,)
    )
    tables = {"sinks": b"sinks", "effects": b"effects", "trace": b"trace"}
    given = {"task": task, "tables": tables, "units": (UNIT,), "n_cells": 2, "primary": 0}
    return Outcome(**(given | changes))


def line_of(manifest):
    return json.loads(manifest.path.read_bytes().splitlines()[0])


def rewrite(manifest, body):
    """A line whose own hash is right, whatever it says."""
    body.pop("line", None)
    said = body | {"line": files.sha256_of_json(body)}
    manifest.path.write_text(json.dumps(said) + "\n")


@pytest.fixture
def manifest(tmp_path):
    found = Manifest(tmp_path)
    found.add(outcome())
    return found


def test_what_is_added_is_read_back(manifest, tmp_path):
    manifest.add(
        outcome(tables={}, units=(), failures=(Failure(unit=UNIT, kind="E", message="m"),))
    )
    again = Manifest(tmp_path)
    assert again.check() == []
    assert again.entries == manifest.entries
    assert again.done().keys() == {KEY}
    assert again.tables() == {KEY: {"sinks", "effects", "trace"}}
    assert isinstance(again.entries[0], Entry)


@pytest.mark.parametrize("keep", [0, 1, 10, -2, -1])
def test_a_torn_line_does_not_count_and_is_repaired(keep, manifest, tmp_path):
    whole = manifest.path.read_bytes()
    manifest.path.write_bytes(whole + whole[:keep])
    again = Manifest(tmp_path)
    torn = [] if keep == 0 else ["line 2 of manifest.jsonl is damaged"]
    assert again.check() == torn
    assert manifest.path.read_bytes() == whole + whole[:keep], "looking changes nothing"
    assert again.repair() == torn
    assert manifest.path.read_bytes() == whole
    assert Manifest(tmp_path).check() == []


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "/etc/passwd", "a.sinks.parquet", "x" * 300, "", "..", 7, None]
    + [f"{'0' * 16}-{'0' * 16}.{end}" for end in ("sinks.parquet/..", "sinks", "other.parquet")],
)
def test_a_shard_cannot_be_named_outside_its_folder(name, manifest, tmp_path):
    body = line_of(manifest)
    body["shards"]["sinks"]["name"] = name
    rewrite(manifest, body)
    assert Manifest(tmp_path).check() == ["line 1 of manifest.jsonl is damaged"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_line_is_an_entry_or_damaged(data, tmp_path_factory):
    manifest = Manifest(tmp_path_factory.mktemp("m"))
    manifest.add(outcome())
    body = line_of(manifest)
    field = data.draw(st.sampled_from(sorted(body.keys() - {"line", "schema"})))
    body[field] = data.draw(plain)
    rewrite(manifest, body)
    again = Manifest(manifest.work.parent)
    complaints = again.check()
    assert len(again.entries) + bool(complaints) == 1
    again.done(), again.tables()


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_file_is_read_or_damaged(content, tmp_path_factory):
    manifest = Manifest(tmp_path_factory.mktemp("m"))
    durable.make_folder(manifest.work)
    manifest.path.write_bytes(content)
    complaints = manifest.check()
    assert manifest.entries == []
    assert n_lines(complaints) == len(content.splitlines())


def n_lines(complaints):
    """How many lines of a manifest complaints speak of."""
    spans = [re.findall(r"lines? (\d+)(?: to (\d+))? of", one) for one in complaints]
    return sum(int(last or first) - int(first) + 1 for ((first, last),) in spans)


def test_a_million_blank_lines_are_one_complaint_in_a_moment(tmp_path):
    manifest = Manifest(tmp_path)
    durable.make_folder(manifest.work)
    manifest.path.write_bytes(b"\n" * 1_000_000)
    start = time.perf_counter()
    assert manifest.check() == ["lines 1 to 1000000 of manifest.jsonl are damaged"]
    assert time.perf_counter() - start < 5, "parsed one by one, they took 20 s"


def test_a_manifest_larger_than_any_is_refused_before_it_is_read(tmp_path):
    manifest = Manifest(tmp_path)
    durable.make_folder(manifest.work)
    manifest.path.write_bytes(b"\n" * 2_000_001)
    with pytest.raises(RunFolderError, match="has 2,000,001 lines; expected at most 2,000,000"):
        manifest.check()
    with manifest.path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RunFolderError, match="1,099,511,627,776 bytes, expected at most"):
        manifest.check()
