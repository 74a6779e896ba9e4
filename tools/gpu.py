"""Is everything right and fast on this GPU? A check of a few minutes with random weights.

    python -m tools.gpu --out results/gpu

Needs no network and no weights. It writes gpu.json and gpu.md, a table for docs/speed.md.

- equality: a trace of a few layers on the device against the processor, in float32 and bfloat16,
  also for layers with a soft-cap and a window. Differences in bfloat16 are held against its own
  error on the processor.
- streaming: all measures of a text against a pass of Hugging Face's model with fused attention,
  which measures nothing, and against one with eager attention, which could.
- sweep: the states of 8 tokens after three edits at every layer (one clean pass is part of it),
  in units of the fused pass, and against the strongest plain way on the shortest text: a prefill
  and one decoded token per cell.
- memory: the peak during streaming and sweep beyond the weights.

On a processor it runs tiny shapes, to test the check itself. Times are medians of interleaved
runs after a first one that is not counted.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from experiments.command import start
from secondary_sinks import Edit, Trace, observe, replay
from secondary_sinks.causal.donors import resolve_donors
from secondary_sinks.cli import NAMED_PATH, say, whole
from secondary_sinks.display import markdown_table
from secondary_sinks.layerwise.choose_kernel import Kind, agrees
from secondary_sinks.models.devices import parse_device
from secondary_sinks.runs import RunFolder
from tools.gpu_models import changed, hooked_of, limited, random_model, shapes, text
from tools.peak_memory import peak, reset_peak
from tools.speed import KINDS
from tools.speed_peers import DecodePeer


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One shape on one text. NaN where something did not fit into memory or was not tried."""

    shape: str
    n_tokens: int
    sdpa_s: float
    streaming_s: float
    eager_s: float
    sweep_s: float
    decode_s: float
    n_cells: int
    peak_gb: float
    kernel: bool
    """Whether a fused kernel of the device gives received attention as the slow path does."""

    @property
    def streaming_passes(self) -> float:
        """Streaming in units of the fused pass; the goal is 1.6 at most for the largest shape."""
        return self.streaming_s / self.sdpa_s

    @property
    def sweep_passes(self) -> float:
        """The sweep in the same units; the goal is 2 at most."""
        return self.sweep_s / self.sdpa_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Equal:
    """How far a trace on the device is from one on the processor, relative to the largest value."""

    shape: str
    dtype: str
    field: str
    difference: float
    rounding: float
    """The same between this type and float32, both on the processor; 0 for float32."""


def equality(name: str, config: Any, device: torch.device, n_tokens: int) -> list[Equal]:
    """Compare traces of the first layers of a shape."""
    small = changed(config, num_hidden_layers=min(4, config.num_hidden_layers), vocab_size=256)
    tokens, exact, rows = text(256, n_tokens), None, []
    for dtype in (torch.float32, torch.bfloat16):
        here, there = (
            observe(hooked_of(random_model(small, at, dtype)), tokens)
            for at in (torch.device("cpu"), device)
        )
        exact = exact or here
        for field in ("mass", "norm", "alignment"):
            ours, theirs, true = (getattr(one, field) for one in (there, here, exact))
            rows.append(
                Equal(
                    shape=name,
                    dtype=str(dtype).removeprefix("torch."),
                    field=field,
                    difference=_relative(ours, theirs),
                    rounding=_relative(theirs, true),
                )
            )
    return rows


def measure(
    config: Any, name: str, device: torch.device, lengths: Sequence[int], runs: int
) -> list[Timed]:
    """Time one shape on texts of some lengths."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    theirs = random_model(config, device, dtype)
    model = hooked_of(theirs)
    return [
        _timed(theirs, model, name, text(config.vocab_size, n), runs, decode=n == min(lengths))
        for n in lengths
    ]


def _timed(theirs: Any, model: Any, name: str, tokens: Tensor, runs: int, *, decode: bool) -> Timed:
    device = theirs.device
    trace = observe(model, tokens)
    cells = _cells(trace)
    there = replace(trace, tokens=tokens.to(device))
    works: dict[str, Callable[[], Any]] = {
        "sdpa_s": lambda: _plain(theirs, tokens, "sdpa"),
        "streaming_s": lambda: observe(model, tokens),
        "sweep_s": lambda: replay(model, trace, cells, attention=False),
        "eager_s": lambda: _plain(theirs, tokens, "eager"),
    }
    if decode:
        works["decode_s"] = lambda: DecodePeer(theirs, there).states(cells)
    found = medians(works, device, runs)
    peaks = [_peak(works[one], device) for one in ("streaming_s", "sweep_s")]
    return Timed(
        shape=name,
        n_tokens=len(tokens),
        n_cells=len(cells),
        peak_gb=max(peaks),
        kernel=_has_kernel(theirs),
        **{"decode_s": float("nan")} | found,
    )


def _has_kernel(model: Any) -> bool:
    config = model.config
    kind = Kind(
        device=model.device,
        dtype=model.dtype,
        n_heads=config.num_attention_heads,
        n_groups=config.num_key_value_heads,
        d_head=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        soft_cap=None,
        window=None,
    )
    return agrees(kind)


def medians(
    works: Mapping[str, Callable[[], Any]], device: torch.device, runs: int
) -> dict[str, float]:
    """Median seconds of each work, in turns, after one run that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs + 1):
        for name, work in works.items():
            times[name].append(_seconds(work, device))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """NaN if it does not fit into memory."""
    start = time.perf_counter()
    try:
        work()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return float("nan")
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _peak(work: Callable[[], Any], device: torch.device) -> float:
    """Gigabytes beyond what is held before, which includes the weights."""
    if device.type != "cuda":
        before = reset_peak()
        work()
        return (peak() - before) * 2**20 / 1e9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def _plain(model: Any, tokens: Tensor, attention: str) -> None:
    """A pass without logits that measures nothing."""
    model.set_attn_implementation(attention)
    with torch.no_grad():
        model.base_model(tokens[None].to(model.device), use_cache=False)
    model.set_attn_implementation("sdpa")


def _cells(trace: Trace) -> list[Edit]:
    """Three edits of 8 tokens at every layer, with their donors drawn."""
    places = torch.linspace(0.1, 0.9, 8).mul(len(trace.tokens)).long().tolist()
    edits = [
        Edit.of_label(kind, pos=pos, layer=layer)
        for kind in KINDS
        for pos in places
        for layer in range(len(trace.norm))
    ]
    return [resolve_donors(trace, (edit,))[0] for edit in edits]


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def table(timed: Sequence[Timed], equal: Sequence[Equal], device: torch.device) -> str:
    """Both tables, in Markdown."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor"
    passes = [
        {
            "shape": one.shape,
            "tokens": one.n_tokens,
            "fused pass, s": one.sdpa_s,
            "streaming, passes": one.streaming_passes,
            "eager, passes": one.eager_s / one.sdpa_s,
            "sweep, passes": one.sweep_passes,
            "cells": one.n_cells,
            "decoding, passes": one.decode_s / one.sdpa_s,
            "peak beyond weights, GB": one.peak_gb,
            "fused kernel": "yes" if one.kernel else "no",
        }
        for one in timed
    ]
    parts = [_markdown(rows) for rows in (passes, [asdict(one) for one in equal])]
    return "\n\n".join([f"On {where}, torch {torch.__version__}:", *parts]) + "\n"


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])
    cells = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row.values()] for row in rows]
    return "\n".join(markdown_table(names, cells))


def _command(
    out: Annotated[Path, typer.Option(**NAMED_PATH, help="Folder for gpu.json and gpu.md.")],
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu. Default: the fastest available.")
    ] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(min=16, help="Length of a text; may be repeated.")
    ] = None,
    runs: Annotated[int, whole("Interleaved runs of each work.", least=1)] = 3,
) -> None:
    """Check one device, print the tables, write DIR/gpu.json and DIR/gpu.md."""
    where = torch.device(parse_device(device))
    lengths = tokens or ([64, 128] if where.type == "cpu" else [1024, 4096, 16_384])
    configs = shapes(where)
    out.mkdir(parents=True, exist_ok=True)
    first = next(iter(configs))
    compared = {first: configs[first], "with soft-cap and window": limited(where)}
    equal = [
        row
        for name, config in compared.items()
        for row in equality(name, config, where, min(lengths))
    ]
    timed = []
    for name, config in configs.items():
        say(f"{name}: texts of {', '.join(map(str, lengths))} tokens")
        timed += measure(config, name, where, lengths, runs)
        if where.type == "cuda":
            torch.cuda.empty_cache()
    folder = RunFolder(out)
    found = {"timed": [asdict(one) for one in timed], "equal": [asdict(one) for one in equal]}
    folder.write_text("gpu.json", json.dumps(found, indent=2) + "\n")
    folder.write_text("gpu.md", table(timed, equal, where))
    print(table(timed, equal, where))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, "tools.gpu", arguments)


if __name__ == "__main__":
    main()
