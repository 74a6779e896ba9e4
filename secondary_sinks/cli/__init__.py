"""typer: parse, call one function, print where the result is."""

from secondary_sinks.cli.entry import main

__all__ = ["main"]
