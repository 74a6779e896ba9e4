"""The Ray cluster that a sweep runs on: found by its address, or started here."""

import os
import re
import socket
import warnings
from typing import Any

from secondary_sinks.errors import SinkWarning, SweepError
from secondary_sinks.sweeps import interrupts

HERE = "local"
"""Address of a cluster that is started here, for as long as the sweep takes."""
VARIABLE = "RAY_ADDRESS"
KNOCK = 5.0
"""Seconds that a cluster has to answer."""
STORE = 200 * 2**20
"""Bytes of Ray's object store on a cluster that is started here: tables pass through, few wait."""


def connect(address: str | None) -> tuple[Any, bool]:
    """The module `ray`, connected to a cluster; whether the connection was made here.

    Raises `SweepError` where there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    place = _address(address)
    _knock(place)
    import ray

    more: dict[str, Any] = {"address": place}
    if place == HERE:  # said, since Ray would look for a cluster that is left over
        more |= {"include_dashboard": False, "object_store_memory": STORE}
    if ray.is_initialized():
        return ray, False
    try:
        with interrupts.kept():
            ray.init(log_to_driver=False, logging_level="error", **more)
    except Exception as error:  # a wrong address, a version that differs: of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _nowhere(place, reason) from error
    return ray, True


def _address(asked: str | None) -> str:
    """Where the cluster is: as asked for, else as RAY_ADDRESS says, else one that is started here.

    Ray itself lets RAY_ADDRESS stand in for 'auto', too. That it is used is said (`SinkWarning`).
    """
    around = os.environ.get(VARIABLE, "").strip()
    if around and asked in (None, "auto"):
        warnings.warn(
            f"using the Ray cluster of {VARIABLE}: {around!r}; unset it, or use --ray-address "
            f"{HERE} to start one here",
            SinkWarning,
            stacklevel=2,
        )
        return around
    return asked or HERE


def _knock(address: str) -> None:
    """Raise `SweepError` where nobody listens at HOST:PORT: Ray itself would try for a minute."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", address)
    if place is None:  # 'auto' or 'local': Ray knows better
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        raise _nowhere(address, str(error)) from error


def _nowhere(address: str, reason: str) -> SweepError:
    where = "here" if address == HERE else f"at {address!r}"
    source = f" (of {VARIABLE})" if address == os.environ.get(VARIABLE, "").strip() else ""
    return SweepError(
        f"no Ray cluster {where}{source}: {reason}",
        f"expected the HOST:PORT that `ray start --head` "
        f"printed, 'auto' on a machine of the cluster, or {HERE!r} to start one here; a cluster "
        "that wants a token needs RAY_AUTH_MODE=token here too (see docs/scaling.md)",
    )
