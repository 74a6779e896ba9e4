"""Questions with right answers, and what counts as the answer in a text that a model wrote."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondary_sinks.errors import TextError
from secondary_sinks.numbers import true_or_false
from secondary_sinks.texts.data_sets import FORM, read_data_set
from secondary_sinks.texts.limits import split_json_lines
from secondary_sinks.texts.read_files import (
    QUESTIONS,
    bundled_name,
    parse_jsonl,
    read_bundled,
    read_utf8,
)
from secondary_sinks.texts.records import STORED, load_object, refuse_unknown
from secondary_sinks.texts.text import Text

MARK = "answer:"
EDGES = " \t\r\n.,;:!?\"'`*_()[]"
"""Characters that don't count at either end of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """A question to a model, with its right answer."""

    text: Text
    """The prompt."""
    answer: str


def read_questions(path: str | Path) -> list[AnsweredQuestion]:
    """Questions of JSON lines with `prompt` and `answer`, or of two columns of a data set.

    `id` is optional, as are the notes `kind`, `title` and `notes`. `hf:NAME:split:PROMPT,ANSWER`
    names the columns, `bundled:questions` the 30 questions that come with the package. Raises
    `TextError` that names the file, the line and the problem: no prompt, no answer, one of only
    white space or punctuation, an unknown key, an id given twice.
    """
    bundled, name = bundled_name(path), str(path)
    if name.startswith("hf:"):
        return _of_data_set(name)
    if bundled is not None:
        return _parse(read_bundled(bundled, QUESTIONS), name)
    return _parse(read_utf8(Path(path), "JSON lines with prompt and answer"), name)


def _parse(content: str, name: str) -> list[AnsweredQuestion]:
    rows = [
        _row(line, f"{name}:{number}") if line.strip() else ("", "")
        for number, line in enumerate(split_json_lines(content, name), start=1)
    ]
    texts = parse_jsonl("\n".join(line for line, _ in rows), name)
    answers = [answer for _, answer in rows if answer]
    return [AnsweredQuestion(text=t, answer=a) for t, a in zip(texts, answers, strict=True)]


def _row(line: str, where: str) -> tuple[str, str]:
    """A line as the line of a text, and its answer."""
    record = load_object(line, where)
    for key in ("prompt", "answer"):
        if key not in record:
            raise TextError(f"{where}: no {key!r}", "expected 'prompt' and 'answer'")
    for key in ("text", "messages", "output", STORED):
        if key in record:
            raise TextError(f"{where}: {key!r} next to 'prompt'", "expected only 'prompt'")
    refuse_unknown(record, ("prompt", "answer"), where)
    own = {"id": record["id"]} if "id" in record else {}
    return json.dumps({**own, "text": record["prompt"]}), _checked(record["answer"], where)


def _of_data_set(name: str) -> list[AnsweredQuestion]:
    parts = FORM.fullmatch(name)
    columns = parts[3].split(",") if parts else []
    if parts is None or len(columns) != 2:
        raise TextError(f"expected hf:NAME:split:PROMPT,ANSWER, got {name!r}")
    texts, answers = (read_data_set(f"hf:{parts[1]}:{parts[2]}:{column}") for column in columns)
    return [
        AnsweredQuestion(text=text, answer=_checked(answer.plain, f"{name} {answer.text_id}"))
        for text, answer in zip(texts, answers, strict=True)
    ]


def _checked(answer: Any, where: str) -> str:
    """The answer as a string. Raises `TextError` for one that no text could hold."""
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        raise TextError(
            f"{where}: the answer is {answer!r:.60}", "expected a string or a whole number"
        )
    if not normalised(str(answer)):
        raise TextError(f"{where}: the answer is {answer!r:.60}", "expected a letter or a digit")
    return str(answer)


def answer_in(written: str) -> str:
    """What counts as the answer: what follows the last "Answer:", else the last line.

    Blank lines don't count, and of what follows "Answer:" only the first line does.

    >>> answer_in("3 + 4 = 7\\n\\n**Answer:** 7.\\n"), answer_in("I think:\\nParis\\n")
    ('** 7.', 'Paris')
    """
    *_, said = re.split(MARK, written, flags=re.IGNORECASE)
    lines = [line for line in said.splitlines() if line.strip(EDGES)] or [""]
    return lines[-1 if said == written else 0]


def normalised(answer: str) -> str:
    """An answer without case, punctuation at its ends, repeated spaces and commas in numbers.

    >>> normalised("** 1,200  Metres."), normalised(" paris!")
    ('1200 metres', 'paris')
    """
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", answer.casefold())
    return " ".join(plain.split()).strip(EDGES)


def is_right(written: str, answer: str, *, anywhere: bool = False) -> bool:
    """Whether what counts as the answer in a text is the right one, both `normalised`.

    With `anywhere`, whether the right one occurs in the text, as whole words or a whole number.

    >>> is_right("The sum is 12.\\nAnswer: 12", "12"), is_right("It is 12", "12")
    (True, False)
    >>> [is_right(text, "12", anywhere=True) for text in ("It is 12.", "It is 12.5", "It is 112")]
    [True, False, False]
    """
    right = normalised(_checked(answer, "is_right"))
    if not true_or_false("anywhere", anywhere, TextError):
        return normalised(answer_in(written)) == right
    whole = rf"(?<!\w)(?<!\d\.){re.escape(right)}(?!\w|\.\d)"
    return re.search(whole, normalised(written)) is not None
