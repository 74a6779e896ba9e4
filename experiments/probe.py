"""Run a single MLP on arbitrary inputs."""

import numpy as np
import torch

from experiments.members import Rows
from experiments.shared import Observed


class Probe:
    """One MLP by itself: its output for any input, and that output's cosine with the primary."""

    def __init__(self, observed: Observed, layer: int) -> None:
        """The direction is the primary's, mean over texts, minus the typical token's."""
        self.mlp = observed.model.blocks[layer].mlp
        self.like = next(observed.model.parameters())
        away = [t.reference_resid[layer] - t.typical[layer] for t in observed.traces]
        known = [one / one.norm() for one in away if bool(torch.isfinite(one).all())]
        mean = torch.stack(known).mean(0).double().numpy()
        self.direction: Rows = mean / np.linalg.norm(mean)

    def __call__(self, inputs: Rows) -> Rows:
        """Output of the MLP, one row per input row."""
        given = torch.from_numpy(inputs)[None].to(self.like.device, self.like.dtype)
        with torch.no_grad():
            output = self.mlp(given)
        output = output[0] if isinstance(output, tuple) else output
        return np.asarray(output[0].cpu().double().numpy())

    def answers(self, inputs: Rows) -> tuple[Rows, Rows]:
        """Norm of the output, and its cosine with the direction (NaN for zero output)."""
        written = self(inputs)
        lengths = np.linalg.norm(written, axis=1)
        return lengths, written @ self.direction / np.where(lengths > 0, lengths, np.nan)

    def along(self, inputs: Rows) -> Rows:
        """Projection of the output on the direction, signed."""
        return self(inputs) @ self.direction


def principal_directions(rows: Rows, number: int) -> Rows:
    """The first principal directions, not centred, with the sign of the mean projection."""
    axes = np.linalg.svd(rows, full_matrices=False)[2][:number]
    return axes * np.where(axes @ rows.mean(0) < 0, -1.0, 1.0)[:, None]
