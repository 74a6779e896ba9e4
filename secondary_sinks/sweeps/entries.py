"""Lines of a manifest, one per computed task, each with a hash of itself."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.sweeps.tasks import Outcome, Unit, key_of

SCHEMA = 1
NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.(sinks|paper|effects|trace|roles)\.parquet")
"""Fields of a shard: what made it, what it contains, and its table. `paper` holds the sinks that
the paper's rule finds; the other tables are those of a run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The result of one task, one line of the manifest: its shards, their hashes and contents."""

    task: str
    """Key of the task: model, text, thresholds."""
    units: dict[str, dict[str, Any]]
    """Finished units by key."""
    shards: dict[str, dict[str, Any]]
    """Name and SHA-256 of the shard file, by table."""
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


def entry_of(outcome: Outcome) -> Entry:
    """The manifest entry for an outcome."""
    task = outcome.task
    keys = {key_of(task, unit): unit for unit in outcome.units}
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
        failures=[asdict(failure) for failure in outcome.failures],
        seconds={stage: round(took, 4) for stage, took in outcome.seconds.items()},
        where=outcome.where,
    )


def _shard(task: str, table: str, content: bytes) -> dict[str, Any]:
    """A shard, named after what made it and what it holds, so that names are unique."""
    digest = hashlib.sha256(content).hexdigest()
    return {"name": f"{task[:16]}-{digest[:16]}.{table}.parquet", "sha256": digest}


def unit_of(given: dict[str, Any]) -> Unit:
    """The unit described by the plain data of an entry."""
    return Unit(edit=str(given["edit"]), site=str(given["site"]), layer=int(given["layer"]))


def line_of(entry: Entry) -> bytes:
    """An entry as a line, with a hash of itself."""
    body = {"schema": SCHEMA} | asdict(entry)
    return (json.dumps(body | {"line": files.sha256_of_json(body)}) + "\n").encode()


def parse(line: bytes) -> Entry | None:
    """Parse a line; None if it is torn or was changed."""
    if not line.startswith(b"{"):
        return None
    try:
        body = files.load_json(line.decode("utf-8"))
        if not line.endswith(b"\n") or body.pop("line") != files.sha256_of_json(body):
            return None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    if body.pop("schema", None) != SCHEMA:
        raise RunFolderError(
            f"the manifest of this sweep has another schema than {SCHEMA}; resume it with the "
            "version that began it (see run.json or sweep/config.json), or choose another --out"
        )
    return _checked(body)


def _checked(body: dict[str, Any]) -> Entry | None:
    """The entry, if all fields have the right type and no shard name points outside its folder."""
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
    """Whether a value has a type; `(dict, T)` and `(list, T)` also check the type of the items."""
    if isinstance(kind, tuple) and kind[0] in (dict, list):
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind[0]) and all(_is(item, kind[1]) for item in items)
    return isinstance(value, kind) and not isinstance(value, bool)
