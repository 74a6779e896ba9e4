"""Options and config file -> the config of a sweep, and a command line that asks for the same."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from secondary_sinks.cli.options import option_words
from secondary_sinks.errors import EditError, SweepError
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.config_file import from_dict, merge_options, read_config, short
from secondary_sinks.texts.many_files import INLINE
from secondary_sinks.types import refuse_twice, split_words
from secondary_sinks.types.lists import number_word

_SAME = (
    *("layers", "feed", "limit", "max_tokens", "criterion", "ordinary"),
    *("device", "dtype", "n_devices", "revision", "seed"),
)
"""Options with the same name in the config."""
_PLACES = ("out", "executor", "ray_address", "ask")
"""Keys of a config file that are no part of the sweep's config."""
_OUTPUT = {"models", "dry_run", "force", "log_format", "json", "quiet"}
"""Options that a recorded command line does not repeat as options."""


class Asked(NamedTuple):
    """A command, its edits, and its options."""

    command: str
    edits: list[str]
    options: Mapping[str, Any]


class Resolved(NamedTuple):
    """The options of a command and its config file, combined."""

    config: SweepConfig
    out: Path
    executor: str
    ray_address: str | None
    ask: str


def resolve(asked: Asked) -> Resolved:
    """Combine options and config file. Raises `SweepError` for unreadable or missing values.

    Command-line options override the file.
    """
    options, path = asked.options, asked.options["config"]
    base = read_config(path) if path else {}
    own = {name: base.pop(name, None) for name in _PLACES}
    for name, value in own.items():
        if value is not None and not isinstance(value, str):
            raise SweepError(f"config {str(path)!r}: {name} is {short(value)}", "expected a string")
        if options.get(name) is not None:
            own[name] = str(options[name])
        elif value is not None and name != "out" and name not in options:
            raise _not_for(asked, name)
    if asked.command in ("run", "detect") and not (options["models"] or base.get("models")):
        raise SweepError("missing MODEL (or 'models' in the config)", "`models` lists some")
    if not own["out"]:
        raise SweepError("missing --out (or 'out' in the config): a folder for the results")
    flags = _flags(asked)
    if flags["thresholds"] and isinstance(base.get("thresholds"), Mapping):
        flags["thresholds"] = {**base["thresholds"], **flags["thresholds"]}
    merged = merge_options(base, flags)
    if asked.command == "detect":
        for name in ("edits", "sites", "layers", "ordinary"):  # in the config file
            if base.get(name) is not None:
                raise _not_for(asked, name)
        merged["edits"] = []
    config = from_dict(merged, f"config {str(path)!r}" if path else "options")
    if asked.command in ("run", "detect"):
        config = replace(config, pooled=True)
        if len(config.models) > 1:
            raise SweepError(
                f"{asked.command} takes one model, got {[one.name for one in config.models]}",
                "use ablate for several, or call it once for each",
            )
    executor = "local" if own["executor"] is None else own["executor"]
    out = Path(own["out"])
    ask = "none" if own["ask"] is None else own["ask"]
    return Resolved(config, out, executor, own["ray_address"], ask)


def _not_for(asked: Asked, name: str) -> SweepError:
    path = str(asked.options["config"])
    return SweepError(
        f"config {path!r}: {name} is not for {asked.command}", "leave it out, or use ablate or run"
    )


def _flags(asked: Asked) -> dict[str, Any]:
    """Options as keys of the config; None for options that were not given."""
    options = asked.options
    switches = ("trust_remote_code", "bridge")
    inline = [f"{INLINE}{text}" for text in options["text"] or ()]
    return {
        **{name: options.get(name) for name in _SAME},
        **{name: True if options[name] else None for name in switches},
        "models": list(options["models"] or ()) or None,
        "texts": [*(options["texts"] or ()), *inline] or None,
        "sites": list(options.get("site") or ()) or None,
        "skip": list(options["skip_check"] or ()) or None,
        "trace": False if options.get("no_trace") else None,
        "edits": asked.edits or None,
        "thresholds": _thresholds(options["threshold"] or ()) or None,
    }


def split_edits(given: Sequence[str]) -> list[str]:
    """The edits of all options, split at commas. Raises `EditError` for a repeated one.

    >>> split_edits(["zero, twins", "mean"])
    ['zero', 'twins', 'mean']
    """
    edits = [one for words in given for one in split_words("--edit", words, EditError)]
    refuse_twice("--edit", edits, EditError)
    return edits


def _thresholds(words: Sequence[str]) -> dict[str, int | float]:
    """Thresholds by name. Raises `SweepError` for a repeated name."""
    found: dict[str, int | float] = {}
    for name, value in map(_threshold, words):
        if name in found:
            raise SweepError(f"--threshold {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def _threshold(word: str) -> tuple[str, int | float]:
    """Parse NAME=NUMBER. Raises `SweepError`."""
    name, _, number = word.partition("=")
    try:
        value = number_word(number)
    except ValueError as error:
        message = f"--threshold {word!r}: expected NAME=NUMBER, such as outlying=4"
        raise SweepError(message) from error
    return name.strip(), int(value) if value.is_integer() else value


def command_line(asked: Asked, questions: Sequence[str] = ()) -> str:
    """A command line that asks for the same, with these questions."""
    words = ["secondary-sinks", asked.command, *(asked.options["models"] or ())]
    kept = {name: value for name, value in asked.options.items() if name not in _OUTPUT}
    if "ask" in kept:
        kept["ask"] = ",".join(questions) or None
    kept.pop("edit", None)
    return shlex.join([*words, *_edit_words(asked), *option_words(kept)])


def _edit_words(asked: Asked) -> list[str]:
    """The edits written as options of their command."""
    details = [edit.partition(":")[2] for edit in asked.edits]
    if asked.command in ("run", "ablate"):
        return [word for edit in asked.edits for word in ("--edit", edit)]
    if asked.command == "patch":
        return [word for detail in details for word in ("--donor", detail)]
    words = []
    for option, kind in (("--by", "scale"), ("--norm", "set_norm")):
        mine = [edit.partition(":")[2] for edit in asked.edits if edit.startswith(f"{kind}:")]
        words += [option, ",".join(mine)] if mine else []
    return words
