"""Estimate the work, time and disk space of a sweep without loading weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from secondary_sinks.causal.recipes import SINK
from secondary_sinks.display import count
from secondary_sinks.errors import RunFolderError, TextError
from secondary_sinks.memory import gigabytes
from secondary_sinks.models.devices import parse_device, parse_dtype
from secondary_sinks.models.model_size import weight_bytes
from secondary_sinks.models.original.read import Outline, outline
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.runs.hashes import DECIDING
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import plan
from secondary_sinks.sweeps.stored_config import read_stored
from secondary_sinks.sweeps.tasks import ROLES, ModelSpec, Prepared
from secondary_sinks.texts import Text, TokenizedText, as_fed_first, tokenize

Known = Sequence[tuple[ModelSpec, Prepared]]
TRACE_ROW, CELL_ROW = 70, 60
"""Bytes on disk per row of trace.parquet and of effects.parquet, for shards plus tables."""
SHARE_OF_PEAK = 0.4
"""Fraction of the speed of a large matrix product that a pass with its measures reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """Estimate for one model of a sweep."""

    name: str
    texts: int
    units: int
    done: int
    """Units that are finished already."""
    passes: int
    """Forward passes still to make: one to observe each text, one to edit it."""
    tokens: int
    """Tokens in these passes."""
    cells_per_sink: int
    """Cells per sink, controls included."""
    sinks: float | None
    """Expected number of sinks, from the finished texts; None if no text is finished."""
    weights_gb: float
    disk_gb: float
    seconds: float
    basis: str
    """What the expected time is based on."""
    bad: tuple[str, ...] = ()
    """Texts that cannot be fed, with reasons."""

    @property
    def cells(self) -> int | None:
        """Expected number of cells; None while no finished text tells the number of sinks."""
        return None if self.sinks is None else round(self.sinks * self.cells_per_sink)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Estimate for all models of a sweep."""

    models: tuple[ModelEstimate, ...]

    def lines(self) -> list[str]:
        """The estimate as lines to print."""
        found = []
        for one in self.models:
            found += [
                f"{one.name}: {count(one.texts, 'text')}, {count(one.units, 'unit')} (edit x "
                "site x layer x text)",
                f"  done already      {one.done} of {count(one.units, 'unit')}",
                f"  cells             {_cells(one)}",
                f"  forward passes    {one.passes}",
                f"  tokens            {one.tokens:,}",
                f"  weights           {gigabytes(one.weights_gb * 1e9)}",
                f"  on the disk       about {gigabytes(one.disk_gb * 1e9)}",
                f"  expected time     {duration(one.seconds)} ({one.basis})",
                *(f"  skipped           {bad}" for bad in one.bad),
            ]
        return found


def _cells(one: ModelEstimate) -> str:
    per = f"{one.cells_per_sink} per sink (with its control)"
    if one.sinks is None:
        return f"{per}; how many sinks there are shows when texts are observed"
    return f"{per}, so about {one.cells:,} for {one.sinks:.0f} sinks expected"


def duration(seconds: float) -> str:
    """Format seconds as a readable duration.

    >>> duration(0.4), duration(75.0), duration(7500.0)
    ('under a second', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 1:
        return "under a second"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def estimate(config: SweepConfig, out: Path) -> Estimate:
    """Estimate a sweep. Raises the error of an invalid config, model or file."""
    texts = config.read()
    manifest = Manifest(out)
    manifest.check()
    known = _known(out)
    models = tuple(_model(config, spec, texts, manifest, known) for spec in config.models)
    return Estimate(models=models)


def _known(out: Path) -> Known:
    """Models that the sweep in the folder loaded before, with their hashes."""
    try:
        return read_stored(out).models
    except RunFolderError:
        return ()


def _measured_rate(manifest: Manifest, keys: set[str]) -> float | None:
    """Seconds per token and pass, from the finished texts; None if no text is finished."""
    entries = [entry for entry in manifest.entries if entry.task in keys and entry.seconds]
    tokens = sum(entry.n_tokens * (1 + bool(entry.units)) for entry in entries)
    seconds = sum(took for entry in entries for took in entry.seconds.values())
    return seconds / tokens if tokens else None


def _model(
    config: SweepConfig,
    spec: ModelSpec,
    texts: Sequence[Text],
    manifest: Manifest,
    known: Known,
) -> ModelEstimate:
    seen = outline(resolve(spec.name, spec.revision), trust_remote_code=spec.trust_remote_code)
    before = dict(known).get(spec)
    fed, bad = _feed(config, seen, texts, before.texts if before else ())
    work = plan(config, spec, _prepared(spec, seen, fed, known), manifest)
    keys, size = {task.key for task in work.tasks}, sum(len(task.tokens) for task in work.tasks)
    sinks, rate = _sinks(manifest, keys, size), _measured_rate(manifest, keys)
    edits = [unit.edit for unit in config.units(seen.n_layers) if unit != ROLES]
    per_sink = sum((1 if edit == SINK else 2) + config.ordinary for edit in edits)
    rows = size * seen.n_layers * TRACE_ROW * config.trace
    # Seconds per token of a pass: two operations per weight at the speed of a matrix product
    return ModelEstimate(
        name=spec.name,
        texts=len(work.tasks),
        units=work.n_units,
        done=work.n_units - work.n_missing,
        passes=work.n_passes,
        tokens=work.n_tokens,
        cells_per_sink=per_sink,
        sinks=sinks,
        weights_gb=weight_bytes(seen.parameters, spec.dtype or "float32") / 1e9,
        disk_gb=2 * (rows + (sinks or 0) * per_sink * CELL_ROW) / 1e9,
        seconds=work.n_tokens
        * (rate or (2 * seen.parameters / (SHARE_OF_PEAK * _operations_per_second(spec)))),
        basis="measured on the finished texts" if rate else "estimated from a timed matrix product",
        bad=bad,
    )


def _feed(
    config: SweepConfig, seen: Outline, texts: Sequence[Text], before: Sequence[TokenizedText]
) -> tuple[tuple[TokenizedText, ...], tuple[str, ...]]:
    """The texts that fit, tokenized, and what is wrong with the others.

    `before` are texts that the sweep in the folder already fed to this model.
    """
    stored = {text.text_id: text for text in before}
    found, bad = list[TokenizedText](), list[str]()
    least, most = config.thresholds.min_queries + 1, seen.n_ctx or 1 << 30
    for text in texts:
        try:
            now = tokenize(text, seen.tokenizer, config.feed)
            fed = as_fed_first(now, stored.get(text.text_id))
            check_ids(list(fed.ids), seen.d_vocab, seen.tokenizer, f"text {text.text_id!r}")
        except TextError as error:
            bad.append(str(error))
            continue
        if least <= len(fed.ids) <= most:
            found.append(fed)
        else:
            expected = f"expected {least} to {most}"
            bad.append(f"text {text.text_id!r} has {len(fed.ids)} tokens; {expected}")
    if bad and not found:
        raise TextError(bad[0])
    return tuple(found), tuple(bad)


def _prepared(
    spec: ModelSpec, seen: Outline, fed: tuple[TokenizedText, ...], known: Known
) -> Prepared:
    """The model as the sweep in the folder loaded it; else without hashes, so nothing is done."""
    mine = (spec.name, spec.revision, spec.dtype, spec.bridge)
    same = [
        prepared.model
        for one, prepared in known
        if (one.name, one.revision, one.dtype, one.bridge) == mine
    ]
    model = same[0] if same else {"n_layers": seen.n_layers} | dict.fromkeys(DECIDING, "")
    dtype = str(parse_dtype(spec.dtype)).removeprefix("torch.")
    return Prepared(model=model, device="", dtype=dtype, versions={}, texts=fed)


def _sinks(manifest: Manifest, keys: set[str], tokens: int) -> float | None:
    """Expected number of sinks in all texts, extrapolated from the finished ones."""
    found = {e.task: e for e in manifest.entries if e.task in keys and e.shards}
    seen = sum(entry.n_tokens for entry in found.values())
    return sum(entry.n_sinks for entry in found.values()) * tokens / seen if seen else None


def _operations_per_second(spec: ModelSpec) -> float:
    size = 1024
    device, dtype = parse_device(spec.device), parse_dtype(spec.dtype)
    one = torch.ones(size, size, device=device, dtype=dtype)
    (one @ one).sum().item()  # warm-up, slower than later ones
    begin = time.perf_counter()
    for _ in range(4):
        result = one @ one
    result.sum().item()  # waits for the device
    return 4 * 2 * size**3 / (time.perf_counter() - begin)
