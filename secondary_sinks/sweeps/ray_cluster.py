"""The Ray cluster of a sweep: found by its address, or started here."""

import os
import re
import socket
import warnings
from typing import Any

from secondary_sinks.errors import SinkWarning, SweepError
from secondary_sinks.sweeps import interrupts

HERE = "local"
"""Address that means: start a cluster here for the duration of the sweep."""
VARIABLE = "RAY_ADDRESS"
ANSWER_WITHIN = 5.0
"""Seconds that a cluster gets to answer."""
STORE = 200 * 2**20
"""Bytes of Ray's object store for a cluster started here; tables pass through quickly."""


def connect(address: str | None) -> tuple[Any, bool]:
    """The module `ray`, connected to a cluster; and whether the connection was made here.

    Raises `SweepError` if there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    place = _address(address)
    _refuse_unreachable(place)
    import ray

    more: dict[str, Any] = {"address": place}
    if place == HERE:  # explicit, since Ray would look for a leftover cluster
        more |= {"include_dashboard": False, "object_store_memory": STORE}
    if ray.is_initialized():
        return ray, False
    try:
        with interrupts.keep_handlers():
            ray.init(log_to_driver=False, logging_level="error", **more)
    except Exception as error:  # wrong address, other version: Ray raises many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _no_cluster(place, reason) from error
    return ray, True


def _address(asked: str | None) -> str:
    """Address of the cluster: as given, else RAY_ADDRESS, else a new cluster on this machine.

    Ray itself also reads 'auto' as RAY_ADDRESS. Its use is announced by a `SinkWarning`.
    """
    if asked is not None and not asked.strip():
        raise SweepError(f"--ray-address is {asked!r}", f"expected HOST:PORT, 'auto' or {HERE!r}")
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


def _refuse_unreachable(address: str) -> None:
    """Raise `SweepError` if HOST:PORT refuses connections; Ray itself would retry for a minute."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", address)
    if place is None:  # 'auto' or 'local': left to Ray
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=ANSWER_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> SweepError:
    where = "here" if address == HERE else f"at {address!r}"
    source = f" (of {VARIABLE})" if address == os.environ.get(VARIABLE, "").strip() else ""
    return SweepError(
        f"no Ray cluster {where}{source}: {reason}",
        f"expected the HOST:PORT that `ray start --head` "
        f"printed, 'auto' on a machine of the cluster, or {HERE!r} to start one here; a cluster "
        "that wants a token needs RAY_AUTH_MODE=token here too (see docs/scaling.md)",
    )
