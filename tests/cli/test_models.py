"""`models`: the table for people, for machines and for the document."""

import json
from pathlib import Path

import pytest

from secondary_sinks import memory
from secondary_sinks.cli import models
from secondary_sinks.cli.entry import run
from secondary_sinks.models.original.catalogue import ENTRIES, FAMILIES, family

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
GB = 10**9


@pytest.fixture
def ten(monkeypatch):
    """Ten GB are free, on a CPU alone."""
    monkeypatch.setattr(models, "free_memory", lambda: {"cpu": 10 * GB})


def test_the_table_can_be_read_at_100_columns(ten, capsys):
    assert run(["models"]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 100
    assert "…" not in printed
    assert "Wong et al. 2025" in printed
    assert "Free now: 10.0 GB on cpu." in " ".join(printed.split())
    rows = [line.split() for line in printed.splitlines()]
    for entry in ENTRIES:
        row = next(row for row in rows if row[:1] == [entry.alias])
        assert row[1] == entry.repository.split("/")[1]
        assert row[2] == f"{entry.parameters / 1e9:.2f}"
    for name in FAMILIES:
        owner = family(name)[0].repository.split("/")[0]
        assert [*name.split(), f"{owner}/"] in rows
        assert {entry.repository.split("/")[0] for entry in family(name)} == {owner}


@pytest.mark.parametrize(
    ("alias", "fits"),
    [
        ("qwen3-0.6b", "float32"),  # peak 5.2 GB
        ("qwen2-1.5b", "bfloat16"),  # peak 13.6 GB in float32, 6.8 in bfloat16
        ("qwen3-4b", "(bfloat16)"),  # 8.0 GB, peak 17.7
        ("qwen3-14b", "no"),
    ],
)
def test_the_largest_dtype_that_fits_is_named(alias, fits, ten, capsys):
    assert run(["models"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(row for row in rows if row[:1] == [alias])[-1] == fits


def test_a_device_with_more_room_counts(monkeypatch, capsys):
    monkeypatch.setattr(models, "free_memory", lambda: {"cpu": 10 * GB, "cuda:0": 80 * GB})
    assert run(["models", "--family", "phi4"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[-1] for line in printed.splitlines() if line.startswith(" phi-4 ")] == [
        "bfloat16"
    ]
    monkeypatch.setattr(models, "free_memory", lambda: {"cpu": None})
    assert run(["models", "--family", "phi4"]) == 0
    assert "unknown on cpu" in " ".join(capsys.readouterr().out.split())


def test_machines_get_bytes(ten, capsys):
    assert run(["models", "--family", "QwQ", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["free_bytes"] == {"cpu": 10 * GB}
    (model,) = record["models"]
    assert (model["alias"], model["repository"]) == ("qwq-32b", "Qwen/QwQ-32B")
    assert model["weight_bytes"]["bfloat16"] == 2 * model["parameters"] == 65_527_752_704
    assert model["peak_bytes"]["float32"] == pytest.approx(2.2 * 4 * model["parameters"])
    assert model["fits"] == {"cpu": dict.fromkeys(("float32", "bfloat16", "float16"), "no")}


def test_all_families_are_for_machines_too(capsys):
    assert run(["models", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [model["alias"] for model in record["models"]] == [entry.alias for entry in ENTRIES]
    assert record["free_bytes"]["cpu"] == pytest.approx(memory.free_bytes("cpu"), rel=0.5)


def test_the_document_holds_the_table_that_the_command_makes(capsys):
    assert run(["models", "--markdown"]) == 0
    assert DOCUMENT.read_text("utf-8").endswith("\n\n" + capsys.readouterr().out)
