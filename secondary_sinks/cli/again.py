"""The same `run` or `detect` again, noticed before torch is imported or a model is loaded.

When a run is done, `sweep/again.json` in its folder notes what was asked, the SHA-256 of the files
of texts, and path, size, times of change and inode of every file that was read or written: those of
the model, the texts, this package and the tables. While all of these are the same, so are the
weights, whose hash `run.json` holds. Anything else takes the long way, which compares the weights
themselves.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.cli.output import say

NOTE = Path("sweep", "again.json")
PACKAGE = Path(__file__).parents[1]
PASSING = {".pyc", ".lock"}
"""Files that change without changing anything."""
LONG_WAY = ("config", "dry_run", "json", "quiet")
"""Options with which a command is never answered from the note."""
LIBRARIES = ("torch", "transformer-lens", "transformers", "tokenizers", "pandas", "pyarrow")


def show_again(command: str, options: Mapping[str, Any]) -> bool:
    """Print what the folder holds if this command made it and nothing has changed since."""
    out = options["out"]
    if out is None or any(options[name] for name in LONG_WAY):
        return False
    try:
        note = files.load_json(files.read_bytes(out / NOTE))
        same = note["asked"] == _asked(command, options) and note["files"] == _stats(note["places"])
        same = same and note["texts"] == _hashes(note["texts"])
        same = same and not options["force"] and isinstance(note["shown"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not same:
        return False
    from rich.console import Console
    from rich.text import Text

    say(f"{out} already holds this run (same inputs); nothing to do")
    Console().print(Text.from_ansi(note["shown"]), end="", soft_wrap=True)
    say(last_line(command, out))
    return True


def last_line(command: str, out: Path) -> str:
    """Where the results of a command are."""
    return f"report: {out / 'report.html'}" if command == "run" else f"tables: {out}"


def note_done(command: str, options: Mapping[str, Any], shown: str) -> None:
    """Note a finished run, so that the same command is noticed. Models of the hub may change."""
    from secondary_sinks.models.original.fetch import places_of
    from secondary_sinks.models.original.sources import resolve
    from secondary_sinks.runs import durable

    out, texts = options["out"], options["texts"] or ()
    if out is None or any(options[name] for name in LONG_WAY):
        return
    (model,) = options["models"]
    source = resolve(model, options["revision"])
    if source.kind == "hub" or any(text.startswith("hf:") for text in texts):
        return
    given = [Path(text).absolute() for text in texts if Path(text).is_file()]
    read = [PACKAGE, *places_of(source), *given]
    wrote = [path for path in out.rglob("*") if path.is_file() and path.name != NOTE.name]
    places = [str(path.absolute()) for path in (*read, *wrote)]
    note = {
        "asked": _asked(command, options),
        "places": places,
        "files": _stats(places),
        "texts": _hashes(map(str, given)),
        "shown": shown,
    }
    durable.write(out / NOTE, json.dumps(note).encode())


def _asked(command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the run, other than the contents of files."""
    words = {name: str(value) for name, value in options.items() if name != "force"}
    versions = {name: metadata.version(name) for name in LIBRARIES}
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    where = {"folder": str(Path.cwd()), "python": platform.python_version(), "devices": devices}
    here = str(
        [Path(model).exists() for model in options["models"] or ()]
    )  # a folder hides an alias of the same name
    return {"command": command, **words, **versions, **where, "model is here": here}


def _stats(places: Iterable[str]) -> dict[str, list[int]]:
    """Size, times of change and inode of the files at these places, and in them.

    Times are in nanoseconds: of the content, which a program can set, and of the file.
    """
    found: dict[str, list[int]] = {}
    for place in map(Path, places):
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix not in PASSING:
                one = path.stat()
                found[str(path)] = [one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino]
    return found


def _hashes(paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files. Raises `OSError`."""
    return {path: files.sha256_of(Path(path)) for path in paths}
