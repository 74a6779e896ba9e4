"""Files that exist complete or not at all, even after a power failure."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError

PART = ".part-"
"""Prefix of the names of half-written files."""
LOCK = f"{PART}lock"
"""Lock file held by the process that writes to a run folder."""


@contextlib.contextmanager
def locked(lock: Path, place: Path) -> Iterator[None]:
    """Hold a lock file while the context lasts, and remove it at the end.

    Raises `RunFolderError` if another process holds it, or if it cannot be written.
    """
    files.refuse_special(lock)
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout as error:
        raise RunFolderError(
            f"another run is writing to {str(place)!r}", "wait, or choose another --out"
        ) from error
    except OSError as error:
        raise unwritable(place, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        held.release()


def write(path: Path, content: bytes) -> None:
    """Write bytes atomically; see `fill`."""
    fill(path, lambda part: part.write_bytes(content))


def fill(path: Path, make: Callable[[Path], Any]) -> None:
    """Let `make` write a temporary file, flush it, rename it to `path`, and flush the folder.

    Raises `SpecialFileError` if something other than a regular file is at `path`, and
    `RunFolderError` when the disk is full or the folder cannot be written.
    """
    part = path.with_name(f"{PART}{os.getpid()}-{path.name}")
    for place in (path, part):
        files.refuse_special(place)
    try:
        make(part)
        with files.open_file(part) as file:
            os.fsync(file.fileno())
        files.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def append(path: Path, line: bytes) -> None:
    """Append a line to a file and flush it to disk; if that fails, restore the file as it was."""
    files.refuse_special(path)
    new = not path.exists()
    try:
        with files.open_file(path, "ab") as file:
            before = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink() if new else os.truncate(path, before)
                raise
        if before == 0:
            sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of a folder to disk, where the system supports it."""
    with contextlib.suppress(OSError):  # not on Windows
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises `RunFolderError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """The error for a file that cannot be written."""
    return RunFolderError(
        f"{str(path)!r} cannot be written: {error.strerror or error}",
        "make room for it and run the same command again, or choose another --out",
    )
