"""Merge the cells of several sweeps into one folder, for a sweep that was split across machines."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import about, durable
from secondary_sinks.runs.folder import OWN, RECORD, WORK, RunFolder
from secondary_sinks.runs.hashes import versions_of_code
from secondary_sinks.sweeps.config_file import from_dict
from secondary_sinks.sweeps.entries import line_of
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.output import SweepOutput
from secondary_sinks.sweeps.plan import Plan, plan
from secondary_sinks.sweeps.stored_config import CONFIG, Stored, read_stored, store
from secondary_sinks.sweeps.tasks import ModelSpec, Prepared, key_of
from secondary_sinks.types.lists import refuse_twice

SHARED = ("feed", "thresholds", "criterion", "max_tokens", "ordinary", "seed", "pooled")
"""Settings that must be equal in all sweeps."""
COMPUTING = ("measures", "engine")
"""Versions of the code that are part of the key of a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The result of a merge."""

    n_tasks: int
    n_cells: int
    n_missing: int
    """Units missing from every folder, out of all edits x sites x layers x texts that any asked
    for."""
    n_unused: int
    """Units in the folders that no table uses, computed by older code or from older inputs."""


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Copy the cells of sweeps into a new folder and write its tables from all of them.

    The source folders are not changed. The same call resumes a killed merge. Raises
    `RunFolderError` for a folder that is damaged or not a sweep, for sweeps that cannot be
    combined, and for an `out` that holds anything else.
    """
    places = [folder.resolve() for folder in folders]
    refuse_twice("the list of folders", [*map(str, folders)], RunFolderError, places)
    stored = [read_stored(folder) for folder in folders]
    if not stored:
        raise RunFolderError("nothing to merge", "expected one or more folders of sweeps")
    asked, versions = _asked(stored, folders), _versions(stored, folders)
    for folder in folders:
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise RunFolderError(
                f"--out {str(out)!r} is, or is inside, {str(folder)!r}, a folder to merge",
                "choose a folder outside it",
            )
    manifests = [_whole(folder) for folder in folders]
    target = RunFolder(out)
    with target.claim():
        _check(target, asked)
        record, plans = _fill(target, asked, versions, stored, manifests)
    return Merged(
        n_tasks=sum(len(one.tasks) for one in plans),
        n_cells=record["sweep"]["n_cells"],
        n_missing=sum(one.n_missing for one in plans),
        n_unused=_unused(plans, Manifest(out)),
    )


def _unused(plans: Sequence[Plan], manifest: Manifest) -> int:
    manifest.read()
    used = {key_of(task, unit) for plan in plans for task in plan.tasks for unit in task.units}
    return len({key for keys in manifest.done().values() for key in keys} - used)


def _check(target: RunFolder, asked: Mapping[str, Any]) -> None:
    """Raise `RunFolderError` if the folder holds anything but the same merge, unfinished."""
    out = target.path
    names = target.contents()
    if not names:
        return
    if set(names) <= {WORK, *OWN} - {RECORD} and (out / WORK / CONFIG).is_file():
        begun = read_stored(out)
        if not begun.command and begun.asked == asked:
            return
    raise RunFolderError(
        f"{str(out)!r} holds {names[0]!r}",
        "expected a new or empty folder, or one in which a merge "
        "of the same sweeps was interrupted",
    )


def _fill(
    target: RunFolder,
    asked: dict[str, Any],
    versions: dict[str, str],
    stored: Sequence[Stored],
    sources: Sequence[Manifest],
) -> tuple[dict[str, Any], list[Plan]]:
    """Copy and finish; on failure, empty the folder again."""
    out = target.path
    try:
        config = from_dict(asked["config"], "the merged config")
        manifest = Manifest(out)
        manifest.repair()  # left by a killed merge
        models = _models(stored)
        empty = [plan(config, spec, prepared, manifest, versions) for spec, prepared in models]
        store(out, asked, empty, "", versions)
        for source in sources:
            _copy(source, manifest)
        plans = [plan(config, spec, prepared, manifest, versions) for spec, prepared in models]
        return SweepOutput(target, config, asked, versions).write(plans, manifest, ""), plans
    except BaseException:
        shutil.rmtree(out / WORK, ignore_errors=True)
        for name in OWN:
            (out / name).unlink(missing_ok=True)
        raise


def _whole(folder: Path) -> Manifest:
    manifest = Manifest(folder)
    wrong = manifest.check()
    if wrong:
        raise RunFolderError(
            f"{str(folder)!r} is damaged ({wrong[0]})",
            "run its own command again first, which recomputes the damaged cells",
        )
    return manifest


def _versions(stored: Sequence[Stored], folders: Sequence[Path]) -> dict[str, str]:
    """Versions of the code that computed the cells. Raises `RunFolderError` if they differ."""
    first = stored[0].versions
    for one, folder in zip(stored, folders, strict=True):
        found = [
            about.describe_change(name, first.get(name), one.versions.get(name))
            for name in COMPUTING
            if first.get(name) != one.versions.get(name)
        ]
        if found:
            raise RunFolderError(
                f"{str(folder)!r} was computed by other code than {str(folders[0])!r} "
                f"({about.in_words(found)})",
                "expected cells of one version: run the command of either sweep again with the "
                "version that made the other",
            )
    return versions_of_code() | {name: first[name] for name in COMPUTING}


def _asked(stored: Sequence[Stored], folders: Sequence[Path]) -> dict[str, Any]:
    """A config that covers everything that any of the sweeps asked for."""
    configs = [one.asked["config"] for one in stored]
    for one, folder in zip(stored, folders, strict=True):
        for name in SHARED:
            if getattr(one.config, name) != getattr(stored[0].config, name):
                raise RunFolderError(
                    f"{str(folder)!r} has other {name} than {str(folders[0])!r}",
                    "expected sweeps that differ in models, texts, edits, sites or layers only",
                )
    texts: dict[str, str] = {}
    for one, folder in zip(stored, folders, strict=True):
        for text_id, sha256 in one.asked["texts"].items():
            if texts.setdefault(text_id, sha256) != sha256:
                raise RunFolderError(
                    f"{str(folder)!r} has another text {text_id!r} than a folder before it; "
                    "expected one name for one text"
                )
    joined = dict(configs[0])
    for name in ("models", "texts", "edits", "sites"):
        joined[name] = _union([config[name] for config in configs])
    if any(config["layers"] is None for config in configs):
        joined["layers"] = None
    else:
        layers = {layer for one in stored for layer in one.config.layers or ()}
        joined["layers"] = ",".join(map(str, sorted(layers)))
    joined["limit"] = None
    joined["trace"] = all(config["trace"] for config in configs)
    return {"config": joined, "texts": texts}


def _union(lists: Sequence[Sequence[Any]]) -> list[Any]:
    found: list[Any] = []
    for one in lists:
        found += [item for item in one if item not in found]
    return found


def _models(stored: Sequence[Stored]) -> list[tuple[ModelSpec, Prepared]]:
    """Each model once, with the texts that any sweep fed to it."""
    found: dict[tuple[Any, ...], tuple[ModelSpec, Prepared]] = {}
    for one in stored:
        for spec, prepared in one.models:
            model = prepared.model
            key = (model["weights_sha256"], model["config_sha256"], model["class"], prepared.dtype)
            if key in found:
                spec, prepared = found[key][0], _both(found[key][1], prepared)
            found[key] = spec, prepared
    return list(found.values())


def _both(one: Prepared, other: Prepared) -> Prepared:
    texts = {text.text_id: text for text in (*one.texts, *other.texts)}
    bad = {text.text_id: text for text in (*one.bad, *other.bad) if text.text_id not in texts}
    return replace(one, texts=tuple(texts.values()), bad=tuple(bad.values()))


def _copy(source: Manifest, target: Manifest) -> None:
    """Copy shards, then the lines that mention them; what was copied already is skipped."""
    durable.make_folder(target.shards)
    lines, done, tables = set(map(line_of, target.entries)), target.done(), target.tables()
    for entry in source.entries:
        units, shards = done.get(entry.task, set()), tables.get(entry.task, set())
        same = entry.shards and entry.units.keys() <= units and entry.shards.keys() <= shards
        if same or line_of(entry) in lines:
            continue
        for shard in entry.shards.values():
            place = target.shards / shard["name"]
            if not place.is_file():
                durable.fill(place, partial(files.copy, source.shards / shard["name"]))
        target.put(entry)
