"""Prompt interrupts: Ctrl-C ends a sweep within two seconds, whatever it is computing.

Python runs signal handlers between its own instructions, so an interrupt waits for the end of a
long computation in C. A thread sees the signal at once: it gives the computation a moment to end by
itself, and then ends the process. Nothing is lost, since every file of a sweep is written
completely or not at all.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

PATIENCE = 1.5
"""Seconds that a computation gets to end by itself."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit codes by signal, as shells define them."""


class Terminated(KeyboardInterrupt):
    """Raised when another process asks this one to end."""


@contextlib.contextmanager
def soon(line: Callable[[], str]) -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, and end the process if an interrupt is not handled in time.

    `line` is then printed on standard error. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    over = threading.Event()
    handler = signal.signal(signal.SIGTERM, _terminate)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(ours, over, line), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, handler)
        theirs.close()
        watch.join()
        ours.close()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _watch(signals: socket.socket, over: threading.Event, line: Callable[[], str]) -> None:
    """Wait for a signal, then briefly for the work to end, then end the process."""
    while number := signals.recv(1):
        code = CODES.get(signal.Signals(number[0]))
        if code is not None and not over.wait(PATIENCE):
            leave(code, line())


def leave(code: int, line: str) -> NoReturn:
    """Print a line and end the process at once, without running exit handlers of libraries."""
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # show the cursor, which bars hide
        os.write(sys.stderr.fileno(), f"{shown}{line}\n".encode())
    os._exit(code)


@contextlib.contextmanager
def keep_handlers() -> Iterator[None]:
    """Keep the interrupt handlers from being replaced by a library."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in CODES}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def code_of(stop: KeyboardInterrupt) -> int:
    """The exit code of a process that was stopped."""
    return CODES[signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT]
