"""Where the tasks of a sweep are computed. An executor is anything that `Executor` describes.

The caller keeps the folder: executors compute, and touch no file of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from secondary_sinks.errors import SweepError
from secondary_sinks.models import HookedModel
from secondary_sinks.sweeps.compute import Seen, Texts
from secondary_sinks.sweeps.tasks import ModelSpec, Outcome, Prepared, Task
from secondary_sinks.sweeps.worker import Holder, load_spec
from secondary_sinks.types import Thresholds

EXECUTORS = ("local", "ray")


@runtime_checkable
class Executor(Protocol):
    """Computes tasks, in whatever order; each gives one outcome, never an error.

    A model comes to all its tasks after one `prepare`. Closing lets go of models, and of tasks
    whose outcome nobody took: `run` may be left before its end.
    """

    elsewhere: bool
    """Whether models are loaded on other machines, whose devices are not known here."""

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model where it will run, and feed it the texts."""
        ...

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes as they come; tasks are asked for when there is room for them."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class InProcess:
    """Computes in this process, one task after the other."""

    elsewhere = False

    def __init__(self, loader: Callable[[ModelSpec], HookedModel] = load_spec) -> None:
        """`loader` gives the models of specs, by default from where their names say."""
        self._holder = Holder(loader)
        self.seen: Seen | None = None

    def model(self, spec: ModelSpec) -> HookedModel:
        """The model of a spec."""
        return self._holder.get(spec)

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model and feed it the texts."""
        return self._holder.prepare(spec, texts, feed, thresholds)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes in the order of the tasks."""
        return (self._holder.compute(task, self.seen) for task in tasks)

    def close(self) -> None:
        """Let go of the model."""
        self._holder.clear()


def loader_of(models: Mapping[str, Any]) -> Callable[[ModelSpec], HookedModel]:
    """A loader that hands out models that are there already, by the names of their specs."""
    return lambda spec: models[spec.name]


def executor_named(name: str, address: str | None = None) -> Executor:
    """The executor of a name. Raises `SweepError` for one that there isn't, or can't be used."""
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
