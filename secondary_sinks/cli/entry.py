"""`main`: run the app, and turn every known error into one line and exit code 2."""

import functools
import io
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from typer import Typer
from typer.main import get_command

from secondary_sinks.cli import garbage
from secondary_sinks.cli.output import Stopped, one_line, printable
from secondary_sinks.errors import SinkError, SinkWarning

BAD_INPUT = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141
_show_as_python_does = warnings.showwarning


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 2 bad input, 3 done but something was skipped, 130 interrupted, 141 output
    closed, 143 terminated.
    """
    garbage.postpone()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal may lack characters
            stream.reconfigure(errors="backslashreplace")
    garbage.leave(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; without arguments, show the help."""
    from secondary_sinks.cli.sweep_app import app

    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return run_app(app, words, "secondary-sinks")


_command_of = functools.cache(get_command)
"""The commands of an app, which take longer to make than a mistake takes to refuse."""


def run_app(app: Typer, words: Sequence[str], name: str) -> int:
    """Run a typer app; a known error becomes one line on standard error and exit code 2."""
    _silence_libraries()
    try:
        _refuse_bytes(words)
        command = _command_of(app)
        _refuse_repeats(command, list(words))
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = command(args=list(words), prog_name=name, standalone_mode=False)
            sys.stdout.flush()
    except SinkError as error:
        return _fail(str(error))
    except Stopped as stopped:
        if str(stopped):
            print(printable(str(stopped)), file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # for example with `| head`
        # Further output is discarded, so that flushing it at exit does not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except OSError as error:  # full disk, name too long: a traceback explains nothing
        return _fail(str(error))
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the click that typer vendors
            return _fail(_with_value(error, words))
        raise
    return _interrupted() if code == INTERRUPTED else int(code or 0)


def _open_closed_streams() -> None:
    """Discard what is written to a stream that was closed, as by `>&-`; Python has None for it."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r+"))


def _refuse_bytes(words: Sequence[str]) -> None:
    """Raise `SinkError` for an argument that is not valid Unicode, since run.json is UTF-8."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise SinkError(f"'{shown}' is not UTF-8", "rename the file or folder") from error


def _refuse_repeats(command: Any, words: list[str]) -> None:
    """Raise `SinkError` for a single-value option given twice: typer would drop the first value."""
    commands = getattr(command, "commands", {})
    if commands and words:
        if words[0] in commands:
            _refuse_repeats(commands[words[0]], words[1:])
        return
    before_values = list(itertools.takewhile(lambda word: word != "--", words))
    for option in command.params:
        names = [name for name in option.opts if name.startswith("-")]
        if option.multiple or getattr(option, "is_flag", False) or not names:
            continue
        given = [word for word in before_values if word.partition("=")[0] in names]
        if len(given) > 1:
            raise SinkError(f"{names[0]} is given {len(given)} times", "expected it once")


def _interrupted() -> int:
    print("interrupted; run the same command to start again", file=sys.stderr)
    return INTERRUPTED


def _fail(message: str) -> int:
    print("error: " + one_line(message), file=sys.stderr)
    return BAD_INPUT


def _warn(message: Warning | str, *where: object, **more: object) -> None:
    """Show our own warnings on one line, and those of libraries as Python does."""
    if isinstance(message, SinkWarning):
        print("warning: " + one_line(str(message)), file=sys.stderr)
    else:
        _show_as_python_does(message, *where, **more)  # type: ignore[arg-type]


def _with_value(error: Any, words: Sequence[str]) -> str:
    """The message of a usage error, with the offending value added if it is missing."""
    message = str(error.format_message())
    names = getattr(getattr(error, "param", None), "opts", ())
    given = [b for a, b in itertools.pairwise(words) if a in names]
    unsaid = [f"{value!r:.60}" for value in given if value not in message]
    return f"{message}; got {unsaid[-1]}" if unsaid else message


def _silence_libraries() -> None:
    """Hide library advice meant for programmers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():  # progress bars of hub, datasets and others
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
            os.environ.setdefault(name, "1")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
