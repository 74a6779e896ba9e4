"""The command line (typer): parse options, call one function, print where the result is."""

from secondary_sinks.cli.entry import main, run_app
from secondary_sinks.cli.garbage import leave
from secondary_sinks.cli.options import NAMED_PATH, named_path, number, whole
from secondary_sinks.cli.output import say

__all__ = ["NAMED_PATH", "leave", "main", "named_path", "number", "run_app", "say", "whole"]
