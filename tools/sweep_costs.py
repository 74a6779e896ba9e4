"""Time of a sweep on this machine, and estimates for larger models and longer texts.

    python -m tools.sweep_costs 512 1024 2048 --out probe

sweeps bundled texts with these numbers of tokens (all layers, one edit) in a new folder, and prints
the tables of docs/scaling.md. The first is measured: seconds from the sweep's manifest. The second
is estimated from its last row: `operations` of the other model and length, at the same speed. Use
`--device cuda --dtype bfloat16` and `--model` for the numbers of your own machine.

    python -m tools.sweep_costs --paper

prints the least time on some GPUs, from their data sheets: nothing is measured.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from secondary_sinks.display import markdown_table
from secondary_sinks.models import HookedModel, load_model
from secondary_sinks.models.model_size import BYTES, weight_bytes
from secondary_sinks.sweeps import ModelSpec, SweepConfig, sweep
from secondary_sinks.sweeps.entries import Entry
from secondary_sinks.sweeps.estimate import duration
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.texts import TokenizedText, bundled_corpus

PASSES = 2
"""Passes over each text: one to observe it, one to edit it."""
LENGTHS = (1_000, 4_000, 16_000)
OF_LENGTHS = [f"texts of {n:,}" for n in LENGTHS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of a model that determine its operations; `width` is number of heads x head size."""

    name: str
    parameters: int
    n_layers: int
    n_heads: int
    width: int


SHOWN = (
    Sizes(name="SmolLM2-135M", parameters=134_515_008, n_layers=30, n_heads=9, width=576),
    Sizes(name="Qwen3-4B", parameters=4_022_468_096, n_layers=36, n_heads=32, width=4096),
    Sizes(name="Qwen3-14B", parameters=14_768_307_200, n_layers=40, n_heads=40, width=5120),
    Sizes(name="Qwen2.5-32B", parameters=32_763_876_352, n_layers=64, n_heads=40, width=5120),
    Sizes(name="Llama-2-70B", parameters=68_976_648_192, n_layers=80, n_heads=64, width=8192),
)
"""Some models of `secondary-sinks models`, with the sizes in their configs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Figures of a data sheet: dense bfloat16 operations and bytes per second, and memory."""

    name: str
    operations: float
    bandwidth: float
    memory: float


GPUS = (
    Gpu(name="A100 80 GB", operations=312e12, bandwidth=2.04e12, memory=80e9),
    Gpu(name="H100 SXM", operations=989e12, bandwidth=3.35e12, memory=80e9),
    Gpu(name="H200", operations=989e12, bandwidth=4.8e12, memory=141e9),
)
SCORES = 10
"""How often a score is written or read while softmax, denominators and received attention are
computed from it; only a pass that edits needs denominators, and so the scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time for the sweep of one text."""

    n_tokens: int
    n_sinks: int
    n_cells: int
    observe: float
    """Seconds for observing."""
    edit: float
    """Seconds for editing."""
    speed: float
    """Operations per second of both passes, as `operations` counts them."""


def operations(model: Sizes, n_tokens: int) -> int:
    """Operations of one pass: two per weight and token, plus attention over all earlier keys.

    >>> tiny = Sizes(name="tiny", parameters=100, n_layers=2, n_heads=1, width=8)
    >>> operations(tiny, 10)  # 10 x (2 x 100 + 2 x 2 x 8 x 10)
    5200
    """
    attention = 2 * model.n_layers * model.width * n_tokens
    return n_tokens * (2 * model.parameters + attention)


def sizes_of(model: HookedModel) -> Sizes:
    """The sizes of a loaded model."""
    return Sizes(
        name=str(model.cfg.model_name),
        parameters=sum(weight.numel() for weight in model.parameters()),
        n_layers=model.cfg.n_layers,
        n_heads=model.cfg.n_heads,
        width=model.cfg.n_heads * model.cfg.d_head,
    )


def measure(model: HookedModel, lengths: Sequence[int], out: Path) -> list[Cost]:
    """Sweep one text of each length. Raises the errors of `sweep`."""
    words = "\n\n".join(text.raw for text in bundled_corpus())
    ids = torch.tensor(model.tokenizer(words)["input_ids"])
    texts = [
        TokenizedText(text_id=f"{n}", tokens=ids.repeat(n // len(ids) + 1)[:n], feed="raw", fed="")
        for n in lengths
    ]
    config = SweepConfig(models=(ModelSpec(name="here"),))
    sweep(config, out, models={"here": model}, texts=texts)
    sizes = sizes_of(model)
    done = Manifest(out)
    done.read()
    return [_cost(entry, sizes) for entry in done.entries]


def _cost(entry: Entry, sizes: Sizes) -> Cost:
    seconds = sum(entry.seconds.values())
    return Cost(
        n_tokens=entry.n_tokens,
        n_sinks=entry.n_sinks,
        n_cells=entry.n_cells,
        observe=entry.seconds["observe"],
        edit=entry.seconds["edit"],
        speed=PASSES * operations(sizes, entry.n_tokens) / seconds,
    )


def measured_table(costs: Sequence[Cost]) -> str:
    """The measured costs as a Markdown table."""
    rows = [
        (f"{one.n_tokens:,}", f"{one.n_sinks}", f"{one.n_cells:,}", f"{one.observe:.1f} s",
         f"{one.edit:.1f} s", f"{one.speed / 1e9:.1f} x 10^9")
        for one in costs
    ]  # fmt: skip
    head = ("tokens", "sinks", "cells", "observe", "edit", "operations per second")
    return "\n".join(markdown_table(head, rows))


def estimated_table(speed: float) -> str:
    """Estimated time for 10,000 tokens by model and text length, as a Markdown table."""
    rows = [
        [model.name]
        + [duration(PASSES * operations(model, n) / n * 10_000 / speed) for n in LENGTHS]
        for model in SHOWN
    ]
    return "\n".join(markdown_table(["model", *OF_LENGTHS], rows))


def least_seconds(model: Sizes, n_tokens: int, gpu: Gpu) -> float:
    """Least time of both passes over a text in bfloat16: operations, then moving the scores.

    >>> gpu = Gpu(name="", operations=5200.0, bandwidth=1e9, memory=1.0)
    >>> tiny = Sizes(name="tiny", parameters=100, n_layers=2, n_heads=1, width=8)
    >>> round(least_seconds(tiny, 10, gpu), 5)
    2.0
    """
    scores = model.n_layers * model.n_heads * n_tokens**2 / 2
    moved = SCORES * scores * BYTES["bfloat16"] / gpu.bandwidth
    return PASSES * operations(model, n_tokens) / gpu.operations + moved


def paper_table() -> str:
    """Least time for 10,000 tokens by GPU, model and text length, as a Markdown table."""
    rows = []
    for gpu in GPUS:
        for model in SHOWN[1:]:
            fits = weight_bytes(model.parameters, "bfloat16") < gpu.memory
            times = [least_seconds(model, n, gpu) * 10_000 / n for n in LENGTHS]
            cells = [f"{each:.2f} s" for each in times] if fits else ["does not fit"] * len(times)
            rows.append([gpu.name, model.name, *cells])
    return "\n".join(markdown_table(["GPU", "model", *OF_LENGTHS], rows))


def main() -> None:
    """Print both tables, or that of data sheets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("tokens", nargs="*", type=int, help="lengths of texts, in tokens")
    parser.add_argument("--out", type=Path, help="folder for the sweep; new")
    parser.add_argument("--paper", action="store_true", help="print the table of data sheets")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default=None)
    given = parser.parse_args()
    if given.paper:
        print(paper_table())
        return
    if not given.tokens or given.out is None:
        parser.error("expected lengths of texts and --out, or --paper")
    model = load_model(given.model, given.device, given.dtype)
    costs = measure(model, given.tokens, given.out)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {model.cfg.device}\n")
    print(measured_table(costs), estimated_table(round(costs[-1].speed, -8)), sep="\n\n")


if __name__ == "__main__":
    main()
