"""The work of `ablate`, `patch` and `scale`: config, plan, sweep, summary."""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from secondary_sinks.cli.options import option_words
from secondary_sinks.cli.output import Stopped, say
from secondary_sinks.cli.show import show_found
from secondary_sinks.cli.watch import Watch, check_format, going_on, show_summary
from secondary_sinks.errors import SweepError
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import executors
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.config_file import from_dict, merge_options, read_config, short
from secondary_sinks.sweeps.estimate import Estimate, estimate
from secondary_sinks.sweeps.sweep import sweep
from secondary_sinks.types.lists import plain_digits

PARTIAL = 3
"""Exit code of a sweep that finished but skipped something."""
_SAME = ("layers", "feed", "ordinary", "device", "dtype", "n_devices", "revision", "seed")
"""Options with the same name in the config."""


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


def work(asked: Asked) -> None:
    """Check everything cheap first, then plan or run the sweep, and print the results."""
    check_format(asked.options["log_format"])
    wanted = resolve(asked)
    executor = executors.executor_named(wanted.executor, wanted.ray_address)
    wanted.config.check(elsewhere=executor.elsewhere)
    if asked.options["dry_run"]:
        show_plan(estimate(wanted.config, wanted.out))
        return
    watch = Watch(asked.options["log_format"], wanted.out)
    with contextlib.closing(executor), going_on(watch, elsewhere=executor.elsewhere):
        summary = sweep(
            wanted.config,
            wanted.out,
            executor=executor,
            force=asked.options["force"],
            command=command_line(asked),
            tell=watch.tell,
        )
    show_summary(summary, asked.options["log_format"])
    if asked.options["log_format"] == "text":
        show_found(RunFolder(wanted.out))
        say(f"tables: {wanted.out}")
    if not summary.complete:
        raise Stopped(PARTIAL)


def resolve(asked: Asked) -> Resolved:
    """Combine options and config file. Raises `SweepError` for unreadable or missing values.

    Command-line options override the file.
    """
    options, path = asked.options, asked.options["config"]
    base = read_config(path) if path else {}
    own = {name: base.pop(name, None) for name in ("out", "executor", "ray_address")}
    for name, value in own.items():
        if value is not None and not isinstance(value, str):
            raise SweepError(f"config {str(path)!r}: {name} is {short(value)}", "expected a string")
        if options[name] is not None:
            own[name] = str(options[name])
    if own["out"] is None:
        raise SweepError("missing --out (or 'out' in the config): a folder for the sweep")
    flags = _flags(asked)
    if flags["thresholds"] and isinstance(base.get("thresholds"), Mapping):
        flags["thresholds"] = {**base["thresholds"], **flags["thresholds"]}
    config = from_dict(merge_options(base, flags), f"config {str(path)!r}" if path else "options")
    executor = "local" if own["executor"] is None else own["executor"]
    return Resolved(config, Path(own["out"]), executor, own["ray_address"])


def _flags(asked: Asked) -> dict[str, Any]:
    """Options as keys of the config; None for options that were not given."""
    options = asked.options
    switches = ("trust_remote_code", "bridge")
    return {
        **{name: options[name] for name in _SAME},
        **{name: True if options[name] else None for name in switches},
        "models": list(options["models"] or ()) or None,
        "texts": [str(path) for path in options["texts"] or ()] or None,
        "sites": list(options["site"] or ()) or None,
        "skip": list(options["skip_check"] or ()) or None,
        "trace": False if options["no_trace"] else None,
        "edits": asked.edits or None,
        "thresholds": _thresholds(options["threshold"] or ()) or None,
    }


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
        value = float(plain_digits(number))
    except ValueError as error:
        message = f"--threshold {word!r}: expected NAME=NUMBER, such as outlying=4"
        raise SweepError(message) from error
    return name.strip(), int(value) if value.is_integer() else value


def command_line(asked: Asked) -> str:
    """A command line that asks for the same."""
    words = ["secondary-sinks", asked.command, *(asked.options["models"] or ())]
    passing = {"models", "dry_run", "force", "log_format"}
    kept = {name: value for name, value in asked.options.items() if name not in passing}
    return shlex.join([*words, *_edit_words(asked), *option_words(kept)])


def _edit_words(asked: Asked) -> list[str]:
    """The edits written as options of their command."""
    details = [edit.partition(":")[2] for edit in asked.edits]
    if asked.command == "ablate":
        return [word for edit in asked.edits for word in ("--edit", edit)]
    if asked.command == "patch":
        return [word for detail in details for word in ("--donor", detail)]
    words = []
    for option, kind in (("--by", "scale"), ("--norm", "set_norm")):
        mine = [edit.partition(":")[2] for edit in asked.edits if edit.startswith(f"{kind}:")]
        words += [option, ",".join(mine)] if mine else []
    return words


def show_plan(found: Estimate) -> None:
    """Print the planned work, line by line."""
    for line in found.lines():
        say(line)
