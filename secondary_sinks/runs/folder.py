"""A run folder on disk: files are written completely or not at all, never silently overwritten."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.numbers import true_or_false
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.runs import durable, parquet
from secondary_sinks.runs.durable import LOCK, PART
from secondary_sinks.runs.plain import with_nan, without_nan

RECORD = "run.json"
WORK = "sweep"
"""Folder inside a run folder that holds all that a sweep needs to resume."""
TABLES = ("sinks", "effects", "trace", "roles")
SCHEMA = 1
ANSWERS = {question.name: question.tables for question in QUESTIONS}
"""Tables of the answer to each causal question; stored as `necessity.cells.parquet`, for
example."""
OWN = {RECORD, "report.html", *(f"{table}.parquet" for table in TABLES)}
State = tuple[int, ...]
"""What changes with a file: number, size and time."""
OWN |= {"circuit.parquet"}
OWN |= {f"{asked}.{table}.parquet" for asked, tables in ANSWERS.items() for table in tables}


class RunFolder:
    """The files of one run. Every file is written under a temporary name, then renamed.

    `run.json` is written last, so a folder that has one is complete.
    """

    def __init__(self, path: str | Path) -> None:
        """Name a folder; nothing is read or written yet."""
        if not isinstance(path, str | os.PathLike) or not str(path):
            raise RunFolderError(
                f"the folder is {path!r:.60}", "expected its path; . is the current folder"
            )
        if "\0" in str(path):
            raise RunFolderError(f"{str(path)!r} has a NUL in it", "expected the path of a folder")
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise RunFolderError(
                f"{str(path)!r} is not UTF-8", "expected a name of text"
            ) from error
        self.path = Path(path)
        self._written: list[Path] = []
        self._tables: dict[str, str] = {}
        self._named: tuple[State, dict[str, str]] = ((), {})
        self._genuine: dict[str, tuple[State, str]] = {}

    @contextlib.contextmanager
    def claim(self) -> Iterator["RunFolder"]:
        """Make the folder and lock it for this process while the context lasts.

        If the work inside fails, the files that it wrote are removed unless they form a complete
        run, and so are the folders that were made. Raises `RunFolderError` when the folder cannot
        be written, or when another process writes to it.
        """
        made = self._make()
        try:
            with durable.locked(self.path / LOCK, self.path):
                try:
                    yield self
                except BaseException:
                    for path in self._written:  # since the last complete run
                        path.unlink(missing_ok=True)
                    self._written.clear()
                    raise
        finally:
            with contextlib.suppress(OSError):  # a folder holds results; those around it do too
                for folder in made:
                    folder.rmdir()

    def check(self, *, force: bool = False) -> None:
        """Raise `RunFolderError` when the folder holds something that a run must not replace.

        With `force`, only files that no run wrote are refused.
        """
        found, force = self.contents(), true_or_false("force", force, RunFolderError)
        if found and not force:
            what = "a finished run of other inputs" if RECORD in found else f"{found[0]!r}"
            raise RunFolderError(
                f"{str(self.path)!r} is not empty (it holds {what})",
                "choose another --out, or use --force to replace the run in it",
            )
        if "sweep" in found:
            raise RunFolderError(
                f"{str(self.path)!r} holds a sweep, and --force does not delete its cells",
                "choose another --out",
            )
        foreign = [name for name in found if name not in OWN or not (self.path / name).is_file()]
        if foreign:
            raise RunFolderError(
                f"{str(self.path)!r} holds {foreign[0]!r}, which no run wrote",
                "--force replaces runs only, so choose another --out",
            )

    def prepare(self, *, force: bool = False) -> None:
        """Make the folder and empty it; `force` removes the run that it holds.

        Removes only files that runs write, `run.json` first, one by one; a folder that is a
        symbolic link stays one. Raises `RunFolderError` in the same cases as `check`.
        """
        self.check(force=force)
        self._make()
        self._tables.clear()
        halves = {item.name for item in self.path.glob(f"{PART}*") if item.is_file()} - {LOCK}
        for name in (RECORD, *self.contents(), *halves):
            (self.path / name).unlink(missing_ok=True)

    def contents(self) -> list[str]:
        """Names in the folder, half-written files left out."""
        try:
            names = sorted(item.name for item in self.path.iterdir())
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise self._blocked() from error
        except OSError as error:
            raise self._unwritable(error) from error
        return [name for name in names if not name.startswith(PART)]

    def _make(self) -> list[Path]:
        """Make the folder and return the folders that were made, innermost first."""
        try:
            if self.path.is_file():
                raise self._blocked()
            missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):  # fails in a read-only folder
                pass
        except OSError as error:
            raise self._unwritable(error) from error
        return missing

    def _blocked(self) -> RunFolderError:
        return RunFolderError(f"{str(self.path)!r} is a file, or below one", "expected a folder")

    def _unwritable(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"{str(self.path)!r} cannot be written: {error.strerror}", "choose another --out"
        )

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table as Parquet with page checksums."""
        content = parquet.to_bytes(name, frame)
        self._write(f"{name}.parquet", lambda part: part.write_bytes(content))
        self._tables[name] = hashlib.sha256(content).hexdigest()

    def write_record(self, record: dict[str, Any]) -> None:
        """Write `run.json`, with null for NaN; after this the run is complete.

        `tables` in the record gets the SHA-256 of the tables that `record` names and of those
        written here.
        """
        tables = {**record.get("tables", {}), **self._tables}
        plain = without_nan(record | {"schema": SCHEMA, "tables": tables})
        content = json.dumps(files.seal(plain), indent=2, ensure_ascii=False, allow_nan=False)
        self.write_text(RECORD, content + "\n")
        self._written.clear()

    def write_text(self, name: str, content: str) -> Path:
        """Write a text file and return its path."""
        return self._write(
            name, lambda part: part.write_text(content, encoding="utf-8", errors="backslashreplace")
        )

    def table(self, name: str) -> pd.DataFrame:
        """Read a table of the run.

        Raises `RunFolderError` when it is missing, damaged or not the one that `run.json` names.
        """
        path = self.path / f"{name}.parquet"
        files.refuse_special(path)
        if not path.is_file():
            raise RunFolderError(f"{str(self.path)!r} has no {path.name}", self._again(name))
        self._refuse_another(name, path)
        try:
            return parquet.read(path).to_pandas(ignore_metadata=True)
        except (OSError, ValueError, LookupError, TypeError, NotImplementedError) as error:
            raise self._damaged(path, error) from error

    def record(self) -> dict[str, Any]:
        """Read `run.json`. Raises `RunFolderError` when it is missing or damaged."""
        path = self.path / RECORD
        try:
            found = files.load_json(files.read_text(path))
        except OSError as error:
            raise RunFolderError(
                f"{str(self.path)!r} is not a run folder: it has no readable {RECORD} "
                f"({error.strerror})",
                "give the --out of a finished run",
            ) from error
        except ValueError as error:
            raise self._damaged(path, error) from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise RunFolderError(f"{str(path)!r} is not a record of schema {SCHEMA}", "run again")
        if found.get("sha256") is None:
            raise RunFolderError(
                f"{str(path)!r} has no sha256 of its content: it was changed, or is old",
                self._again(),
            )
        try:
            return with_nan(files.unseal(found))
        except ValueError as error:
            raise self._damaged(path, error) from error

    def _refuse_another(self, name: str, path: Path) -> None:
        """Raise `RunFolderError` for the table of another run; compared once per state of it."""
        named = self._hashes()
        expected = named.get(name, "")
        known = (_state(path), expected)
        if not named or self._genuine.get(name) == known:
            return
        if files.sha256_of(path) != expected:
            raise RunFolderError(
                f"{str(path)!r} is damaged, or of another run: it is not the table that "
                f"{RECORD} names",
                f"{self._again(name)}; secondary-sinks verify checks all files",
            )
        self._genuine[name] = known

    def _hashes(self) -> dict[str, str]:
        """SHA-256 of the tables by name, from `run.json` and of those written since."""
        path = self.path / RECORD
        state = _state(path) if self.has_record() else ()
        if state and self._named[0] != state:
            found = self.record().get("tables")
            self._named = (state, found if isinstance(found, dict) else {})
        return self._named[1] | self._tables if state else {}

    def has_record(self) -> bool:
        """Whether the folder holds a finished run, whatever its inputs.

        Raises `SpecialFileError` if `run.json` is not a regular file.
        """
        files.refuse_special(self.path / RECORD)
        return (self.path / RECORD).is_file()

    def _again(self, table: str = "") -> str:
        """How to restore a missing or damaged file."""
        if not (self.path / WORK).is_dir():
            return "run again with --force"
        without = " without --no-trace" if table == "trace" else ""
        return f"run its command again{without}, which restores it from stored cells"

    def _damaged(self, path: Path, error: Exception) -> RunFolderError:
        return RunFolderError(f"{str(path)!r} is damaged ({error})", self._again())

    def _write(self, name: str, write: Callable[[Path], Any]) -> Path:
        path = self.path / name
        durable.fill(path, write)
        self._written.append(path)
        return path


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
