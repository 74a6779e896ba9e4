"""The table of causal questions, used by runs, reports, cost estimates and the command line."""

from collections.abc import Iterable

from secondary_sinks.display import markdown_table
from secondary_sinks.questions.circuit.circuit import CIRCUIT
from secondary_sinks.questions.dose import NORM_DOSE
from secondary_sinks.questions.harm import HARM
from secondary_sinks.questions.matched_pairs import match_pairs
from secondary_sinks.questions.necessity import NECESSITY
from secondary_sinks.questions.question import Cost, Sample
from secondary_sinks.questions.redistribution import REDISTRIBUTION
from secondary_sinks.questions.restoration import RESTORATION
from secondary_sinks.questions.run_claims import OWN_CLAIMS
from secondary_sinks.questions.sparsity import SPARSITY
from secondary_sinks.questions.sufficiency import SUFFICIENCY
from secondary_sinks.types import SinkTable, Trace

QUESTIONS = (
    NECESSITY,
    SUFFICIENCY,
    NORM_DOSE,
    REDISTRIBUTION,
    RESTORATION,
    SPARSITY,
    HARM,
    *CIRCUIT,
)
"""All questions, in the order in which they are run and reported."""
BY_NAME = {question.name: question for question in QUESTIONS}


def n_claims_of(questions: Iterable[str], sinks: SinkTable) -> int:
    """Number of claims that the answers to `questions` make together, at least 1.

    If each question gets this number as `n_claims`, all their intervals hold together at 95 %
    (Bonferroni's union bound). `questions` are names of questions and of a run's own claims
    (`OWN_CLAIMS`).

    >>> n_claims_of(["sufficiency", "harm"], SinkTable(sinks=()))
    3
    """
    claims = {**OWN_CLAIMS} | {question.name: question.n_claims for question in QUESTIONS}
    return max(sum(claims[name](sinks) for name in questions), 1)


def costs(
    questions: Iterable[str], traces: Iterable[Trace], sinks: SinkTable, d_mlp: int
) -> list[Cost]:
    """Number of cells of each question, with its defaults, for these sinks."""
    texts = match_pairs(traces, sinks)
    n_layers = len(texts[0].trace.norm) if texts else 0
    sample = Sample(texts=texts, sinks=sinks, n_layers=n_layers, d_mlp=d_mlp)
    return [BY_NAME[name].cost_of(sample) for name in questions]


def as_markdown() -> list[str]:
    """The questions as a Markdown table."""
    rows = [
        (f"`{one.name}`", one.asks, ", ".join(f"`{table}`" for table in one.tables))
        for one in QUESTIONS
    ]
    return markdown_table(["question", "asks", "tables of its answer"], rows)
