"""The check of a GPU runs on a processor too, and would show what is wrong."""

import json
import math

import pytest
import torch

from tests.marks import needs_old
from tools import gpu

pytestmark = needs_old
CPU = torch.device("cpu")


def tiny():
    return next(iter(gpu.shapes(CPU).values()))


def test_it_writes_both_tables(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        gpu.main(
            ["--out", str(tmp_path / "new"), "--tokens", "16", "--tokens", "24", "--runs", "1"]
        )
    found = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert [(one["shape"], one["n_tokens"]) for one in found["timed"]] == [
        (shape, n_tokens) for shape in gpu.shapes(CPU) for n_tokens in (16, 24)
    ]
    for one in found["timed"]:
        assert one["kernel"]
        assert one["n_cells"] == 3 * 8 * 3
        assert min(one["sdpa_s"], one["streaming_s"], one["sweep_s"], one["eager_s"]) > 0
    assert [one["decode_s"] > 0 for one in found["timed"]] == [True, False] * 2
    assert {one["difference"] for one in found["equal"]} == {0.0}, "one device and itself"
    assert {one["shape"] for one in found["equal"]} == {"tiny qwen2", "with soft-cap and window"}
    shown = (tmp_path / "new" / "gpu.md").read_text()
    assert shown in capsys.readouterr().out
    assert "On a processor" in shown


@pytest.mark.parametrize("config", [tiny(), gpu.limited(CPU)])
def test_a_device_that_computes_something_else_shows(config, monkeypatch):
    real, made = gpu.random_model, []

    def drifting(config, device, dtype):
        model = real(config, device, dtype)
        made.append(model)
        if len(made) % 2 == 0:  # the second of each pair stands for the device
            model.model.layers[1].mlp.down_proj.weight.data *= 100
        return model

    monkeypatch.setattr(gpu, "random_model", drifting)
    rows = gpu.equality("tiny", config, CPU, 24)
    assert {row.dtype for row in rows} == {"float32", "bfloat16"}
    assert all(row.difference > 0.01 for row in rows if row.field == "norm")
    assert all(row.rounding == 0 for row in rows if row.dtype == "float32")
    assert all(row.rounding > 0 for row in rows if row.dtype == "bfloat16")


def test_what_does_not_fit_is_nan_and_the_rest_goes_on():
    def too_much():
        raise torch.cuda.OutOfMemoryError

    found = gpu.medians({"fits": lambda: None, "does not": too_much}, CPU, 2)
    assert found["fits"] >= 0
    assert math.isnan(found["does not"])


def test_the_shapes_for_a_gpu_are_those_of_the_published_models():
    found = gpu.shapes(torch.device("cuda"))
    n_heads = [(c.num_attention_heads, c.num_key_value_heads) for c in found.values()]
    assert list(found) == ["qwen2.5-0.5b", "qwen3-4b", "qwen3-14b"]
    assert n_heads == [(14, 2), (32, 8), (40, 8)]
    assert [config.num_hidden_layers for config in found.values()] == [24, 36, 40]


def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--out", str(tmp_path), "--device", "mps:3"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert "mps:3" in line
