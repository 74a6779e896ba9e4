"""Run folder -> one self-contained HTML page."""

from secondary_sinks.report.compare import write_comparison
from secondary_sinks.report.page import render, write_report

__all__ = ["render", "write_comparison", "write_report"]
