"""Does a trace belong to a model? Attribution and edits measure against it, so it must."""

import torch

from secondary_sinks.errors import TraceError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.measures import norms
from secondary_sinks.observation.layers import LayerView
from secondary_sinks.types import Trace


def check_trace(model: HookedModel, trace: Trace) -> None:
    """Raise `TraceError` for a trace of a model of another shape."""
    shape = (model.cfg.n_layers, model.cfg.d_model)
    if tuple(trace.typical.shape) != shape:
        raise TraceError(
            f"the trace was measured on a model with (layers, d_model) = "
            f"{tuple(trace.typical.shape)}, this one has {shape}; observe the text with this model"
        )


def check_same_states(view: LayerView, trace: Trace) -> None:
    """Raise `TraceError` where the walk does not see what the trace saw."""
    measured, seen = trace.norm[view.layer], norms(view.resid_post).cpu()
    tolerance = 1e-3 if view.resid_post.dtype == torch.float32 else 5e-2
    if not torch.allclose(seen, measured, rtol=tolerance, atol=tolerance):
        raise TraceError(
            f"the trace is of another model: norms differ from layer {view.layer} on; observe the "
            "text with this model"
        )
