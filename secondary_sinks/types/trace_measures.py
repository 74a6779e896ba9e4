"""The table of what a `Trace` measures by layer and position; columns and pages read it."""

from dataclasses import dataclass

from secondary_sinks.display import markdown_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measure: a field (or property) of `Trace` `[layer, pos]`, and what is said of it."""

    name: str
    unit: str
    meaning: str
    """In a few words, as a column of trace.parquet."""
    definition: str
    """As docs/measures.md defines it."""
    range: str
    kind: str = "float"
    """Type of its column: float or int."""
    in_frame: bool = True
    """Whether it is a column of `Trace.to_frame` and of trace.parquet."""
    added: bool = False
    """Whether folders of earlier versions lack it; it is NaN there."""


MEASURES = (
    Measured(
        name="norm",
        unit="length of the residual",
        meaning="norm of resid_post",
        definition="norm of `resid_post`",
        range="≥ 0",
    ),
    Measured(
        name="norm_ratio",
        unit="medians",
        meaning="norm, divided by its median over the text",
        definition="`norm` divided by its median over the text",
        range="≥ 0",
    ),
    Measured(
        name="deviation_ratio",
        unit="medians",
        meaning="distance from the typical token",
        definition="distance from the typical token, divided by its median over the text",
        range="≥ 0",
    ),
    Measured(
        name="alignment",
        unit="cosine",
        meaning="cosine with the primary",
        definition="signed cosine of `resid_post` with the primary's at the same layer",
        range="-1 … 1",
    ),
    Measured(
        name="alignment_centred",
        unit="cosine",
        meaning="the same, minus the typical token",
        definition="the same after the typical token is subtracted from both",
        range="-1 … 1",
    ),
    Measured(
        name="mass",
        unit="share of attention",
        meaning="mean attention received in this block",
        definition="attention paid to the key in block *l*: mean over the queries that can see it, "
        "and over heads",
        range="0 … 1",
    ),
    Measured(
        name="mass_null",
        unit="share of attention",
        meaning="mass under evenly spread attention",
        definition="`mass` if every query spread its attention evenly over the keys that it sees",
        range="0 … 1",
        in_frame=False,
    ),
    Measured(
        name="mass_excess",
        unit="share of attention",
        meaning="mass above the even share",
        definition="`mass - mass_null`",
        range="-1 … 1",
    ),
    Measured(
        name="mass_local",
        unit="share of attention",
        meaning="median mass of the neighbouring keys",
        definition="median `mass` of the keys within 16 positions: the usual mass at this place, "
        "which includes recency",
        range="0 … 1",
    ),
    Measured(
        name="queries",
        unit="queries",
        meaning="number of queries that see the key",
        definition="number of queries that can see the key (with a sliding window, at most its "
        "length)",
        range="≥ 1",
        kind="int",
    ),
    Measured(
        name="paid_to_primary",
        unit="share of attention",
        meaning="attention that this query pays to the primary",
        definition="attention that the query at this position pays, in block *l*, to the reference "
        "of layer *l - 1* (the primary, or the token in its place): mean over heads; NaN if it "
        "cannot see that token",
        range="0 … 1",
        added=True,
    ),
    Measured(
        name="score",
        unit="1",
        meaning="mean attention score before the softmax",
        definition="attention score of the key (q·k x scale, before soft-cap and softmax): mean "
        "over the queries that can see it, and over heads",
        range="any number",
    ),
    Measured(
        name="key_norm",
        unit="length of a key",
        meaning="norm of the used key: after q/k norm and rotation",
        definition="norm of the **used** key: as used in scores, after q/k norm and rotation; mean "
        "over KV heads",
        range="≥ 0",
    ),
    Measured(
        name="key_norm_raw",
        unit="length of a key",
        meaning="norm of the raw key: the output of k_proj",
        definition="norm of the **raw** key: the output of `k_proj`, before q/k norm and "
        "rotation, as in the paper's figure 1; mean over KV heads",
        range="≥ 0",
        added=True,
    ),
    Measured(
        name="value_norm",
        unit="length of a value",
        meaning="norm of the value, mean over KV heads",
        definition="norm of the value, mean over KV heads",
        range="≥ 0",
    ),
    Measured(
        name="mlp_norm",
        unit="length of the residual",
        meaning="norm of the MLP's output",
        definition="norm of the MLP's output (`hook_mlp_out`)",
        range="≥ 0",
    ),
    Measured(
        name="mlp_alignment",
        unit="cosine",
        meaning="cosine of the MLP's output with the primary",
        definition="signed cosine of the MLP's output with the primary's `resid_post` at the same "
        "layer",
        range="-1 … 1",
    ),
)
"""In the order of the columns."""


def as_markdown() -> list[str]:
    """The measures as rows of a table for a page."""
    rows = [(f"`{one.name}`", one.definition, one.range) for one in MEASURES]
    return markdown_table(["name", "definition", "range"], rows)
