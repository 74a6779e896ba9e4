"""The command line (typer): parse options, call one function, print where the result is."""

from secondary_sinks.cli.entry import main, run_app
from secondary_sinks.cli.options import number, whole
from secondary_sinks.cli.output import say

__all__ = ["main", "number", "run_app", "say", "whole"]
