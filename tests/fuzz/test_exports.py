"""Whatever tokens, names and numbers a run holds: every exported format reads back equal."""

import csv
import json
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import export, open, read_export
from secondary_sinks.runs.as_csv import escape, unescape
from secondary_sinks.runs.columns import SINKS
from secondary_sinks.runs.export import FORMATS
from tests.cli.test_malformed_runs import write_run
from tests.fuzz.test_readers import quick
from tests.plots import frames

HOSTILE = [
    "\r",
    "a\rb",
    "\r\n",
    "\n",
    '"',
    '","',
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    " =1",
    "'",
]
HOSTILE += [
    "'=1",
    "''",
    "\\",
    "\\n",
    "\\u0041",
    "\\'=",
    "\0",
    "\x1b[2J",
    "\u2028",
    "\x85",
    "\ufeff",
]
HOSTILE += ["", " ", "NA", "nan", "null", "None", "007", "1e5", "True", ";=1", "\uff1d1", "\u202e"]
HOSTILE += ["\U0001f600", "\ufffd", "#REF!", "%s", "{}", "a\x7fb", "\u3000=x", "\n=1", "-inf"]
texts = (
    st.sampled_from(HOSTILE)
    | st.text(max_size=6)
    | st.builds("{}{}".format, *[st.sampled_from(HOSTILE)] * 2)
)
floats = st.floats(width=64) | st.sampled_from(
    [5e-324, -0.0, 0.1 + 0.2, 1e308, math.inf, -math.inf]
)
whole = st.integers(-(2**63), 2**63 - 1)
VALUES = {"str": texts, "float": floats, "int": whole, "bool": st.booleans()}
rows = st.lists(
    st.fixed_dictionaries({name: VALUES[c.kind] for name, c in SINKS.items()}), max_size=6
)
KINDS = {"int": "int64", "float": "float64", "bool": "bool"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_of_sinks(tmp_path_factory.mktemp("exports") / "run")


def run_of_sinks(path):
    """A run that has no other tables."""
    folder = write_run(path)
    for name in ("trace", "effects"):
        (folder.path / f"{name}.parquet").unlink()
    return folder


def write_sinks(folder, table):
    """Write the table of sinks, and its hash into the record."""
    folder.write_table("sinks", table)
    hashes = {"sinks": files.sha256_of(folder.path / "sinks.parquet")}
    folder.write_record(folder.record() | {"tables": hashes})


def with_sinks(folder, made):
    """The run with other sinks, as its reader gives them."""
    table = pd.DataFrame(made, columns=list(SINKS))
    types = {name: KINDS[column.kind] for name, column in SINKS.items() if column.kind in KINDS}
    words = {name: str for name, column in SINKS.items() if column.kind == "str"}
    write_sinks(folder, table.astype(types | words))
    return open(folder.path).sinks


@pytest.mark.parametrize("format", FORMATS)
@given(made=rows)
@settings(quick, max_examples=12)
def test_every_format_reads_back_equal(folder, format, made):
    expected = with_sinks(folder, made)
    path = export(folder.path, format)[0]
    found = read_export(path)
    assert_frame_equal(found, expected, check_exact=True, check_flags=False)
    for name in (name for name, column in SINKS.items() if column.kind == "float"):
        signs = [[math.copysign(1, value) for value in f[name].dropna()] for f in (found, expected)]
        assert signs[0] == signs[1], "minus zero stays what it is"


@given(made=rows)
@settings(quick, max_examples=12)
def test_csv_is_what_its_rule_says_for_any_reader(folder, made):
    """The module csv and the rule of the documentation, which JSON knows, give the texts."""
    expected = with_sinks(folder, made)
    content = export(folder.path, "csv")[0].read_bytes().decode()
    assert len(content.splitlines()) == content.count("\n") == len(expected) + 1
    head, *cells = csv.reader(content.splitlines())
    assert head == list(expected)
    for name in (name for name, column in SINKS.items() if column.kind == "str"):
        written = [row[head.index(name)] for row in cells]
        assert [by_the_rule(cell) for cell in written] == expected[name].tolist()
        assert not any(
            cell.strip()[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20") for cell in written
        )
        assert all(f'"{name}"' in content for name in head)


def by_the_rule(cell):
    plain = cell.removeprefix("'").replace('"', '\\"')
    return json.loads(f'"{plain}"', strict=True)


@given(word=texts | st.text())
@quick
def test_any_text_comes_back_from_a_cell(word):
    cell = escape(word)
    assert unescape(cell) == word
    assert cell.splitlines() in ([cell], [])
    assert cell.isprintable() or not set(cell) & set("\r\n\t\0\x1b")


@given(made=rows)
@settings(quick, max_examples=8)
def test_json_lines_are_json_for_any_reader(folder, made):
    expected = with_sinks(folder, made)
    content = export(folder.path, "jsonl")[0].read_text(encoding="ascii")
    found = [json.loads(line, parse_constant=pytest.fail) for line in content.splitlines()]
    assert [row["token"] for row in found] == expected["token"].tolist()
    assert [row["pos"] for row in found] == expected["pos"].tolist()
    for row, mass in zip(found, expected["mass_max"], strict=True):
        assert row["mass_max"] == mass or (row["mass_max"] is None and math.isnan(mass))


@pytest.mark.parametrize("format", FORMATS)
def test_a_further_column_with_a_hostile_name_is_kept(format, tmp_path):
    folder = run_of_sinks(tmp_path / "run")
    write_sinks(folder, frames.sinks().assign(**{"=cmd\r": "=x", "more": 1.5}))
    written = export(folder.path, format)
    assert_frame_equal(read_export(written[0]), open(folder.path).sinks, check_flags=False)
    told = json.loads(written[-1].read_text())["tables"]["sinks"]["columns"]
    assert told["more"]["kind"] == "float"


@pytest.mark.parametrize("value", [None, b"x", [1], 2**63, pd.Timestamp(0)], ids=repr)
def test_what_no_format_can_hold_is_refused_by_name(value, tmp_path):
    folder = run_of_sinks(tmp_path / "run")
    column = pd.Series([value, value], dtype=None if isinstance(value, int) else object)
    write_sinks(folder, frames.sinks().assign(more=column))
    with pytest.raises(RunFolderError, match="column 'more' of table 'sinks' is"):
        export(folder.path)
    assert not (folder.path / "export").exists()


DAMAGE = {
    "no schema": lambda path: (path.parent / "schema.json").unlink(),
    "another schema": lambda path: (path.parent / "schema.json").write_text("[]"),
    "a deep schema": lambda path: (path.parent / "schema.json").write_text("[" * 100_000),
    "deep lines": lambda path: path.write_text("[" * 100_000),
    "nothing": lambda path: path.write_bytes(b""),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "another head": lambda path: path.write_text(path.read_text().replace("token_id", "word")),
    "a word for a number": lambda path: path.write_text(path.read_text().replace("9", "x")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_damaged_export_is_one_error(format, damage, tmp_path):
    path = export(run_of_sinks(tmp_path / "run").path, format)[0]
    damage(path)
    if format == "jsonl" and not path.stat().st_size:
        return  # a table without rows is an empty file
    with pytest.raises(RunFolderError, match=r"sinks\.\w+' is not a table of an export"):
        read_export(path)


def test_another_file_is_no_export(tmp_path):
    path = export(run_of_sinks(tmp_path / "run").path)[0]
    for name in ("other.csv", "sinks.txt", "sinks"):
        with pytest.raises(RunFolderError, match="is not a table of an export"):
            read_export(path.with_name(name))
