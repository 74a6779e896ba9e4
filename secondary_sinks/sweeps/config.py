"""The config of a sweep, and the checks that it can be run."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from secondary_sinks.causal.recipes import check_recipe, meaning
from secondary_sinks.detection.detect import CRITERIA
from secondary_sinks.errors import SweepError
from secondary_sinks.models.devices import parse_device, parse_device_name, parse_dtype
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.proof.prove import check_skip
from secondary_sinks.observation.candidates import FIRST
from secondary_sinks.sweeps.tasks import ROLES, ModelSpec, Unit
from secondary_sinks.sweeps.values import SIMPLE, SPEC, expect_all, expect_list, short
from secondary_sinks.texts import Text, check_feed
from secondary_sinks.texts.many_files import read_many
from secondary_sinks.types import Thresholds, format_layers
from secondary_sinks.types.edit_sites import SITE_OF
from secondary_sinks.types.edits import SHORT
from secondary_sinks.types.lists import parse_numbers, refuse_twice

MOST_LAYERS = 10_000
"""Upper limit on layers; no model has as many."""
TWINS = "mean:twins"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Models x texts x edits x sites x layers; the sinks are found on the way."""

    models: tuple[ModelSpec, ...]
    texts: tuple[str, ...] = ()
    """Files of texts, `bundled:NAME`, or `text:` and a text; empty means `bundled:introduction`."""
    limit: int | None = None
    """Number of texts to take, from the first; None means all."""
    max_tokens: int | None = None
    """Number of tokens to take of each text, from the first; None means all."""
    edits: tuple[str, ...] = ("zero", "twins")
    """Recipes: zero, mean, twins, resample:3, patch:twin, scale:0.5, set_norm:100, ..."""
    sites: tuple[str, ...] = ("mlp_out",)
    layers: tuple[int, ...] | None = None
    """None means all layers of each model."""
    feed: str = "auto"
    thresholds: Thresholds = field(default_factory=Thresholds)
    criterion: str = "joint"
    """By which the table of sinks finds them: joint or paper. Edits need joint."""
    ordinary: int = 0
    """Ordinary tokens tried per sink, in addition to its one control."""
    trace: bool = True
    """Whether to write trace.parquet, the measures at every position."""
    seed: int = 0
    """Recorded only; random draws use the seed in the edit."""
    pooled: bool = False
    """Whether roles are found over all texts together, as `run` does, instead of text by text. If
    so, the sweep may have no edits, and a finished folder accepts no further texts."""

    def check(self, there: Collection[str] = (), *, elsewhere: bool = False) -> None:
        """Raise the error for whatever is wrong with the config, before any model is loaded.

        `SweepError` for an impossible sweep, otherwise the error of the room concerned. `there`
        names models that need not be found; with `elsewhere`, devices belong to other machines.
        """
        self._check_types()
        self._check_lists()
        check_feed(self.feed)
        self._check_criterion()
        for name in ("limit", "max_tokens"):
            if getattr(self, name) == 0:
                raise SweepError(f"{name} is 0", "expected at least 1")
        if self.layers is not None:
            refuse_twice("layers", self.layers, SweepError)
            self._check_first()
        if self.thresholds.paper_first not in range(1, FIRST + 1):
            raise SweepError(
                f"threshold paper_first is {self.thresholds.paper_first}",
                f"expected 1 to {FIRST}: alignments with later positions are not measured",
            )
        self._check_models(there, elsewhere)

    def _check_lists(self) -> None:
        """Refuse no model, edit or site, one that is given twice, and an impossible edit."""
        for name in ("models", "edits", "sites"):
            if not getattr(self, name) and not (name == "edits" and self.pooled):
                raise SweepError(f"a sweep needs {name}; got none")
        refuse_twice("models", [spec.name for spec in self.models], SweepError, self.models)
        refuse_twice("sites", self.sites, SweepError)
        for edit in self.edits:
            for site in self.sites:
                check_recipe(edit, site)
        refuse_twice(
            "edits", self.edits, SweepError, [meaning(edit, self.sites[0]) for edit in self.edits]
        )

    def _check_models(self, there: Collection[str], elsewhere: bool) -> None:
        """Raise the error of a model that cannot be loaded as asked, or is another's double."""
        for spec in self.models:
            check_skip(spec.skip)
            parse_dtype(spec.dtype)
            (parse_device_name if elsewhere else parse_device)(spec.device)
            if spec.n_devices < 1:
                raise SweepError(f"n_devices is {spec.n_devices}", "expected at least 1")
        names = [spec.name for spec in self.models]
        same = [_found(spec) if spec.name not in there else spec for spec in self.models]
        refuse_twice("models", names, SweepError, same)

    def _check_types(self) -> None:
        """Raise `SweepError` for a value of a type or range that no config file could have."""
        expect_list(self, "models", ModelSpec, "ModelSpec(name=...)")
        for name in ("texts", "edits", "sites"):
            expect_list(self, name, str, "strings")
        expect_all(self, SIMPLE)
        for spec in self.models:
            expect_all(spec, {"name": str, **SPEC})
            expect_list(spec, "skip", str, "strings")
        if not isinstance(self.thresholds, Thresholds):
            raise SweepError(
                f"thresholds is {short(self.thresholds)}", "expected Thresholds(aligned=0.9, ...)"
            )
        if self.layers is not None:
            self._check_layers()

    def _check_layers(self) -> None:
        """Refuse layers that no model has, and none at all."""
        words = f"whole numbers from 0 to {MOST_LAYERS - 1}"
        expect_list(self, "layers", int, words)
        layers: Collection[int] = self.layers or ()
        if not layers:
            raise SweepError("layers is empty", "leave it out for all layers")
        for layer in layers:
            if not 0 <= layer < MOST_LAYERS:
                raise SweepError(f"layers holds {short(layer)}", f"expected only {words}")

    def _check_first(self) -> None:
        """Refuse layers that a site before the first layer does not have."""
        first = [site for site in self.sites if SITE_OF[site].first]
        if first and set(self.layers or ()) != {0}:
            raise SweepError(
                f"site {first[0]!r} is before the first layer, got layers "
                f"{format_layers(self.layers or ())}",
                "leave layers out, or edit this site in a sweep of its own, with layers 0",
            )

    def _check_criterion(self) -> None:
        if self.criterion not in CRITERIA:
            raise SweepError(
                f"unknown criterion {self.criterion!r}", f"expected {' or '.join(CRITERIA)}"
            )
        if self.criterion != "joint" and self.edits:
            raise SweepError(
                f"criterion {self.criterion!r} with edits: edited tokens are judged by the joint "
                "criterion",
                "use `detect`, which edits nothing, or leave the criterion out",
            )

    def read(self) -> list[Text]:
        """The texts. Raises `TextError` for a file that cannot be read."""
        return read_many(self.texts, self.limit, self.max_tokens)

    def units(self, n_layers: int) -> tuple[Unit, ...]:
        """All units of a model. Raises `SweepError` for layers that the model does not have."""
        layers = range(n_layers) if self.layers is None else sorted(self.layers)
        beyond = [layer for layer in layers if layer >= n_layers]
        if beyond:
            raise SweepError(
                f"layer {beyond[0]} is out of range",
                f"expected 0 to {n_layers - 1} (the model has {n_layers} layers)",
            )
        units = [
            Unit(edit=edit, site=site, layer=layer)
            for edit in self.edits
            for site in self.sites
            for layer in layers
            if layer == 0 or not SITE_OF[site].first
        ]
        return (*units, ROLES) if self.roles else tuple(units)

    @property
    def roles(self) -> bool:
        """Whether roles are found text by text: when MLP outputs are edited by twins."""
        if self.pooled:
            return False
        return "mlp_out" in self.sites and any(SHORT.get(one, one) == TWINS for one in self.edits)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `config_file.from_dict` reads, every default written out."""
        layers = None if self.layers is None else format_layers(self.layers).replace(" ", "")
        models = [asdict(spec) | {"skip": list(spec.skip)} for spec in self.models]
        lists = {name: list(getattr(self, name)) for name in ("texts", "edits", "sites")}
        return asdict(self) | {"models": models, "layers": layers, **lists}


def _found(spec: ModelSpec) -> tuple[str, ModelSpec]:
    """The identity of a model, independent of its name; raises the errors of `resolve`."""
    source = resolve(spec.name, spec.revision)
    path = source.path if source.kind == "hub" else str(Path(source.path).resolve())
    return source.kind, replace(spec, name=path, revision=source.revision)


def parse_layers(text: str) -> tuple[int, ...]:
    """Parse layers written as numbers and ranges. Raises `SweepError`.

    >>> parse_layers("0-3,20")
    (0, 1, 2, 3, 20)
    """
    try:
        layers = parse_numbers(str(text), MOST_LAYERS)
    except ValueError as error:
        raise SweepError(f"layers {text!r:.60}: {error}") from error
    refuse_twice("layers", layers, SweepError)
    return tuple(layers)
