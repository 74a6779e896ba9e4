"""Measures of edited states, the same as in a trace, relative to the clean text."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import EditError
from secondary_sinks.measures import alignment, centred_alignment, norms
from secondary_sinks.types import Cell, Trace, dump_cells

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


def refuse_overflow(
    layer: int, cells: Sequence[Cell], resid_post: Float[Tensor, "cell *shape d_model"]
) -> None:
    """Raise `EditError` for the first cell with a residual whose length is no finite number."""
    finite = norms(resid_post).isfinite().reshape(len(cells), -1).all(1).tolist()
    if not all(finite):
        raise EditError(
            f"the residual at layer {layer} is NaN or too long to be measured after the edit "
            f"{dump_cells([cells[finite.index(False)]]).strip():.200}",
            "expected finite numbers: give a smaller value. In float16 a massive token may "
            "overflow: use float32 or bfloat16",
        )
