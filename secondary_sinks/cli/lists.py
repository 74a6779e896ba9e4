"""Output of `questions` and `edits`, printed from the tables that the code uses."""

from secondary_sinks.cli.output import say
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.types import EDIT_KINDS, SITES


def show_questions() -> None:
    """Print one line per causal question."""
    _show([(question.name, question.asks) for question in QUESTIONS])


def show_edits() -> None:
    """Print one line per kind of edit, then one per site."""
    _show([(kind.label, f"{kind.becomes}; at {', '.join(kind.sites)}") for kind in EDIT_KINDS])
    say("")
    _show([(site.name, site.meaning) for site in SITES])


def _show(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, words in rows:
        say(f"{name:{width}}  {words}")
