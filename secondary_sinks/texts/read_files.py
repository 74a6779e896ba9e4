"""Read texts from files. Errors name the file and line, before any model is loaded."""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import TextError
from secondary_sinks.texts.limits import check_bytes, check_lengths, split_json_lines
from secondary_sinks.texts.records import load_object, parse_record, plain_text
from secondary_sinks.texts.text import Text

PREFIX = "bundled:"
CORPORA: Mapping[str, str] = {"introduction": "corpus.jsonl", "claims": "claims.jsonl"}
"""Corpora of texts and their files: ten short ones for a first run, 33 longer ones for claims."""
PROMPTS: Mapping[str, str] = {"prompts": "prompts.jsonl"}
"""Prompts for `generate`."""
QUESTIONS: Mapping[str, str] = {"questions": "questions.jsonl"}
"""Questions with answers, for `read_questions`."""


def check_path(path: Any) -> None:
    """Raise `TextError` for what names no file."""
    if not isinstance(path, str | os.PathLike):
        raise TextError(f"expected the path of a file, got {path!r:.60}")


def bundled_name(path: Any) -> str | None:
    """The NAME in `bundled:NAME`; None for any other path. Raises `TextError` for what is no path.

    >>> bundled_name("bundled:claims")
    'claims'
    """
    check_path(path)
    path = str(path)
    return path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def read_bundled(name: str, known: Mapping[str, str]) -> str:
    """The content of a bundled file. Raises `TextError` for a name that is not `known`."""
    if not isinstance(name, str) or name not in known:
        raise TextError(
            f"no bundled file has the name {name!r:.60}",
            f"expected {' or '.join(PREFIX + one for one in known)}",
        )
    resource = resources.files("secondary_sinks.texts") / known[name]
    return resource.read_text(encoding="utf-8")


def bundled_corpus(name: str = "introduction") -> list[Text]:
    """Texts that come with the package.

    * "introduction": ten short texts for first runs and tests.
    * "claims": 33 texts of 900 to 1,800 tokens, half raw and half chats, no two of which begin
      alike: each chat has a system message of its own.

    Prompts for `generate` ("bundled:prompts") and questions ("bundled:questions") are not read by
    this function. Raises `TextError` for another name.
    """
    return parse_jsonl(read_bundled(name, CORPORA), PREFIX + name)


def read_texts(path: str | Path) -> list[Text]:
    """Texts of a `.txt` file (one text), of JSON lines (one text per line), or of a data set.

    A JSON line has `text`, or `prompt` and `output`, or `messages`; `id` is optional, as is
    what `generate` adds. Other keys, such as `source`, are not fed, and a warning says so; keys
    that may hold content, such as `system`, are refused. `hf:NAME:split:column` reads a column of a
    data set, and `bundled:NAME` is `bundled_corpus(NAME)`. Raises `TextError` that names the file,
    the line and the problem.
    """
    bundled = bundled_name(path)
    if bundled is not None:
        return bundled_corpus(bundled)
    if str(path).startswith("hf:"):
        from secondary_sinks.texts.data_sets import read_data_set

        return read_data_set(str(path))
    path = Path(path)
    content = read_utf8(path, "JSON lines or a .txt file")
    if path.suffix == ".txt":
        if "\0" in content:
            place = content.index("\0")
            raise TextError(
                f"{str(path)!r} is not text: character {place} is NUL; save it as UTF-8"
            )
        name = path.stem.encode(errors="backslashreplace").decode()
        return check_lengths([plain_text(content, name, str(path))], str(path))
    return parse_jsonl(content, str(path))


def read_utf8(path: str | Path, expected: str) -> str:
    """The content of a UTF-8 file. Raises `TextError`, which says what was `expected`."""
    check_path(path)
    path = Path(path)
    try:
        if not path.is_file():
            raise TextError(f"{str(path)!r} is not a file", f"expected {expected}")
        check_bytes(path)
        return files.read_bytes(path).decode("utf-8-sig")  # line ends stay as they are
    except UnicodeDecodeError as error:
        raise TextError(
            f"{str(path)!r} is not UTF-8 text (byte {error.start})", "save the file as UTF-8"
        ) from error
    except OSError as error:
        raise TextError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def parse_jsonl(content: str, name: str) -> list[Text]:
    """Texts from JSON lines; blank lines are skipped. Raises `TextError`, also for repeated ids."""
    texts: dict[str, Text] = {}
    for number, line in enumerate(split_json_lines(content, name), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        record = load_object(line, where)
        text_id = record.get("id", f"line-{number}")
        of_kind = isinstance(text_id, str | int) and not isinstance(text_id, bool)
        if not of_kind or not str(text_id).strip():
            raise TextError(f"{where}: id must be a string, got {text_id!r}")
        text = parse_record(record, str(text_id), where)
        if text.text_id in texts:
            before = texts[text.text_id].place
            raise TextError(f"{text.place}: id {text.text_id!r} was used before, at {before}")
        texts[text.text_id] = text
    if not texts:
        raise TextError(f"{name!r} holds no texts", "expected at least one JSON line")
    return check_lengths(list(texts.values()), name)
