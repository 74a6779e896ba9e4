"""Files that are there whole or not at all, also after the machine loses power."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError

PART = ".part-"
"""What the names of half-written files begin with."""
LOCK = f"{PART}lock"
"""Held by the process that writes to a run folder."""


def write(path: Path, content: bytes) -> None:
    """Write bytes as `fill` does."""
    fill(path, lambda part: part.write_bytes(content))


def fill(path: Path, make: Callable[[Path], Any]) -> None:
    """Let `make` write beside the place, flush, rename into the place, flush the folder.

    Raises `SpecialFileError` where there is something other than a regular file in the place, and
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
    """Add a line to a file and flush it to the disk; on failure the file is what it was before."""
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
    """Flush the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # not on Windows
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder. Raises `RunFolderError` where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content. Raises `OSError`."""
    digest = hashlib.sha256()
    with files.open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(content: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """The error of a file that cannot be written."""
    return RunFolderError(
        f"{str(path)!r} cannot be written: {error.strerror or error}",
        "make room for it and run the same command again, or choose another --out",
    )
