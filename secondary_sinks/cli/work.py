"""The work of the commands that compute: `run`, `detect`, `ablate`, `patch` and `scale`."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from secondary_sinks.cli import garbage
from secondary_sinks.cli.again import last_line, note_done
from secondary_sinks.cli.output import Stopped, say
from secondary_sinks.cli.resolve import Asked, Resolved, command_line, resolve
from secondary_sinks.cli.show import print_json, show_found
from secondary_sinks.cli.watch import Watch, check_format, going_on, show_summary
from secondary_sinks.errors import SinkError
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder, parse_questions
from secondary_sinks.sweeps import executors, run
from secondary_sinks.sweeps.estimate import estimate
from secondary_sinks.sweeps.sweep import Summary, sweep
from secondary_sinks.types.lists import join_words

PARTIAL = 3
"""Exit code of a sweep that finished but skipped something."""


def work(asked: Asked) -> None:
    """Check everything cheap first, then plan or compute, and print the results."""
    garbage.resume()
    check_format(asked.options["log_format"])
    wanted = resolve(asked)
    questions = parse_questions(wanted.ask)
    executor = executors.executor_named(wanted.executor, wanted.ray_address)
    wanted.config.check(elsewhere=executor.elsewhere)
    if asked.options["dry_run"]:
        for line in estimate(wanted.config, wanted.out).lines():
            say(line)
        if questions:
            say(
                f"  not in that time  the answers to {join_words(questions)}: their cost is "
                "printed when the sinks are known, before they are asked"
            )
    elif asked.command in ("run", "detect"):
        _run(asked, wanted, questions)
    else:
        _sweep(asked, wanted, executor)


def _run(asked: Asked, wanted: Resolved, questions: tuple[str, ...]) -> None:
    """Compute what is missing of a run, and print what was found."""
    options, out = asked.options, wanted.out
    watch = _watch(asked, out)
    with going_on(watch):
        summary = run(
            wanted.config,
            out,
            asked=questions,
            force=options["force"],
            command=partial(command_line, asked),
            say=(lambda line: None) if options["json"] or options["quiet"] else say,
            tell=watch.tell,
        )
    folder = RunFolder(out)
    there = summary.nothing_to_do and (out / "report.html").is_file()
    if summary.nothing_to_do and not options["json"] and not options["quiet"]:
        show_summary(summary, "text")
    shown = _show(folder, options)
    if asked.command == "run" and not there:
        write_report(folder)
    if options["json"]:
        return
    say(last_line(asked.command, out))
    if shown:
        with contextlib.suppress(SinkError, OSError):  # without a note, the same call takes longer
            note_done(asked.command, options, shown)


def _sweep(asked: Asked, wanted: Resolved, executor: executors.Executor) -> None:
    """Compute what is missing of a sweep, and print its summary and what was found."""
    options, watch = asked.options, _watch(asked, wanted.out)
    with contextlib.closing(executor), going_on(watch, elsewhere=executor.elsewhere):
        summary = sweep(
            wanted.config,
            wanted.out,
            executor=executor,
            force=options["force"],
            command=command_line(asked),
            tell=watch.tell,
        )
    _show_sweep(summary, options, wanted.out)
    if not summary.complete:
        raise Stopped(PARTIAL)


def _show_sweep(summary: Summary, options: Mapping[str, Any], out: Path) -> None:
    if not options["json"] and not options["quiet"]:
        show_summary(summary, options["log_format"])
    if options["json"] or options["log_format"] == "text":
        _show(RunFolder(out), options)
    if not options["json"] and options["log_format"] == "text":
        say(f"tables: {out}")


def _show(folder: RunFolder, options: Mapping[str, Any]) -> str:
    """Print what was found as JSON, as tables, or not at all; gives the text that it printed."""
    if options["json"]:
        print_json(folder)
        return ""
    return "" if options["quiet"] else show_found(folder)


def _watch(asked: Asked, out: Path) -> Watch:
    return Watch(asked.options["log_format"], out, quiet=asked.options["quiet"])
