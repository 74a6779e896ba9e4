"""Memory and time of `observe` on long texts, with SmolLM2-135M.

    python -m tools.long_texts 2048 4096 8192 16384

prints the table in docs/measures.md. The texts are random tokens after the usual first one. The
model was trained for 8,192 tokens; longer texts get meaningless numbers at the same cost. Memory is
the peak of the process minus its memory before (weights and libraries), as Linux counts it.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secondary_sinks.display import markdown_table
from secondary_sinks.foreign import load_weights
from secondary_sinks.layerwise.chunks import fitting_chunk
from secondary_sinks.models import load_model
from secondary_sinks.models.gguf.cache import converted_folder, embedded_gguf
from secondary_sinks.observation import observe
from tools.peak_memory import peak, reset_peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Memory and time for one text."""

    n_pos: int
    """Tokens of the text."""
    chunk: int
    """Queries at a time."""
    seconds: float
    cpu_seconds: float
    """Sum over all threads; the reliable number on a busy machine."""
    peak_mib: float
    """Peak memory beyond that before the pass, in MiB; NaN on systems other than Linux."""
    pattern_mib: float
    """Size of one layer's attention pattern in float32, in MiB."""


def long_model(n_ctx: int) -> Any:
    """SmolLM2-135M as a hooked model with a context of `n_ctx` tokens."""
    original = load_weights(
        converted_folder(embedded_gguf()), trusted=False, max_position_embeddings=n_ctx
    )
    return load_model(original, device="cpu")


def measure(model: Any, n_pos: int) -> Cost:
    """Observe a text of token 1 and random others, `n_pos` in all, and measure its cost."""
    generator = torch.Generator().manual_seed(n_pos)
    tokens = torch.randint(model.cfg.d_vocab, (n_pos,), generator=generator)
    tokens[0] = 1
    before, start, cpu_start = reset_peak(), time.perf_counter(), time.process_time()
    observe(model, tokens)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Cost(
        n_pos=n_pos,
        chunk=fitting_chunk(model.cfg.n_heads, n_pos),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_mib=peak() - before,
        pattern_mib=model.cfg.n_heads * n_pos**2 * 4 / 2**20,
    )


def table(costs: Sequence[Cost]) -> str:
    """The costs as a table in Markdown."""
    rows = [
        (f"{one.n_pos:,}", f"{one.chunk}", f"{one.seconds:.0f} s", f"{one.cpu_seconds:.0f} s",
         f"{one.peak_mib:,.0f} MiB", f"{one.pattern_mib:,.0f} MiB")
        for one in costs
    ]  # fmt: skip
    head = ("tokens", "chunk", "time", "CPU time", "memory", "one pattern")
    return "\n".join(markdown_table(head, rows))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("tokens", nargs="+", type=int, help="lengths of texts, in tokens")
    given = parser.parse_args()
    model = long_model(max(given.tokens))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(table([measure(model, n_pos) for n_pos in given.tokens]))


if __name__ == "__main__":
    main()
