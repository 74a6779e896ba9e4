"""Where the tasks of a sweep are computed. An executor is anything that `Executor` describes.

The caller keeps the folder: executors compute, and touch no file of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from secondary_sinks.errors import ModelMismatchError, SweepError
from secondary_sinks.models import HookedModel, load_model, weight_hash
from secondary_sinks.models.load import has_hooked_transformer, refuse_missing_gpus
from secondary_sinks.runs.compute import Texts, compute, prepare
from secondary_sinks.runs.tasks import ModelSpec, Outcome, Prepared, Task
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


def load(spec: ModelSpec) -> HookedModel:
    """The model of a spec; over several GPUs, a bridge as accelerate divides it."""
    more: dict[str, Any] = {} if spec.n_devices == 1 else {"n_devices": spec.n_devices}
    if more and (spec.bridge or not has_hooked_transformer()):
        refuse_missing_gpus(spec.n_devices)
        more = {"device_map": "auto"}
    return load_model(
        spec.name,
        spec.device,
        spec.dtype,
        revision=spec.revision,
        trust_remote_code=spec.trust_remote_code,
        bridge=spec.bridge or None,
        skip=spec.skip,
        **more,
    )


class Holder:
    """The one model that a process has in memory."""

    def __init__(self, loader: Callable[[ModelSpec], HookedModel] = load) -> None:
        """Hold nothing yet."""
        self._load = loader
        self._held: dict[ModelSpec, HookedModel] = {}
        self._hashes: dict[ModelSpec, str] = {}

    def get(self, spec: ModelSpec) -> HookedModel:
        """The model of a spec; another one is let go of first."""
        if spec not in self._held:
            self.clear()
            self._held[spec] = self._load(spec)
        return self._held[spec]

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model and feed it the texts."""
        found = prepare(self.get(spec), spec, texts, feed, thresholds)
        self._hashes[spec] = found.model["weights_sha256"]
        return found

    def compute(self, task: Task) -> Outcome:
        """Compute a task. Raises `ModelMismatchError` where the model is not the one that is meant.

        Another machine may hold other weights under the same name.
        """
        model = self.get(task.spec)
        here = self._hashes.get(task.spec) or weight_hash(model)
        self._hashes[task.spec] = here
        if here != task.weights_sha256:
            raise ModelMismatchError(
                f"model {task.spec.name!r} has other weights here (sha256 {here[:12]}) than where "
                f"the sweep was planned ({task.weights_sha256[:12]}); expected the same files "
                "everywhere"
            )
        return compute(model, task)

    def clear(self) -> None:
        """Let go of the model."""
        self._held.clear()
        self._hashes.clear()


class InProcess:
    """Computes in this process, one task after the other."""

    elsewhere = False

    def __init__(self, loader: Callable[[ModelSpec], HookedModel] = load) -> None:
        """`loader` gives the models of specs, by default from where their names say."""
        self._holder = Holder(loader)

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model and feed it the texts."""
        return self._holder.prepare(spec, texts, feed, thresholds)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes in the order of the tasks."""
        return map(self._holder.compute, tasks)

    def close(self) -> None:
        """Let go of the model."""
        self._holder.clear()


def given(models: Mapping[str, Any]) -> Callable[[ModelSpec], HookedModel]:
    """A loader that hands out models that are there already, by the names of their specs."""
    return lambda spec: models[spec.name]


def named(name: str, address: str | None = None) -> Executor:
    """The executor of a name. Raises `SweepError` for one that there isn't, or can't be used."""
    if name not in EXECUTORS:
        raise SweepError(f"unknown executor {name!r}; expected one of {', '.join(EXECUTORS)}")
    if name == "ray":
        if find_spec("ray") is None:
            raise SweepError(
                "the executor 'ray' needs Ray, which is not installed; run: pip install "
                "'secondary-sinks[ray]'"
            )
        from secondary_sinks.runs.on_ray import OnRay

        return OnRay(address)
    if address is not None:
        raise SweepError(
            f"--ray-address {address!r} is for --executor ray, not for {name!r}; leave one out"
        )
    return InProcess()
