"""Run folder -> one self-contained HTML page."""

from secondary_sinks.report.compare import write_comparison
from secondary_sinks.report.page import render, write_report
from secondary_sinks.report.phenomenon import phenomenon_lines
from secondary_sinks.report.view import serve

__all__ = ["phenomenon_lines", "render", "serve", "write_comparison", "write_report"]
