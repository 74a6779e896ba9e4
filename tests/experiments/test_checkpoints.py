"""Secondary sinks by checkpoint: planted models of one shape, and local folders."""

import gc
import json
import weakref

import pandas as pd
import plotly.io
import pytest

from experiments import checkpoints
from experiments.checkpoints import main, named, run
from experiments.shared import observe_texts
from secondary_sinks.errors import ModelError
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import exhaustive
from tests.tiny import save_tiny

LATE = Plant(pos=20, forming=(3,))


def forget(layer):
    """A change of a planted model: the MLP of this layer has not learned its neuron yet."""

    def change(model):
        model.blocks[layer].mlp.W_out.data[1] = 0

    return change


def trained(n_texts=7):
    """Two checkpoints before the sink is learned, and two after."""
    for step in (0, 1000, 2000, 3000):
        change = forget(3) if step < 2000 else None
        yield f"planted@step{step}", planted(LATE, n_texts=n_texts, change=change)


def test_sinks_that_are_learned_are_found_where_they_arise():
    finding = run(trained())
    rates = finding.tables["rates"]
    assert rates["checkpoint"].tolist() == [f"planted@step{n}" for n in (0, 1000, 2000, 3000)]
    per_10k = 1e4 / 64  # one sink in each text of 64 tokens
    assert rates["value"].tolist() == pytest.approx([0, 0, per_10k, per_10k])
    assert (finding.frame["n_primary"] == 1).all(), "the primary is there from the start"
    assert finding.verdict.outcome == "supported"
    assert "step1000: 0, planted@step2000: 156" in finding.verdict.why
    assert "7 of 7 texts have a primary at both checkpoints" in finding.verdict.why
    dots = finding.figure.data[0]
    assert list(dots.x) == rates["value"].tolist()


def test_training_that_changes_nothing_or_forgets_is_not_said_to_make_sinks():
    first, *_, last = trained()
    assert run([last, ("again", last[1])]).verdict.outcome == "inconclusive"
    assert run([last, first]).verdict.outcome == "contradicted"
    assert run([first, ("again", first[1])]).verdict.why == "no checkpoint has a secondary sink"
    before, *_, after = trained(n_texts=3)
    assert run([before, after]).verdict.why.startswith("only 3 sinks in 3 texts")


def no_primary(model):
    """A change: nothing is learned yet, neither the primary nor what could be secondary to it."""
    for layer, neuron in ((1, 0), (3, 1)):
        model.blocks[layer].mlp.W_out.data[neuron] = 0


def test_a_checkpoint_without_a_primary_has_no_secondary_sinks_by_definition_alone():
    """The last checkpoint has all of them, so a plain count would be supported."""
    never, first, *_, last = [("never", planted(LATE, n_texts=7, change=no_primary)), *trained()]
    finding = run([never, last])
    assert finding.frame.groupby("checkpoint")["n_primary"].sum().to_dict()["never"] == 0
    assert finding.frame.groupby("checkpoint")["n_sinks"].sum().to_dict()[last[0]] == 7
    assert finding.verdict.outcome == "inconclusive"
    words = "7 in texts without a primary at the first checkpoint"
    assert words in finding.verdict.why
    assert finding.verdict.controls.endswith(f"left out: {words}")
    back = run([last, never]).verdict
    assert (back.outcome, back.n_texts) == ("inconclusive", 0)
    assert "7 in texts with one at the first checkpoint alone" in back.why
    assert run([never, first, last]).verdict.n_texts == 0, "the first of all is compared"


def test_other_tokens_of_a_text_are_refused():
    (name, one), other = next(trained(2)), planted(LATE, Plant(pos=30, forming=(2,)), n_texts=2)
    with pytest.raises(ModelError, match="'b' has other tokens for text 't0' than the first"):
        run([(name, one), ("b", other)])


@pytest.mark.parametrize(
    ("models", "revisions", "words"),
    [
        (["a"], None, "got 1 checkpoint: a; expected several models"),
        (["a"], "x", "got 1 checkpoint: a@x"),
        (["a", "b"], "x,y", "--revision is for one model"),
        (["a"], "x,,y", "has an empty item"),
        (["a"], "x,x", "--revision has 'x' twice"),
        (["a", "a"], None, "the list of checkpoints has 'a' twice"),
    ],
)
def test_what_is_no_list_of_checkpoints_is_refused(models, revisions, words):
    with pytest.raises(ModelError, match=words):
        named(models, revisions)


def test_folders_stand_for_checkpoints_in_the_order_given(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plotly.io, "write_images", lambda *where, **how: None)  # takes seconds
    steps = ["step9", "step10"]
    for seed, step in enumerate(steps):
        save_tiny(tmp_path / f"tiny@{step}", seed=seed)
    texts = tmp_path / "texts.txt"
    texts.write_text("The quick brown fox jumps over the lazy dog. " * 3)
    words = [str(tmp_path / "tiny"), "--revision", ",".join(steps), "--texts", str(texts)]
    models = []

    def alone(*given, **options):
        gc.collect()
        assert not any(model() for model in models), "one model is in memory at a time"
        found = observe_texts(*given, **options)
        models.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(checkpoints, "observe_texts", alone)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 0
    assert "no checkpoint has a secondary sink" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "verdict.json").read_text())
    hashes = [one["model"]["weights_sha256"] for one in record["provenance"]["checkpoints"]]
    assert len(set(hashes)) == 2
    assert pd.read_csv(tmp_path / "out" / "data.csv")["checkpoint"].is_monotonic_decreasing


@exhaustive
def test_a_finding_of_other_checkpoints_is_replaced_by_force_only(tmp_path, capsys):
    for name in ("a", "b", "c"):
        save_tiny(tmp_path / name)
    texts = tmp_path / "t.jsonl"
    texts.write_text(json.dumps({"text": "The quick brown fox jumps over the lazy dog. " * 3}))

    def call(*words):
        given = [*words, "--texts", str(texts), "--device", "cpu", "--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as stopped:
            main(given)
        return stopped.value.code, capsys.readouterr().err

    models = [str(tmp_path / name) for name in "abc"]
    assert call(*models[:2])[0] == 0
    code, error = call(*models[1:])
    assert code == 2
    assert "holds a finding of other inputs: asked was" in error
    texts.write_text(json.dumps({"text": "The slow brown fox jumps over the lazy dog. " * 3}))
    code, error = call(*models[:2])
    assert (code, "texts as fed: 'line-1' was" in error) == (2, True)
    assert call(*models[1:], "--force")[0] == 0


def test_a_last_checkpoint_that_is_nowhere_is_refused_before_the_first_is_loaded(tmp_path, capsys):
    save_tiny(tmp_path / "tiny")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "tiny"), "nowhere-at-all", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "nowhere-at-all" in said.err
    assert "checkpoint 1" not in said.out


def test_a_folder_without_revisions_says_so(tmp_path, capsys):
    save_tiny(tmp_path / "tiny")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "tiny"), "--revision", "a,b", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "has no revisions, but 'a' was asked for" in capsys.readouterr().err
