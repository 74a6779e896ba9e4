"""Opening, copying and renaming of files: regular files only.

Reading a pipe could wait forever, reading a device never ends, and renaming over a device replaces
it. Both are refused, by name. `tests/test_files.py` checks that no other code opens or renames.
"""

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
    return next((name for name, matches in _KINDS.items() if matches(mode)), "no regular file")
