"""Questions asked of a run, with it and after it."""

from secondary_sinks.runs import RunFolder


def test_questions_are_priced_answered_and_kept(call, tmp_path):
    code, printed, error = call("run", "--ask", "harm,necessity")
    assert (code, error) == (0, "")
    assert printed.index("ask necessity: nothing") < printed.index(
        "Is this the paper's phenomenon?"
    )
    assert "removing the removable sinks other than the primary raises" in " ".join(printed.split())
    record = RunFolder(tmp_path / "out").record()
    assert [told["question"] for told in record["answers"]] == ["necessity", "harm"]
    assert "--ask necessity,harm" in record["command"]
    assert set(record["timings_s"]) >= {"observe", "necessity", "harm"}


def test_questions_are_added_to_a_finished_run_of_the_same_inputs(call, tmp_path):
    assert call("run", "--ask", "harm")[0] == 0
    folder = RunFolder(tmp_path / "out")
    sinks, before = (tmp_path / "out" / "sinks.parquet").read_bytes(), folder.record()
    code, printed, error = call("run", "--ask", "necessity")
    assert (code, error) == (0, "")
    assert "ask necessity" in printed
    assert "ask harm" not in printed, "what is answered is not asked again"
    record = folder.record()
    assert [told["question"] for told in record["answers"]] == ["necessity", "harm"]
    assert record["answers"][1] == before["answers"][0]
    assert record["verdicts"] == before["verdicts"]
    assert "--ask necessity,harm" in record["command"]
    assert (tmp_path / "out" / "sinks.parquet").read_bytes() == sinks
    assert "Which MLPs does a secondary sink need?" in (tmp_path / "out" / "report.html").read_text(
        "utf-8"
    )
    for asked in ("necessity,harm", "harm", "none"):
        assert "already holds this run" in call("run", "--ask", asked)[1], asked
    assert call("run", "--ask", "necessity", "--edit", "mean")[0] == 2, "these are other inputs"


def test_a_question_that_there_is_not_is_refused_before_any_work(call, tmp_path):
    code, _, error = call("run", "--ask", "harms")
    assert code == 2
    assert "expected all, none or some of circuit, necessity" in error
    assert not (tmp_path / "out").exists()
