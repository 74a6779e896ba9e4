"""Opening, copying and renaming of files: regular files only.

Reading a pipe could wait forever, reading a device never ends, and renaming over a device replaces
it. Both are refused, by name. `tests/test_files.py` checks that no other code opens or renames.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from secondary_sinks.errors import LargeFileError, SpecialFileError

MOST_BYTES = 1 << 28
"""Of a file that is read as a whole; files of texts, the largest of them, have less."""
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


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file. Raises as `open_file`, and `LargeFileError` (an `OSError`)."""
    with open_file(path) as file:
        _refuse_large(file, path, most)
        return bytes(file.read())


def read_text(path: str | Path, encoding: str = "utf-8", most: int = MOST_BYTES) -> str:
    """The text of a file, its line ends as `\\n`. Raises as `read_bytes`, and `ValueError`."""
    with open_file(path, "r", encoding) as file:
        _refuse_large(file, path, most)
        return str(file.read())


def load_json(content: str | bytes, **options: Any) -> Any:
    """The data of JSON, as `json.loads`, but an object has each key once.

    Raises `ValueError` for a repeated key, since it is unclear which value was meant, and for
    data nested too deeply to be read.

    >>> load_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: key 'a' appears twice in one object; give it once
    """
    try:
        return json.loads(content, object_pairs_hook=_each_once, **options)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def replace(source: Path, target: Path) -> None:
    """Rename a file; an existing regular file at `target` is replaced. Raises `OSError`."""
    refuse_special(source)
    refuse_special(target)
    source.replace(target)


def copy(source: Path, target: Path) -> None:
    """Copy the content of a file; an existing regular file at `target` is overwritten."""
    with open_file(source) as old, open_file(target, "wb") as new:
        while block := old.read(_BLOCK):
            new.write(block)


def refuse_special(path: Path) -> None:
    """Raise `SpecialFileError` if something other than a regular file is at the path.

    Symbolic links are followed; a dangling link is refused too.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or nothing that could be opened
        if os.path.islink(path):  # noqa: PTH114  never raises
            raise SpecialFileError(path, "a symbolic link that leads nowhere") from None
        return
    if not stat.S_ISREG(mode):
        raise SpecialFileError(path, _kind(mode))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.60} appears twice in one object; give it once")
        found[key] = value
    return found


def _refuse_large(file: IO[Any], path: str | Path, most: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise LargeFileError(Path(path), size, most)


def _opener(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe, then check what was opened."""
    refuse_special(Path(path))
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):  # put there between the two calls
        os.close(handle)
        raise SpecialFileError(Path(path), _kind(mode))
    return handle


def _kind(mode: int) -> str:
    return next((name for name, matches in _KINDS.items() if matches(mode)), "not a regular file")


def sha256_of_json(content: Any) -> str:
    """SHA-256 of plain data, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Plain data with its SHA-256 as the first key, so that a later change is noticed.

    >>> unseal(seal({"a": 1}))
    {'a': 1}
    """
    return {"sha256": sha256_of_json(content)} | content


def unseal(content: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """What `seal` was given. Raises `ValueError` if it was changed since.

    What was never sealed is returned as it is, or counts as changed where a seal is `required`.
    """
    plain = dict(content)
    sha256 = plain.pop("sha256", None)
    if sha256 != sha256_of_json(plain) and (required or sha256 is not None):
        raise ValueError("its content does not match its sha256")
    return plain


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits. Raises `OSError`."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
