"""The one entrance to files: whatever is opened or renamed over is a regular file.

A pipe would be waited for without end, a device would be read without end or replaced by a file.
Both are refused by name. `tests/test_house.py` sees to it that nothing else opens or renames.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from secondary_sinks.errors import SpecialFileError

_BLOCK = 1 << 20
_KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": stat.S_ISDIR,
    "a FIFO (named pipe)": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a character device": stat.S_ISCHR,
    "a block device": stat.S_ISBLK,
}


def open_file(path: str | Path, mode: str = "rb", encoding: str | None = None) -> IO[Any]:
    """`open` for regular files.

    Raises `SpecialFileError` (an `OSError`) for anything else, at once, and `OSError` as `open`.
    """
    return open(path, mode, encoding=encoding, opener=_opener)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises as `open_file`."""
    with open_file(path) as file:
        return bytes(file.read())


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a file, its line ends as `\\n`. Raises as `open_file`, and `ValueError`."""
    with open_file(path, "r", encoding) as file:
        return str(file.read())


def load_json(content: str | bytes, **options: Any) -> Any:
    """The data of JSON, as `json.loads`, but an object has each key once.

    Raises `ValueError` for a key that stands twice: nobody can say which value was meant.

    >>> load_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: key 'a' stands twice in one object; give it once
    """
    return json.loads(content, object_pairs_hook=_each_once, **options)


def replace(source: Path, target: Path) -> None:
    """Rename a file to a place where there is a regular file or nothing. Raises `OSError`."""
    refuse_special(source)
    refuse_special(target)
    source.replace(target)


def copy(source: Path, target: Path) -> None:
    """Copy the content of a file to a place where there is a regular file or nothing."""
    with open_file(source) as old, open_file(target, "wb") as new:
        while block := old.read(_BLOCK):
            new.write(block)


def refuse_special(path: Path) -> None:
    """Raise `SpecialFileError` where there is something other than a regular file.

    A link counts as what it leads to; one that leads nowhere is refused too.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # there is nothing, or nothing that could be opened
        if os.path.islink(path):  # noqa: PTH114  never raises
            raise SpecialFileError(path, "a symbolic link that leads nowhere") from None
        return
    if not stat.S_ISREG(mode):
        raise SpecialFileError(path, _kind(mode))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.60} stands twice in one object; give it once")
        found[key] = value
    return found


def _opener(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe, and look at what was opened."""
    refuse_special(Path(path))
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):  # it was put there between the two calls
        os.close(handle)
        raise SpecialFileError(Path(path), _kind(mode))
    return handle


def _kind(mode: int) -> str:
    return next((name for name, is_it in _KINDS.items() if is_it(mode)), "no regular file")
