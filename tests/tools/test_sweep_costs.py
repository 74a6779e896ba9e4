"""What a sweep costs: seconds of its manifest, and other models worked out from them."""

import re
from pathlib import Path

import pytest

from secondary_sinks import load_model
from tests.tiny import save_tiny
from tools import sweep_costs
from tools.sweep_costs import (
    GPUS,
    SHOWN,
    estimated_table,
    least_seconds,
    measured_table,
    operations,
    paper_table,
    sizes_of,
)

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text("utf-8")


def test_costs_are_those_of_a_sweep_of_texts_of_these_lengths(tmp_path):
    model = load_model(str(save_tiny(tmp_path / "tiny")), "cpu")
    costs = sweep_costs.measure(model, [40, 100], tmp_path / "out")
    assert [cost.n_tokens for cost in costs] == [40, 100]
    for cost in costs:
        assert cost.speed > 2 * operations(sizes_of(model), cost.n_tokens) / 60
        assert cost.observe > 0
    assert measured_table(costs).splitlines()[3].startswith("| 100 | ")


def test_operations_are_those_of_products_of_matrices():
    model = SHOWN[0]
    weights = 2 * model.parameters * 1000
    keys = sum(range(1000))  # of all queries together
    attention = model.n_layers * 2 * 2 * model.width * keys  # scores, and what they weigh
    assert operations(model, 1000) == pytest.approx(weights + attention, rel=1e-3)


def test_the_page_has_what_the_command_works_out_from_its_last_row():
    speed = float(re.findall(r"\| ([0-9.]+) x 10\^9 \|", PAGE)[-1]) * 1e9
    assert estimated_table(speed) in PAGE


def test_the_page_has_the_table_of_data_sheets(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sweep_costs", "--paper"])
    sweep_costs.main()
    assert paper_table() in PAGE
    assert capsys.readouterr().out.strip() == paper_table()


def test_the_least_time_is_that_of_operations_and_of_scores():
    model, gpu = SHOWN[2], GPUS[0]
    scores = 40 * 40 * 4000 * 4000 / 2  # by layer and head, half of them visible
    moved = sweep_costs.SCORES * scores * 2 / 2.04e12  # two bytes each
    computed = 2 * operations(model, 4000) / 312e12
    assert least_seconds(model, 4000, gpu) == pytest.approx(computed + moved)


def test_without_texts_or_a_folder_the_command_says_what_it_expects(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sweep_costs", "512"])
    with pytest.raises(SystemExit, match="2"):
        sweep_costs.main()
    assert "expected lengths of texts and --out, or --paper" in capsys.readouterr().err
