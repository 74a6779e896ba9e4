"""The manifest of a sweep: which units are finished, in which shard, with its SHA-256.

A file of JSON lines to which lines are only added. Each line carries a hash of itself, so a line
torn by a kill or changed on disk is noticed and ignored; so is a shard whose bytes changed. What is
ignored is set aside and computed again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import durable
from secondary_sinks.runs.folder import WORK
from secondary_sinks.sweeps.entries import Entry, entry_of, line_of, parse
from secondary_sinks.sweeps.tasks import Outcome

SHARDS, DAMAGED, LINES = "shards", "damaged", "manifest.jsonl"
MOST_LINES, MOST_BYTES = 2_000_000, 1 << 32
"""Most lines of a manifest: one per text of each model, and one per interrupted start."""


class Manifest:
    """The manifest entries of a sweep folder, and its shards."""

    def __init__(self, folder: Path) -> None:
        """Name the run folder; nothing is read or written yet."""
        self.work = folder / WORK
        self.shards = self.work / SHARDS
        self.path = self.work / LINES
        self.entries: list[Entry] = []

    def read(self) -> list[str]:
        """Read the entries; returns complaints about ignored lines. Changes nothing.

        Raises `RunFolderError` for a manifest of another schema.
        """
        self.entries, damaged = [], []
        for number, line in enumerate(self._lines(), start=1):
            entry = parse(line)
            if entry is None:
                damaged.append(number)
            else:
                self.entries.append(entry)
        return [_damaged(first, last) for first, last in _spans(damaged)]

    def check(self) -> list[str]:
        """`read`, then verify every shard; returns complaints about all that is ignored.

        Entries with a damaged shard are left out. Changes nothing on the disk.
        """
        complaints, good = self.read(), []
        for entry in self.entries:
            wrong = list(self._wrong(entry))
            complaints += [f"shard {name} is {what}" for name, what in wrong]
            if not wrong:
                good.append(entry)
        self.entries = good
        return complaints

    def repair(self) -> list[str]:
        """`check`, then set aside everything that is ignored, so that it is computed again.

        Call with the folder claimed. Also removes what killed processes left: half-written files,
        and shards that no line mentions.
        """
        self.remove_parts()
        complaints = self.check()
        kept = {shard["name"] for entry in self.entries for shard in entry.shards.values()}
        rest = [path for path in sorted(self.shards.glob("*.parquet")) if path.name not in kept]
        if complaints:
            self._set_aside(rest)
        else:
            _remove(rest)
        return complaints

    def remove_parts(self) -> None:
        """Remove half-written files of killed processes. Call with the folder claimed."""
        for place in (self.work.parent, self.work, self.shards):
            _remove(part for part in place.glob(f"{durable.PART}*") if part.name != durable.LOCK)

    def add(self, outcome: Outcome) -> Entry:
        """Write the shards of an outcome, then its line; after this the task is done."""
        entry = entry_of(outcome)
        for name in (self.work, self.shards):
            durable.make_folder(name)
        for table, shard in entry.shards.items():
            durable.write(self.shards / shard["name"], outcome.tables[table])
        self.put(entry)
        return entry

    def put(self, entry: Entry) -> None:
        """Write the line of an entry whose shards exist already."""
        durable.append(self.path, line_of(entry))
        self.entries.append(entry)

    def done(self) -> dict[str, set[str]]:
        """Keys of finished units, by the key of their task."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.shards:
                found.setdefault(entry.task, set()).update(entry.units)
        return found

    def tables(self) -> dict[str, set[str]]:
        """Tables for which each task has shards, by the key of the task."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            found.setdefault(entry.task, set()).update(entry.shards)
        return found

    def path_of(self, entry: Entry, table: str) -> Path | None:
        """Path of an entry's shard for a table; None if it has none."""
        shard = entry.shards.get(table)
        return None if shard is None else self.shards / shard["name"]

    def _lines(self) -> list[bytes]:
        try:
            content = files.read_bytes(self.path, MOST_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunFolderError(
                f"{str(self.path)!r} cannot be read: {error.strerror}", "expected JSON lines"
            ) from error
        n_lines = content.count(b"\n")
        if n_lines > MOST_LINES:
            raise RunFolderError(
                f"{str(self.path)!r} has {n_lines:,} lines; expected at most {MOST_LINES:,}, one "
                "per text and start; remove it to recompute the sweep"
            )
        return content.splitlines(keepends=True)

    def _wrong(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """Names of the shards that differ from what was written, and how."""
        for shard in entry.shards.values():
            path = self.shards / shard["name"]
            try:
                if files.sha256_of(path) != shard["sha256"]:
                    yield shard["name"], "damaged (its sha256 is not that of the manifest)"
            except FileNotFoundError:
                yield shard["name"], "missing"
            except OSError as error:
                yield shard["name"], f"not readable ({error.strerror})"

    def _set_aside(self, shards: Sequence[Path]) -> None:
        """Move shards and the old manifest aside; write the valid lines anew."""
        aside = self.work / DAMAGED
        durable.make_folder(aside)
        number = len(list(aside.iterdir()))
        for path in shards:
            files.replace(path, aside / f"{number:04d}-{path.name}")
        durable.write(aside / f"{number:04d}-{LINES}", b"".join(self._lines()))
        durable.write(self.path, b"".join(map(line_of, self.entries)))


def _spans(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last number of each run of consecutive numbers.

    >>> list(_spans([1, 2, 3, 7]))
    [(1, 3), (7, 7)]
    """
    rows = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    for _, row in rows:
        found = [number for _, number in row]
        yield found[0], found[-1]


def _damaged(first: int, last: int) -> str:
    if first == last:
        return f"line {first} of {LINES} is damaged"
    return f"lines {first} to {last} of {LINES} are damaged"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
