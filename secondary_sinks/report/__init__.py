"""Run folder -> one self-contained HTML page."""

from secondary_sinks.report.page import render, write_report

__all__ = ["render", "write_report"]
