"""Measures of edited states, the same as in a trace, relative to the clean text."""

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.measures import alignment, centred_alignment, norms
from secondary_sinks.types import Trace

STATES = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm")


def states_of(
    trace: Trace,
    layer: int,
    resid_post: Float[Tensor, "*shape d_model"],
    key_norm: Float[Tensor, "*shape"],
) -> dict[str, Float[Tensor, "*shape"]]:
    """Measures of edited residuals at a layer, by name (`STATES`).

    The primary's direction, the typical token and the median are those of the clean text.
    """
    typical, primary = trace.typical[layer], trace.reference_resid[layer]
    resid_post = resid_post.float().cpu()
    return {
        "norm": norms(resid_post),
        "deviation_ratio": norms(resid_post - typical) / trace.median_deviation[layer],
        "alignment": alignment(resid_post, primary),
        "alignment_centred": centred_alignment(resid_post, primary, typical),
        "key_norm": key_norm.float().cpu(),
    }
