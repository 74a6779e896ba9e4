"""Read several files as one list of texts with distinct ids."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from secondary_sinks.errors import TextError
from secondary_sinks.numbers import whole_number
from secondary_sinks.texts.limits import check_lengths
from secondary_sinks.texts.read_files import bundled_corpus, check_path, read_texts
from secondary_sinks.texts.records import plain_text
from secondary_sinks.texts.text import Text

INLINE = "text:"
"""Begins the text itself where a path could stand."""


def read_many(
    paths: Sequence[str], limit: int | None = None, max_tokens: int | None = None
) -> list[Text]:
    """Texts of several files; those of `bundled:introduction` if no file is given.

    `text:` and a text stands for the text itself; these are called "text 1", "text 2" and so on,
    from 1 (positions and layers count from 0).
    `limit` keeps the first texts, `max_tokens` the first tokens of each text. An id that occurs in
    several files gets the name of its file as a prefix, or the path if file names are equal too.
    Raises `TextError` for a file that cannot be read, for a file that is given twice, and for the
    same text under the same id in two files.
    """
    if isinstance(paths, str | os.PathLike):
        raise TextError(
            f"paths is {paths!r:.60}, one path", f"expected a list, as in [{paths!r:.60}]"
        )
    if not isinstance(paths, list | tuple):
        raise TextError(f"paths is {paths!r:.60}", "expected a list of paths")
    for path in paths:
        check_path(path)
    if limit is not None:
        limit = whole_number("limit", limit, TextError, 1)
    texts = _read_all([*map(str, paths)]) if paths else bundled_corpus()
    return [replace(text, first=max_tokens) for text in texts[:limit]]


def _read_all(paths: Sequence[str]) -> list[Text]:
    _refuse_same_file(paths)
    inline = [path for path in paths if path.startswith(INLINE)]
    files = [
        (path, [_inline(path, inline.index(path) + 1)] if path in inline else read_texts(path))
        for path in paths
    ]
    _refuse_same_text(text for _, texts in files for text in texts)
    uses = Counter(text.text_id for _, texts in files for text in texts)
    names = Counter(_name(path) for path in paths)
    found = []
    for path, texts in files:
        prefix = _name(path) if names[_name(path)] == 1 else _printable(path)
        for text in texts:
            named = f"{prefix}:{text.text_id}" if uses[text.text_id] > 1 else text.text_id
            found.append(replace(text, text_id=named))
    refuse_same_ids(found)
    return found


def _inline(path: str, number: int) -> Text:
    name = f"text {number}"
    where = f"--text {number} (counted from 1)"
    return check_lengths([plain_text(path.removeprefix(INLINE), name, where)], where)[0]


def refuse_same_ids(texts: Iterable[Any]) -> None:
    """Raise `TextError` for two texts with one id, with both places if they are known."""
    seen: dict[str, Any] = {}
    for text in texts:
        if text.text_id in seen:
            places = [getattr(one, "place", "") for one in (seen[text.text_id], text)]
            where = f": {places[0]!r} and {places[1]!r}" if all(places) else ""
            raise TextError(
                f"two texts have the id {text.text_id!r}{where}", "give each text an id of its own"
            )
        seen[text.text_id] = text


def _refuse_same_file(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        key = path if path.startswith(("hf:", INLINE)) else os.path.realpath(path)
        if key in seen:
            raise TextError(
                f"{seen[key]!r:.200} and {path!r:.200} are the same texts", "give them once"
            )
        seen[key] = path


def _refuse_same_text(texts: Iterable[Text]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for text in texts:
        key = (text.text_id, text.sha256)
        if key in seen:
            raise TextError(
                f"{seen[key]!r} and {text.place!r} are the same text, with the id {text.text_id!r}",
                "give it once, or two ids to have it counted twice",
            )
        seen[key] = text.place


def _name(path: str) -> str:
    return _printable(path if path.startswith(("hf:", INLINE)) else Path(path).name)


def _printable(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()
