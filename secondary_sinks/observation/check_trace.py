"""Check that a trace was measured on a model, before attribution or edits use it."""

import torch

from secondary_sinks.errors import TraceError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.measures import norms
from secondary_sinks.observation.layers import LayerView
from secondary_sinks.types import Trace


def check_trace(model: HookedModel, trace: Trace) -> None:
    """Raise `TraceError` if the trace is of a model with another number of layers or d_model."""
    shape = (model.cfg.n_layers, model.cfg.d_model)
    if tuple(trace.typical.shape) != shape:
        raise TraceError(
            f"the trace was measured on a model with (layers, d_model) = "
            f"{tuple(trace.typical.shape)}, this one has {shape}; observe the text with this model"
        )


def check_same_states(view: LayerView, trace: Trace) -> None:
    """Raise `TraceError` if the norms of a layer differ from those in the trace."""
    measured, computed = trace.norm[view.layer], norms(view.resid_post).cpu()
    tolerance = 1e-3 if view.resid_post.dtype == torch.float32 else 5e-2
    if not torch.allclose(computed, measured, rtol=tolerance, atol=tolerance):
        raise TraceError(
            f"the trace is of another model: norms differ from layer {view.layer} on; observe the "
            "text with this model"
        )
