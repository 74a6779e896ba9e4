"""The manifest of a sweep: what is done, in which shard, with the SHA-256 of each.

A file of JSON lines that only grows. Each line carries a hash of itself: a line that was torn by a
kill, or changed on the disk, is noticed and no longer counts, and neither does a shard whose bytes
are not those that were written. What does not count is set aside and computed again.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import durable
from secondary_sinks.runs.keys import unit_key
from secondary_sinks.runs.tasks import Failure, Outcome, Unit

SCHEMA = 1
WORK = "sweep"
"""Folder, inside a run folder, of all that a sweep needs to go on."""
NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.(sinks|effects|trace)\.parquet")
"""Of a shard: what made it, what it holds, and the table."""
SHARDS, DAMAGED, LINES = "shards", "damaged", "manifest.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one task left: shards and their hashes, and what they hold. One line of the manifest."""

    task: str
    """Key of the task: model, text, thresholds."""
    units: dict[str, dict[str, Any]]
    """Key of each unit that is done -> the unit."""
    shards: dict[str, dict[str, Any]]
    """Table -> name and sha256 of its file."""
    n_cells: int = 0
    n_sinks: int = 0
    n_tokens: int = 0
    primary: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    where: dict[str, str | None] = field(default_factory=dict)


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("units", "shards"), (dict, dict)),
    **dict.fromkeys(("n_cells", "n_sinks", "n_tokens"), int),
    "task": str,
    "primary": (int, type(None)),
    "left_out": (dict, int),
    "failures": (list, dict),
    "seconds": (dict, float),
    "where": (dict, (str, type(None))),
}


class Manifest:
    """The entries of a sweep's folder, and its shards."""

    def __init__(self, folder: Path) -> None:
        """Name the run folder; nothing is read or written yet."""
        self.work = folder / WORK
        self.shards = self.work / SHARDS
        self.path = self.work / LINES
        self.entries: list[Entry] = []

    def read(self) -> list[str]:
        """Read the entries; complaints about lines that don't count. Changes nothing.

        Raises `RunFolderError` for a manifest of another schema.
        """
        self.entries, complaints = [], []
        for number, line in enumerate(self._lines(), start=1):
            entry = _parse(line)
            if entry is None:
                complaints.append(f"line {number} of {LINES} is damaged")
            else:
                self.entries.append(entry)
        return complaints

    def check(self) -> list[str]:
        """`read`, and verify every shard; complaints about all that does not count.

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
        """`check`, then set aside what does not count, so that it is computed again.

        Call with the folder claimed. Also removes what processes left that died while they wrote:
        half-written files, and shards that no line speaks of.
        """
        for place in (self.work.parent, self.work, self.shards):
            _remove(part for part in place.glob(f"{durable.PART}*") if part.name != durable.LOCK)
        complaints = self.check()
        kept = {shard["name"] for entry in self.entries for shard in entry.shards.values()}
        rest = [path for path in sorted(self.shards.glob("*.parquet")) if path.name not in kept]
        if complaints:
            self._set_aside(rest)
        else:
            _remove(rest)
        return complaints

    def add(self, outcome: Outcome) -> Entry:
        """Write the shards of an outcome, then its line: after this it is done."""
        entry = _entry(outcome)
        for name in (self.work, self.shards):
            durable.make_folder(name)
        for table, shard in entry.shards.items():
            durable.write(self.shards / shard["name"], outcome.tables[table])
        self.put(entry)
        return entry

    def put(self, entry: Entry) -> None:
        """Write the line of an entry whose shards are there already."""
        durable.append(self.path, _line(entry))
        self.entries.append(entry)

    def done(self) -> dict[str, set[str]]:
        """Keys of the units that are done, by key of their task."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.shards:
                found.setdefault(entry.task, set()).update(entry.units)
        return found

    def tables(self) -> dict[str, set[str]]:
        """Tables that each task has shards of, by key of the task."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            found.setdefault(entry.task, set()).update(entry.shards)
        return found

    def path_of(self, entry: Entry, table: str) -> Path | None:
        """Where an entry's shard of a table lies; None where it has none."""
        shard = entry.shards.get(table)
        return None if shard is None else self.shards / shard["name"]

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunFolderError(
                f"{str(self.path)!r} cannot be read: {error.strerror}; expected JSON lines"
            ) from error

    def _wrong(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """Names of the shards that are not what was written, and in what way."""
        for shard in entry.shards.values():
            path = self.shards / shard["name"]
            try:
                if durable.sha256_of(path) != shard["sha256"]:
                    yield shard["name"], "damaged (its sha256 is not that of the manifest)"
            except FileNotFoundError:
                yield shard["name"], "missing"
            except OSError as error:
                yield shard["name"], f"not readable ({error.strerror})"

    def _set_aside(self, shards: Sequence[Path]) -> None:
        """Move shards and the old manifest out of the way; write the good lines anew."""
        aside = self.work / DAMAGED
        durable.make_folder(aside)
        number = len(list(aside.iterdir()))
        for path in shards:
            path.replace(aside / f"{number:04d}-{path.name}")
        durable.write(aside / f"{number:04d}-{LINES}", b"".join(self._lines()))
        durable.write(self.path, b"".join(map(_line, self.entries)))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _entry(outcome: Outcome) -> Entry:
    task = outcome.task
    keys = {unit_key(task.key, unit, task.ordinary): unit for unit in outcome.units}
    shards = {table: _shard(task.key, table, content) for table, content in outcome.tables.items()}
    return Entry(
        task=task.key,
        units={key: asdict(unit) for key, unit in sorted(keys.items())},
        shards=shards,
        n_cells=outcome.n_cells,
        n_sinks=outcome.n_sinks,
        n_tokens=len(task.tokens),
        primary=outcome.primary,
        left_out=outcome.left_out,
        failures=[_plain(failure) for failure in outcome.failures],
        seconds={stage: round(took, 4) for stage, took in outcome.seconds.items()},
        where=outcome.where,
    )


def _shard(task: str, table: str, content: bytes) -> dict[str, Any]:
    """Named by what made it and what it holds, so that no two shards share a name."""
    digest = hashlib.sha256(content).hexdigest()
    return {"name": f"{task[:16]}-{digest[:16]}.{table}.parquet", "sha256": digest}


def _plain(failure: Failure) -> dict[str, Any]:
    return asdict(failure)


def unit_of(given: dict[str, Any]) -> Unit:
    """The unit of an entry's plain data."""
    return Unit(edit=str(given["edit"]), site=str(given["site"]), layer=int(given["layer"]))


def _line(entry: Entry) -> bytes:
    body = {"schema": SCHEMA} | asdict(entry)
    return (json.dumps(body | {"line": durable.sha256_of_json(body)}) + "\n").encode()


def _parse(line: bytes) -> Entry | None:
    """The entry of a line; None for one that is torn or changed."""
    try:
        body = json.loads(line.decode("utf-8"))
        said = body.pop("line")
        if not line.endswith(b"\n") or durable.sha256_of_json(body) != said:
            return None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    if body.pop("schema", None) != SCHEMA:
        raise RunFolderError(
            f"the manifest of this sweep has another schema than {SCHEMA}; go on with the version "
            "that began it (see run.json or sweep/config.json), or choose another --out"
        )
    return _checked(body)


def _checked(body: dict[str, Any]) -> Entry | None:
    """The entry, if every field is of its type and no shard's name leads out of its folder."""
    if not {"task", "units", "shards"} <= body.keys() <= _TYPES.keys():
        return None
    if not all(_is(value, _TYPES[name]) for name, value in body.items()):
        return None
    try:
        named = all(NAME.fullmatch(shard["name"]) for shard in body["shards"].values())
        named &= all(isinstance(shard["sha256"], str) for shard in body["shards"].values())
        named &= all({"kind", "message"} <= one.keys() for one in body.get("failures", ()))
        for unit in (*body["units"].values(), *(one["unit"] for one in body.get("failures", ()))):
            if unit is not None:
                unit_of(unit)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return Entry(**body) if named else None


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; of `(dict, T)` or `(list, T)` where its items are of T."""
    if isinstance(kind, tuple) and kind[0] in (dict, list):
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind[0]) and all(_is(item, kind[1]) for item in items)
    return isinstance(value, kind) and not isinstance(value, bool)
