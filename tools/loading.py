"""Peak memory while a model is loaded, in units of its weights.

    python -m tools.loading smollm2-135m

prints the table in docs/models.md. Each load runs in a process of its own, which loads a tiny model
first, so that libraries are not counted. Memory is the peak of the process minus its memory before
the load, as Linux counts it: pages of mapped files are included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from secondary_sinks.display import markdown_table
from secondary_sinks.errors import SinkError
from secondary_sinks.models import load_model, model_size
from secondary_sinks.models.devices import parse_dtype
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.testing import families
from tools.peak_memory import peak, reset_peak

DTYPES = ("float32", "bfloat16")
CHILD = """
import json, sys
from tools.loading import peak_of_loading
print(json.dumps(peak_of_loading(*json.loads(sys.argv[1]))))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Memory for loading a model."""

    dtype: str
    model_class: str
    weights_mib: float
    """Number of weights, each counted once, times the bytes of the dtype; in MiB."""
    peak_mib: float
    """Peak memory beyond that before the load, in MiB; NaN on systems other than Linux."""

    @property
    def ratio(self) -> float:
        """The peak in units of the weights."""
        return self.peak_mib / self.weights_mib


def peak_of_loading(model: str, dtype: str, bridge: bool) -> tuple[str, float]:
    """Class of the loaded model, and peak memory of loading it in this process, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        families.save("llama", folder)
        load_model(folder, device="cpu", dtype=dtype, bridge=bridge or None)
    before = reset_peak()
    loaded = load_model(model, device="cpu", dtype=dtype, bridge=bridge or None)
    return type(loaded).__name__, peak() - before


def weights(model: str, dtype: str) -> float:
    """Size of the weights in MiB; by reading them, as `load_model` does."""
    original = read_original(resolve(model), parse_dtype(dtype)).model
    size = model_size.size_of(original, model)
    return model_size.weight_bytes(size.parameters, size.dtype) / 2**20


def measure(model: str, dtype: str = "float32", *, bridge: bool = False) -> Loading:
    """Measure loading a model, in a separate process. Raises `ModelError` if it cannot be read."""
    size = weights(model, dtype)
    child = [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps([model, dtype, bridge])]
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    name, most = json.loads(done.stdout.splitlines()[-1])
    return Loading(dtype=dtype, model_class=name, weights_mib=size, peak_mib=most)


def table(found: Sequence[Loading]) -> str:
    """The loads as a table in Markdown."""
    rows = [
        (one.dtype, one.model_class, f"{one.weights_mib:,.0f} MiB", f"{one.peak_mib:,.0f} MiB",
         f"{one.ratio:.2f}")
        for one in found
    ]  # fmt: skip
    head = ("dtype", "class", "weights", "peak", "peak / weights")
    return "\n".join(markdown_table(head, rows))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model", help="what `secondary-sinks run` takes")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--bridge", action="store_true", help="load a TransformerBridge")
    given = parser.parse_args()
    dtypes = given.dtype or DTYPES
    try:
        found = [measure(given.model, dtype, bridge=given.bridge) for dtype in dtypes]
    except SinkError as error:
        sys.exit(f"error: {error}")
    print(f"torch {torch.__version__}\n\n{table(found)}")


if __name__ == "__main__":
    main()
