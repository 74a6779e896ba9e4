"""What a whole `run` costs, from a loaded model to its report, and each of its verdicts."""

import tempfile
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks import Edit, Trace, detect
from secondary_sinks.observation.tokens import tokenize_given
from secondary_sinks.report import write_report
from secondary_sinks.report.claims import verdicts_of
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import ModelSpec, SweepConfig, run
from tools.speed_peers import HookedPeer

EDITS = ("zero", "mean")


class WholeRun:
    """A run of one text: two edits of each sink and of its control, at every layer."""

    def __init__(self, model: Any, trace: Trace) -> None:
        """Run once, to know the cells and the number of verdicts."""
        self.model, self.trace = model, trace
        self._layers = {sink.pos: list(sink.layers) for sink in detect(trace).sinks}
        self.effects, self.n_verdicts = self._run()
        rows = self.effects[["edit", "pos", "layer"]].itertuples(index=False)
        self.edits = [Edit.of_label(edit, pos=pos, layer=layer) for edit, pos, layer in rows]

    def norms(self) -> Float[Tensor, "cell 1"]:
        """Run again; the norm of each edited token, mean over the layers of its sink."""
        effects, _ = self._run()
        return torch.tensor(effects["norm_edited"].to_numpy())[:, None]

    def plain_norms(self, cells: Sequence[int]) -> Float[Tensor, "cell 1"]:
        """The same of some cells, by a forward pass with hooks for each."""
        peer = HookedPeer(self.model, self.trace)
        norm = peer.states([self.edits[cell] for cell in cells])
        own = [self._layers[int(pos)] for pos in self.effects["sink_pos"].iloc[list(cells)]]
        means = [row[layers].mean() for row, layers in zip(norm, own, strict=True)]
        return torch.stack(means)[:, None]

    def _run(self) -> tuple[pd.DataFrame, int]:
        """The cells of a new run, and how many verdicts its report has."""
        spec = ModelSpec(name="model", device=str(self.model.cfg.device))
        text = tokenize_given(self.model, self.trace.tokens, "text")
        with tempfile.TemporaryDirectory() as path:
            folder = RunFolder(path)
            config = SweepConfig(models=(spec,), edits=EDITS)
            run(config, path, models={"model": self.model}, texts=[text])
            write_report(folder)
            return folder.table("effects"), len(verdicts_of(folder.record(), {}))
