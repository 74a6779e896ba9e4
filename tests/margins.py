"""How near each comparison of floats comes to its bound: the largest |difference| / bound by test.

    pytest --margins

prints one table at the end of the run. A margin above one third hangs on the rounding of one
processor; `tests/tolerance.py` says how a bound is chosen.
"""

import numpy as np
import pytest
import torch

LIMIT = 1 / 3
DEFAULT = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5)}
DEFAULT |= {torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7)}
"""Relative and absolute bounds of `torch.testing.assert_close`, as its documentation has them."""


class Margins:
    """A pytest plugin: notes margins while tests run, and prints them."""

    def __init__(self):
        self.largest = 0.0
        self.by_test = {}

    def note(self, margin):
        """Keep the largest margin of the test that runs."""
        if np.isfinite(margin):
            self.largest = max(self.largest, float(margin))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        """Send the margin of a test along with its report, also from another process."""
        self.largest = 0.0
        yield
        if self.largest:
            item.user_properties.append(("margin", self.largest))

    def pytest_runtest_logreport(self, report):
        """Collect the margins of all processes."""
        if report.when == "call":
            name = report.nodeid.partition("[")[0]
            for key, value in report.user_properties:
                if key == "margin":
                    self.by_test[name] = max(value, self.by_test.get(name, 0.0))

    def pytest_terminal_summary(self, terminalreporter):
        """Print the table, largest margin first."""
        terminalreporter.section("largest |difference| / bound, by test")
        for name, value in sorted(self.by_test.items(), key=lambda pair: -pair[1]):
            sign = "above a third" if value > LIMIT else ""
            terminalreporter.write_line(f"{value:9.2g}  {name}  {sign}")


def install(config):
    """Note margins of `torch.testing.assert_close` and `pytest.approx` from now on."""
    margins = Margins()
    config.pluginmanager.register(margins, "margins")
    torch.testing.assert_close = _noting_close(torch.testing.assert_close, margins)
    scalar = type(pytest.approx(1.0))
    scalar.__eq__ = _noting_approx(scalar.__eq__, margins)


def _noting_close(assert_close, margins):
    def noting(actual, expected, *args, rtol=None, atol=None, **kwargs):
        margins.note(margin(actual, expected, rtol, atol))
        return assert_close(actual, expected, *args, rtol=rtol, atol=atol, **kwargs)

    return noting


def margin(actual, expected, rtol=None, atol=None):
    """Largest |actual - expected| / (atol + rtol |expected|); NaN where none can be told."""
    one, other = torch.as_tensor(actual).detach(), torch.as_tensor(expected).detach()
    if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
        return np.nan
    default = DEFAULT[one.dtype]
    rtol, atol = (
        given if given is not None else own
        for given, own in zip((rtol, atol), default, strict=True)
    )
    one, other = one.double(), other.double()
    bound = atol + rtol * other.abs()
    ratios = ((one - other).abs() / bound)[one != other]
    return float(ratios[ratios.isfinite()].max()) if ratios.isfinite().any() else 0.0


def _noting_approx(equal, margins):
    def noting(self, actual):
        same = equal(self, actual)
        try:
            bound = self.tolerance
            if same and bound > 0:
                margins.note(abs(self.expected - actual) / bound)
        except (TypeError, ValueError):
            pass
        return same

    return noting
