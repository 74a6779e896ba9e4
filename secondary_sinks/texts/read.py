"""Files -> texts. Every fault is named with its line before any model is loaded."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from secondary_sinks.errors import TextError
from secondary_sinks.texts.sizes import check_bytes, json_lines, of_length

ROLES = ("system", "user", "assistant")
Message = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text as it was given: plain, or as messages of a conversation."""

    text_id: str
    plain: str | None = None
    messages: tuple[Message, ...] = ()

    @property
    def raw(self) -> str:
        """The text without roles: contents of the messages, separated by blank lines."""
        if self.plain is not None:
            return self.plain
        return "\n\n".join(message["content"] for message in self.messages)


def bundled_corpus() -> list[Text]:
    """The texts that come with the package."""
    resource = resources.files("secondary_sinks.texts") / "corpus.jsonl"
    return parse_jsonl(resource.read_text(encoding="utf-8"), "corpus.jsonl")


def read_texts(path: str | Path) -> list[Text]:
    """Texts of a `.txt` file (one text) or a file of JSON lines (one text a line).

    `hf:NAME:split:column` reads a data set (`data_sets`).
    A line holds `text`, or `prompt` and `output`, or `messages`; an `id` is optional.
    Raises `TextError` that names the file, the line and what is wrong with it.
    """
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
        return of_length([plain_text(content, name, str(path))], str(path))
    return parse_jsonl(content, str(path))


def read_utf8(path: Path, expected: str) -> str:
    """The content of a text file. Raises `TextError` that says what was expected."""
    try:
        if not path.is_file():
            raise TextError(f"{str(path)!r} is not a file; expected {expected}")
        check_bytes(path)
        with path.open(encoding="utf-8-sig", newline="") as file:  # line ends stay as they are
            return file.read()
    except UnicodeDecodeError as error:
        raise TextError(f"{str(path)!r} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise TextError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def parse_jsonl(content: str, name: str) -> list[Text]:
    """Texts from JSON lines; blank lines are skipped, ids must differ."""
    texts: dict[str, Text] = {}
    for number, line in enumerate(json_lines(content, name), start=1):
        if not line.strip():
            continue
        text = _parse_line(line, number, f"{name}:{number}")
        if _has_surrogates(text.text_id + text.raw):
            raise TextError(f"{name}:{number}: half a surrogate pair; expected whole characters")
        if text.text_id in texts:
            raise TextError(f"{name}:{number}: id {text.text_id!r} was used before")
        texts[text.text_id] = text
    if not texts:
        raise TextError(f"{name!r} holds no texts; expected at least one JSON line")
    return of_length(list(texts.values()), name)


def _has_surrogates(content: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in content)


def _parse_line(line: str, number: int, where: str) -> Text:
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{where}: broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise TextError(f"{where}: expected a JSON object, got {type(record).__name__}")
    text_id = record.get("id", f"line-{number}")
    if not isinstance(text_id, str | int) or not str(text_id).strip():
        raise TextError(f"{where}: id must be a string, got {text_id!r}")
    return _from_record(record, str(text_id), where)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _from_record(record: dict[str, Any], text_id: str, where: str) -> Text:
    if "messages" in record:
        return Text(text_id=text_id, messages=_messages(record["messages"], where))
    if "prompt" in record and "output" in record:
        turns = [
            {"role": "user", "content": record["prompt"]},
            {"role": "assistant", "content": record["output"]},
        ]
        return Text(text_id=text_id, messages=_messages(turns, where))
    if "text" in record:
        return plain_text(record["text"], text_id, where)
    raise TextError(
        f"{where}: expected 'text', or 'prompt' and 'output', or 'messages'; "
        f"got {sorted(record)[:6]}"
    )


def plain_text(content: Any, text_id: str, where: str) -> Text:
    """A plain text. Raises `TextError` that says where an empty one stands."""
    if not isinstance(content, str) or not content.strip():
        raise TextError(f"{where}: the text is empty; expected a string with at least two tokens")
    return Text(text_id=text_id, plain=content)


def _messages(turns: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise TextError(f"{where}: 'messages' must be a list with at least one message")
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise TextError(f"{where}: each message needs a role, one of {', '.join(ROLES)}")
        if not isinstance(turn.get("content"), str) or not turn["content"].strip():
            raise TextError(f"{where}: the content of a message is empty or no string")
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in turns)
