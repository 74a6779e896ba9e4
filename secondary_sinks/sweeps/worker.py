"""A worker process of a sweep: holds one model and computes tasks with it."""

from collections.abc import Callable
from typing import Any

from secondary_sinks.errors import ModelMismatchError
from secondary_sinks.models import HookedModel, load_model, weight_hash
from secondary_sinks.models.devices import refuse_missing_gpus
from secondary_sinks.models.hook import has_hooked_transformer
from secondary_sinks.sweeps.compute import Seen, Texts, compute, prepare
from secondary_sinks.sweeps.tasks import ModelSpec, Outcome, Prepared, Task
from secondary_sinks.types import Thresholds


def load_spec(spec: ModelSpec) -> HookedModel:
    """Load the model of a spec; over several GPUs, accelerate divides a bridge."""
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


class ModelHolder:
    """Holds the one model that a process has in memory."""

    def __init__(self, loader: Callable[[ModelSpec], HookedModel] = load_spec) -> None:
        """Hold no model yet. `loader` gives that of a spec; by default it is loaded by its name."""
        self._load = loader
        self._held: dict[ModelSpec, HookedModel] = {}
        self._hashes: dict[ModelSpec, str] = {}

    def get(self, spec: ModelSpec) -> HookedModel:
        """The model of a spec; a different one is released first."""
        if spec not in self._held:
            self.clear()
            self._held[spec] = self._load(spec)
        return self._held[spec]

    def prepare(self, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds) -> Prepared:
        """Load a model and tokenize the texts with it."""
        found = prepare(self.get(spec), spec, texts, feed, thresholds)
        self._hashes[spec] = found.model["weights_sha256"]
        return found

    def compute(self, task: Task, seen: Seen | None = None) -> Outcome:
        """Compute a task. Raises `ModelMismatchError` if the weights are not the expected ones.

        Another machine may have other weights under the same name.
        """
        model = self.get(task.spec)
        here = self._hashes.get(task.spec) or weight_hash(model)
        self._hashes[task.spec] = here
        if here != task.weights_sha256:
            raise ModelMismatchError(
                f"model {task.spec.name!r} has other weights here (sha256 {here[:12]}) than where "
                f"the sweep was planned ({task.weights_sha256[:12]})",
                "expected the same files everywhere",
            )
        return compute(model, task, seen)

    def clear(self) -> None:
        """Release the model."""
        self._held.clear()
        self._hashes.clear()
