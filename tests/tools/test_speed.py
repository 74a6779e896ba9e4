"""The comparison of speeds compares the same numbers; how fast it is, is no matter of a test."""

import json
import math

import pytest
import transformers as hf

from secondary_sinks import load_model, observe
from secondary_sinks.testing import Plant, plant
from tests.marks import exhaustive, needs_old
from tests.tiny import save_tiny
from tools import speed, speed_compare
from tools.speed_run import WholeRun

NAMES = [
    "state_sweep",
    "state_sweep_vs_sdpa",
    "state_sweep_vs_decode",
    "state_sweep_with_mass_vs_decode",
    "total_effect",
    "streaming_vs_cache",
    "streaming_vs_sdpa",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("tiny"))
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    return load_model(str(folder), device="cpu"), theirs


@needs_old
def test_ours_and_peers_give_the_same_numbers(models):
    found = speed.run(*models, n_pos=64, long=100, runs=2, sinks=3)
    assert list(found) == NAMES
    for name, one in found.items():
        assert one.max_relative_difference < 1e-5, name
        assert one.ours_s > 0
        assert one.limit_s > 0
        assert one.ratio == pytest.approx(one.peer_s / one.ours_s)
    assert (found["state_sweep"].cells, found["state_sweep"].peer_cells) == (18, 6)


@exhaustive
@needs_old
def test_a_whole_run_is_timed_with_its_verdicts():
    strong, weak = Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))
    planted = plant([strong, weak])
    trace = observe(planted.model, planted.tokens)
    whole = WholeRun(planted.model, trace)
    every = list(range(len(whole.edits)))
    assert len(every) == 2 * 2 * len(trace.norm)  # edits, tokens (sink and control), layers
    assert speed.relative(whole.norms(), whole.plain_norms(every)) < 1e-5
    assert whole.n_verdicts > 0


@needs_old
def test_a_peer_that_computes_something_else_shows(models, monkeypatch):
    from tools import speed_peers as peers

    monkeypatch.setattr(peers, "_mean", lambda outputs, trace, layer: outputs.mean(0) + 1)
    found = speed.run(*models, n_pos=64, long=64, runs=1, sinks=2)
    assert found["state_sweep"].max_relative_difference > 1e-3


def test_times_are_medians_and_scaled_to_all_cells():
    ticks = iter([0.0, 1.0, 1.0, 3.0, 3.0, 8.0, 8.0, 10.0, 10.0, 12.0, 12.0, 20.0])
    one = speed.compare(
        lambda: 1, lambda: 1, lambda a, b: 0.0, 3, cells=100, timed=10, clock=lambda: next(ticks)
    )
    assert (one.ours_s, one.peer_s, one.ratio) == (2.0, 20.0, 10.0)
    assert not math.isinf(one.ratio)


def test_the_limit_is_the_median_of_the_passes_in_between():
    done, passes = [], iter([5.0, 3.0, 3.5])
    one = speed.compare(
        lambda: done.append("ours"),
        lambda: done.append("peer"),
        lambda a, b: 0.0,
        3,
        cells=1,
        timed=1,
        limit=lambda: done.append("limit") or next(passes),
    )
    assert one.limit_s == 3.5
    assert done == ["ours", "peer", "limit"] * 3


@needs_old
def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, models, capsys):
    monkeypatch.setattr(speed, "load_model", lambda *names, **options: models[0])
    monkeypatch.setattr(speed, "same_weights", lambda name: models[1])
    page = tmp_path / "page.md"
    page.write_text(f"before\n{speed_compare.MARK}old\n{speed_compare.MARK}after\n")
    words = ["--model", "tiny", "--tokens", "40", "--long", "40", "--runs", "1"]
    with pytest.raises(SystemExit) as ended:
        speed.main(["--out", str(tmp_path), "--page", str(page), *words])
    assert ended.value.code == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert list(found) == NAMES
    assert {"ours_s", "peer_s", "ratio", "ours_peak_bytes", "peer_peak_bytes"} <= set(
        found["state_sweep"]
    )
    printed, written = capsys.readouterr().out, page.read_text()
    assert f"| {found['total_effect']['ratio']:.3g} |" in printed
    assert printed.strip() in written
    assert "old" not in written
    assert (written[:7], written[-6:]) == ("before\n", "after\n")


def test_a_page_without_a_place_for_the_table_is_refused_before_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "load_model", lambda *names, **options: pytest.fail("work began"))
    page = tmp_path / "page.md"
    for text, words in ((None, "No such file"), ("no marks\n", "0 times")):
        if text:
            page.write_text(text)
        with pytest.raises(SystemExit) as ended:
            speed.main(["--out", str(tmp_path), "--page", str(page)])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
