"""Nothing that a token, a text's name or a model's name says reaches the terminal as an order."""

import pytest
import tokenizers
import transformers
from tokenizers.pre_tokenizers import WhitespaceSplit

from experiments.written import in_words
from secondary_sinks import sweeps
from secondary_sinks.cli import say
from secondary_sinks.cli.entry import run
from secondary_sinks.cli.show import show_found
from secondary_sinks.cli.watch import Watch, show_summary
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import ModelSpec, SweepConfig
from secondary_sinks.testing import Plant, plant
from secondary_sinks.texts import Text
from secondary_sinks.types import Verdict
from tests.cli.test_sweep_commands import Terminal
from tests.report.pages import verdict

ORDER = "\x1b[2J\x1b]0;mine\x07[red]\u202e\x9b31m"
"""Clears the screen, names the window, colours (for a terminal, for rich), turns the line round."""
NAME = ORDER + "../../../../x"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep of a model and a text of such names, whose every token is such an order."""
    place = tmp_path_factory.mktemp("hostile")
    planted = plant(
        [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=12, forming=(2,))],
        n_layers=4,
        n_pos=48,
    )
    words = {f"{ORDER}{n}": n for n in range(planted.model.cfg.d_vocab)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, f"{ORDER}0"))
    model.pre_tokenizer = WhitespaceSplit()
    planted.model.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model)
    planted.model.cfg.model_name = NAME
    content = " ".join(f"{ORDER}{number}" for number in planted.tokens.tolist())
    texts = [Text(text_id=NAME, plain=content), Text(text_id=ORDER, plain=f"{ORDER}1")]
    with Watch("text", place) as watch:
        config = SweepConfig(models=(ModelSpec(name=NAME),), edits=("zero", "mean"))
        given = {"models": {NAME: planted.model}, "texts": texts, "tell": watch.tell}
        summary = sweeps.sweep(config, place / "out", command=f"secondary-sinks {ORDER}", **given)
    assert [path.name for path in place.iterdir()] == ["out"], "no name leads elsewhere"
    return place / "out", summary


@pytest.fixture
def heard(capfd):
    """Assert that what was printed since then holds the order in sight, and never as itself."""

    def heard(*, named=True):
        printed = "".join(capfd.readouterr())
        assert not {char for char in ORDER if not char.isprintable()} & set(printed)
        assert ("\\x1b" in printed) == named
        return printed

    return heard


def test_a_sweep_and_its_summary(swept, heard):
    folder, summary = swept
    show_summary(summary, "text")
    show_found(RunFolder(folder))
    assert "[red]" in heard(), "no markup either"


@pytest.mark.parametrize(
    "words",
    [
        ["status", "{out}"],
        ["levels", "{out}"],
        ["levels", "{out}", "--json"],
        ["verify", "{out}"],
        ["export", "{out}", "--out", "{tmp}/\x1b[2J"],
        ["merge", "{out}", "--out", "{tmp}/\x1b[2J"],
        ["compare", "{out}", "--out", "{tmp}/\x1b[2J.html"],
        ["report", "{out}"],
        ["report", "{out}", "--model", ORDER],
    ],
    ids=lambda words: " ".join(words[:1] + words[2:3]),
)
def test_commands_about_a_folder(words, swept, heard, tmp_path):
    code = run([word.format(out=swept[0], tmp=tmp_path) for word in words])
    assert code == (2 if ORDER in words else 0)
    heard(named=words[0] not in {"levels", "verify"} and words != ["report", "{out}"])


def test_progress_of_a_run_and_of_a_sweep(monkeypatch, tmp_path):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    sizes = {"layers": 1, "texts": 1, "units": 1, "missing": 1}
    with Watch("text", tmp_path / ORDER) as watch:
        watch.tell("load", model=NAME, number=1, models=1)
        watch.tell("plan", model=ORDER, **sizes)
        watch.tell("stage", stage=ORDER, done=0, total=2)
        watch.tell("failed", text_id=ORDER, reason=ORDER)
    said = stream.getvalue()
    assert "\\x1b[2J" in said
    assert not any(order in said for order in ("\x1b[2J", "\x1b]0;mine", "\u202e", "\x9b31m"))


def test_verdicts_of_experiments(heard):
    say(in_words(Verdict(**verdict(claim=ORDER, why=ORDER))))
    heard()
