"""The tables of the documentation, written from the tables of the code.

    python -m tools.tables

A line `<!-- table: NAME -->` on a page of docs/ stands before a table that is made here.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments import table as experiments
from secondary_sinks import files
from secondary_sinks.questions import table as questions
from secondary_sinks.runs import columns
from secondary_sinks.types import edit_kinds, edit_sites, trace_measures

DOCS = Path(__file__).parents[1] / "docs"
MARK = re.compile(r"(<!-- table: ([\w ]+) -->\n\n)(?:\|.*\n)*")
TABLES: dict[str, Callable[[], list[str]]] = {
    "edit kinds": edit_kinds.kinds_as_markdown,
    "sites": edit_sites.sites_as_markdown,
    "questions": questions.as_markdown,
    "experiments that observe": partial(experiments.as_markdown, observes=True),
    "experiments that edit": partial(experiments.as_markdown, observes=False),
    "trace measures": trace_measures.as_markdown,
    **{f"columns of {name}": partial(columns.as_markdown, name) for name in columns.TABLES},
}


def fill_tables(page: str) -> str:
    """A page with its marked tables as the code has them. Raises `KeyError` for an unknown one.

    >>> fill_tables("<!-- table: sites -->\\n\\n| old |\\n").splitlines()[2]
    '| site | what is there |'
    """
    return MARK.sub(lambda found: found[1] + "\n".join(TABLES[found[2]]()) + "\n", page)


def main() -> None:
    """Write the tables of all pages."""
    for path in sorted(DOCS.glob("*.md")):
        old = files.read_text(path)
        new = fill_tables(old)
        if new != old:
            path.write_text(new, "utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
