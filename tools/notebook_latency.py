"""Time from a click in the explorer to its result.

    python -m tools.notebook_latency smollm2-135m

prints the table in docs/notebook.md: edits at always other tokens, from the message of the page
until all traits are set, including the control and the figures. Drawing in the browser is not
included.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from secondary_sinks.display import count, markdown_table
from secondary_sinks.errors import SinkError
from secondary_sinks.models import load_model
from secondary_sinks.notebook.widget import SinkExplorer

TEXT = "The miller counted 12 sacks, and 30 more in the barn by the river. "
EDITS: tuple[tuple[str, str], ...] = (
    ("zero", "mlp_out"),
    ("mean", "mlp_out"),
    ("patch", "mlp_out"),
    ("scale", "attn_out"),
    ("remove", "resid_post"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds from a click to its result, over several tokens."""

    kind: str
    layer: int
    median: float
    longest: float


def measure(explorer: SinkExplorer, kind: str, site: str, positions: Sequence[int]) -> Latency:
    """Click on tokens one after the other, with an edit chosen. Raises as `choose`."""
    layer, seconds = explorer.choice["layer"], []
    donor = {"donor": positions[-1]} if kind == "patch" else {}
    for pos in positions[:-1]:
        choice = explorer.choice | {"pos": pos, "kind": kind, "site": site} | donor
        start = time.perf_counter()
        explorer.set_state({"choice": choice})
        seconds.append(time.perf_counter() - start)
        if explorer.error:
            raise SinkError(explorer.error)
    median, longest = statistics.median(seconds), max(seconds)
    return Latency(kind=kind, layer=layer, median=median, longest=longest)


def table(found: Sequence[Latency]) -> str:
    """The edits as a table in Markdown.

    >>> print(table([Latency(kind="zero", layer=2, median=0.0712, longest=0.09)]))
    | edit | layer | median | longest |
    |---|---|---|---|
    | zero | 2 | 71 ms | 90 ms |
    """
    rows = [
        (one.kind, f"{one.layer}", f"{one.median * 1e3:.0f} ms", f"{one.longest * 1e3:.0f} ms")
        for one in found
    ]
    return "\n".join(markdown_table(("edit", "layer", "median", "longest"), rows))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model", help="what `secondary-sinks run` takes")
    parser.add_argument("--tokens", type=int, default=300, help="length of the text")
    given = parser.parse_args()
    try:
        model = load_model(given.model)
        tokens = model.to_tokens(TEXT * (1 + given.tokens // 8))[0, : given.tokens]
        explorer = SinkExplorer(model, tokens)
        positions = list(range(30, 52))
        measure(explorer, "zero", "attn_out", positions[:3])  # warm up
        found = [measure(explorer, kind, site, positions) for kind, site in EDITS]
    except SinkError as error:
        sys.exit(f"error: {error}")
    threads = torch.get_num_threads()
    print(
        f"torch {torch.__version__}, {count(threads, 'thread')}, {len(tokens)} "
        f"tokens\n\n{table(found)}"
    )


if __name__ == "__main__":
    main()
