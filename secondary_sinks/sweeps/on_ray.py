"""`OnRay`: the tasks of a sweep on the GPUs or cores of a Ray cluster; see docs/scaling.md.

One actor per GPU (or per `n_devices` GPUs), otherwise one single-threaded actor per core; each
holds the model. A task (one text with all its missing units) goes to one actor as a whole, so its
clean pass is made once. An actor gets at most `QUEUED` tasks, and the next task is requested only
when there is room for it. The tasks of an actor that died are given to another actor; a task that
kills its actor `RETRIES` + 1 times is recorded as failed and skipped.

Actors touch no file of the sweep: they return the bytes of their tables, and only the caller
writes. Ray sends our objects as pickles between its own processes, so anyone who can reach its
ports can run code there: keep a cluster on a private network.
"""

import collections
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from secondary_sinks.errors import SinkError, SweepError
from secondary_sinks.models import HookedModel
from secondary_sinks.sweeps.compute import Texts
from secondary_sinks.sweeps.ray_cluster import connect
from secondary_sinks.sweeps.tasks import Failure, ModelSpec, Outcome, Prepared, Task
from secondary_sinks.sweeps.worker import ModelHolder, load_spec
from secondary_sinks.types import Thresholds

QUEUED = 2
"""Most tasks at an actor: one being computed, and the next one, so that it never waits."""
RETRIES = 3


class Worker(ModelHolder):
    """The code of an actor: holds a model and computes tasks."""

    def __init__(
        self, loader: Callable[[ModelSpec], HookedModel], threads: int | None, home: str
    ) -> None:
        """`threads`: torch threads of an actor with a single core; None keeps the default.

        `home` is the caller's folder, so that relative model paths mean the same here.
        """
        import torch

        with contextlib.suppress(OSError):  # no such folder: hub names still work
            os.chdir(home)
        if threads is not None:
            torch.set_num_threads(threads)
        super().__init__(loader)


class OnRay:
    """An executor on an existing Ray cluster, or on one started here and ended by `close`."""

    elsewhere = True

    def __init__(
        self,
        address: str | None = None,
        loader: Callable[[ModelSpec], HookedModel] = load_spec,
        *,
        retries: int = RETRIES,
    ) -> None:
        """Starts nothing yet. `loader` gives the models; it is called in the actors.

        Without an address, the environment variable RAY_ADDRESS is used, as Ray programs do;
        without either, a cluster is started here.
        """
        self._address, self._loader, self._retries = address, loader, retries
        self._ray: Any = None
        self._started = False
        self._actors: list[_Actor] = []
        self._spec: Any = None

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model on an actor and tokenize the texts there: this machine may have no GPU."""
        self._connect()
        self._end_actors()  # another model may need other resources
        self._spec = spec
        for _ in range(self._retries + 1):
            actor = self._start_actor(spec)
            found = self._result(actor.handle.prepare.remote(spec, list(texts), feed, thresholds))
            if isinstance(found, Prepared):
                return found
            self._end_actor(actor)
        raise SweepError(
            f"model {spec.name!r} ended {self._retries + 1} workers while it was loaded (at last "
            f"with: {_short(found)}); it may need more memory than a worker has, or packages that "
            "are not there (see docs/scaling.md)"
        )

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes of tasks of the last prepared model as they arrive."""
        waiting, lost = iter(tasks), collections.deque[_Attempt]()
        while True:
            self._fill_queues(waiting, lost)
            actors = {ref: actor for actor in self._actors for ref in actor.given}
            if not actors:
                return
            (ref,), _ = self._ray.wait([*actors], num_returns=1)
            found = self._result(ref)
            if isinstance(found, Outcome):
                del actors[ref].given[ref]
                yield found
            else:
                yield from self._reassign(actors[ref], found, lost)

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        self._end_actors()
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _fill_queues(self, waiting: Iterator[Task], lost: "collections.deque[_Attempt]") -> None:
        """Fill the queues of the actors, lost tasks first; start actors while there is room."""
        while (able := self._least_busy()) or self._has_room():
            attempt = lost.popleft() if lost else _first(waiting)
            if attempt is None:
                return
            if (able is None or able.given) and self._has_room():
                able = self._start_actor(self._spec)
            assert able is not None
            able.given[able.handle.compute.remote(attempt.task)] = attempt

    def _least_busy(self) -> "_Actor | None":
        able = [actor for actor in self._actors if len(actor.given) < QUEUED]
        return min(able, key=lambda actor: len(actor.given), default=None)

    def _has_room(self) -> bool:
        """Whether one more actor could start at once, or there is no actor yet."""
        if not self._actors:
            return True
        free = self._ray.available_resources()
        gpus = self._spec.n_devices if self._on_gpus(self._spec) else 0
        room = free.get("CPU", 0) >= 1 and free.get("GPU", 0) >= gpus
        return room and len(self._actors) < self._most_actors(self._spec)

    def _reassign(
        self, actor: "_Actor", why: Exception, lost: "collections.deque[_Attempt]"
    ) -> Iterator[Outcome]:
        """Reassign the tasks of a dead actor, except a task that has killed too many actors."""
        self._end_actor(actor)
        unfinished = []
        for ref, attempt in actor.given.items():
            found = self._result(ref)  # finished results outlive their actor
            if isinstance(found, Outcome):
                yield found
            else:
                unfinished.append(attempt)
        first, *rest = unfinished
        lost.extendleft(reversed(rest))
        if first.number < self._retries:
            lost.appendleft(replace(first, number=first.number + 1))
            return
        message = f"its worker died {first.number + 1} times, at last with: {_short(why)}"
        yield Outcome(
            task=first.task,
            tables={},
            failures=(Failure(unit=None, kind="LostWorker", message=message),),
        )

    def _result(self, ref: Any) -> Any:
        """The result of an actor; Ray's error if it died. Raises what the actor raised itself."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
        except RayError as error:
            return error
        if isinstance(cause, SinkError):
            raise cause
        raise SweepError(f"a worker failed: {type(cause).__name__}: {cause}") from cause

    def _start_actor(self, spec: ModelSpec) -> "_Actor":
        gpus = spec.n_devices if self._on_gpus(spec) else 0
        kind = self._ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, max_restarts=0)
        handle = kind.remote(self._loader, None if gpus else 1, str(Path.cwd()))
        self._actors.append(_Actor(handle=handle))
        return self._actors[-1]

    def _most_actors(self, spec: ModelSpec) -> int:
        """How many actors fit on the cluster at its current size; at least one."""
        places = int(self._ray.cluster_resources().get("CPU", 1))
        if self._on_gpus(spec):
            places = min(places, int(self._gpus() // spec.n_devices))
        return max(places, 1)

    def _on_gpus(self, spec: ModelSpec) -> bool:
        return (spec.device or "cuda").startswith("cuda") and self._gpus() >= spec.n_devices

    def _gpus(self) -> float:
        return float(self._ray.cluster_resources().get("GPU", 0))

    def _end_actor(self, actor: "_Actor") -> None:
        self._actors.remove(actor)
        with contextlib.suppress(Exception):  # it is dead already
            self._ray.kill(actor.handle)

    def _end_actors(self) -> None:
        for actor in list(self._actors):
            self._end_actor(actor)

    def _connect(self) -> None:
        if self._ray is None:
            self._ray, self._started = connect(self._address)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A task, and how often it was lost before."""

    task: Task
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Actor:
    """An actor, and its tasks by Ray's references to their results."""

    handle: Any
    given: dict[Any, _Attempt] = field(default_factory=dict)
    """In the order in which they are computed."""


def _first(tasks: Iterator[Task]) -> _Attempt | None:
    task = next(tasks, None)
    return None if task is None else _Attempt(task=task)


def _short(error: Exception) -> str:
    """The end of an error message, where Ray states the cause."""
    return " ".join(str(error).split())[-300:]
