"""The work of `run` and `detect`."""

import contextlib

from secondary_sinks.cli.again import note_done
from secondary_sinks.cli.output import say
from secondary_sinks.cli.request import Request
from secondary_sinks.cli.show import show_found
from secondary_sinks.cli.watch import Watch, going_on
from secondary_sinks.errors import SinkError
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder, parse_questions
from secondary_sinks.sweeps import run


def work(request: Request) -> None:
    """Compute what is missing of a run, and print what was found."""
    watch, asked = Watch("text", request.out), parse_questions(request.ask)
    with going_on(watch):
        summary = run(
            request.config,
            request.out,
            asked=asked,
            force=request.force,
            command=request._replace(asked=asked).asking,
            say=say,
            tell=watch.tell,
        )
    if summary.nothing_to_do:
        say(f"{request.out} holds this run already (same inputs); nothing to do")
    folder = RunFolder(request.out)
    shown = show_found(folder)
    there = summary.nothing_to_do and (folder.path / "report.html").is_file()
    if request.report and not there:
        write_report(folder)
    say(request.last_line)
    with contextlib.suppress(SinkError, OSError):  # without a note, the same call takes longer
        note_done(request, shown)
