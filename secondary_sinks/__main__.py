"""`python -m secondary_sinks`, and the command `secondary-sinks`."""

import sys


def main() -> None:
    """Run the command line. An interrupt is one line also while its modules are still loaded."""
    try:
        import threading  # noqa: F401  before the hook needs it

        sys.unraisablehook = _interrupt_again
        from secondary_sinks.cli import main as run

        run()
    except KeyboardInterrupt:  # `run` catches those that come later
        print("interrupted; run the same command to start again", file=sys.stderr)
        sys.exit(130)


def _interrupt_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Repeat an interrupt that Python ignored, a moment later.

    Python ignores what is raised inside a finalizer or a weak reference's callback; each import
    calls one, so that an interrupt while modules are loaded would now and then be lost.
    """
    import _thread
    import signal
    import threading

    if issubclass(ignored.exc_type, KeyboardInterrupt):
        own = ignored.exc_type is KeyboardInterrupt  # else it stands for SIGTERM
        number = signal.SIGINT if own else signal.SIGTERM
        threading.Timer(0.05, _thread.interrupt_main, [number]).start()
    else:
        sys.__unraisablehook__(ignored)


if __name__ == "__main__":
    main()
