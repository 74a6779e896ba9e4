"""Where the tasks of a sweep are computed. Any class that matches `Executor` can be used.

Executors compute only; the caller reads and writes the folder.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from secondary_sinks.errors import SweepError
from secondary_sinks.models import HookedModel
from secondary_sinks.sweeps.compute import Seen, Texts
from secondary_sinks.sweeps.tasks import ModelSpec, Outcome, Prepared, Task
from secondary_sinks.sweeps.worker import ModelHolder
from secondary_sinks.types import Thresholds

EXECUTORS = ("local", "ray")


@runtime_checkable
class Executor(Protocol):
    """Computes tasks in any order; each task gives one outcome and never raises.

    All tasks of a model follow one call of `prepare`. `run` may be left before its end; `close`
    releases the models, and the tasks whose outcome was not taken.
    """

    elsewhere: bool
    """Whether models are loaded on other machines, whose devices are unknown here."""

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model where it will run, and tokenize the texts with it."""
        ...

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes as they are computed; takes a further task only when there is room."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


class InProcess(ModelHolder):
    """Computes in this process, one task after another."""

    elsewhere = False
    seen: Seen | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes in the order of the tasks."""
        return (self.compute(task, self.seen) for task in tasks)

    def close(self) -> None:
        """Release the model."""
        self.clear()


def loader_of(models: Mapping[str, Any]) -> Callable[[ModelSpec], HookedModel]:
    """A loader that returns models already in memory, by the name in their spec."""
    return lambda spec: models[spec.name]


def executor_named(name: str, address: str | None = None) -> Executor:
    """The executor with this name. Raises `SweepError` if it is unknown or cannot be used."""
    if name not in EXECUTORS:
        raise SweepError(f"unknown executor {name!r}", f"expected one of {', '.join(EXECUTORS)}")
    if name == "ray":
        if find_spec("ray") is None:
            raise SweepError(
                "the executor 'ray' needs Ray, which is not installed",
                "run: pip install 'secondary-sinks[ray]'",
            )
        from secondary_sinks.sweeps.on_ray import OnRay

        return OnRay(address)
    if address is not None:
        raise SweepError(
            f"--ray-address {address!r} is for --executor ray, not for {name!r}", "leave one out"
        )
    return InProcess()
