"""The table of the sites of edits: the hook points that edits can change."""

from dataclasses import dataclass
from typing import Any

from secondary_sinks.display import markdown_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A hook point that edits can change."""

    name: str
    words: str
    """What is there, as messages and pages name it."""
    meaning: str
    unit: str = "coordinate"
    """What a single one of its units is called: the `units` of an edit select some."""
    of_pair: bool = False
    """Whether it is of a query and a key: one number per head, and not a row of one token."""
    early: bool = False
    """Whether the attention of its own layer depends on it."""
    first: bool = False
    """Whether only layer 0 has it."""

    @property
    def in_residual(self) -> bool:
        """Whether its vectors are vectors of the residual stream."""
        return self.unit == "coordinate"

    def n_units(self, cfg: Any) -> int:
        """How many units a model with this config has; KV heads are as many as heads if unsaid."""
        found = getattr(cfg, _WIDTHS[self.unit])
        return int(cfg.n_heads if found is None and self.unit == "KV head" else found)


_WIDTHS = {
    **{"coordinate": "d_model", "neuron": "d_mlp"},
    **{"head": "n_heads", "KV head": "n_key_value_heads"},
}
"""The setting of the model that says how many there are."""
SITES = (
    Site(name="mlp_out", words="MLP output", meaning="what the MLP adds to the residual"),
    Site(name="attn_out", words="attention output", meaning="what attention adds to the residual"),
    Site(name="resid_post", words="residual", meaning="the residual after the block"),
    Site(
        name="resid_pre",
        words="residual before the block",
        meaning="the residual that enters the block",
        early=True,
    ),
    Site(
        name="mlp_in",
        words="MLP input",
        meaning="the residual as the MLP alone reads it, before any norm; what the block adds to "
        "stays as it is",
    ),
    Site(
        name="embed",
        words="embedding",
        meaning="the embedding of the token, before its position is added; at layer 0",
        early=True,
        first=True,
    ),
    Site(
        name="z",
        words="head outputs",
        meaning="outputs of the heads before the output projection",
        unit="head",
    ),
    Site(
        name="post",
        words="neurons",
        meaning="neurons of the MLP; not in a mixture of experts",
        unit="neuron",
    ),
    Site(
        name="q",
        words="queries",
        meaning="queries of the heads as projected, before any norm and rotation",
        unit="head",
        early=True,
    ),
    Site(
        name="k",
        words="keys",
        meaning="keys as projected, before any norm and rotation",
        unit="KV head",
        early=True,
    ),
    Site(name="v", words="values", meaning="values as projected", unit="KV head", early=True),
    Site(
        name="attn_scores",
        words="attention score",
        meaning="score of the token, as the query, on the key at `key`, before the softmax",
        unit="head",
        of_pair=True,
        early=True,
    ),
    Site(
        name="pattern",
        words="attention",
        meaning="attention that the token, as the query, pays to the key at `key`, after the "
        "softmax",
        unit="head",
        of_pair=True,
        early=True,
    ),
)
ALL_SITES = tuple(site.name for site in SITES)
OF_TOKEN = tuple(site.name for site in SITES if not site.of_pair)
HEADS = ("z", "q", "k", "v")
"""Sites with one vector per head, or per KV head."""
RESIDUAL = tuple(site.name for site in SITES if site.in_residual)
SITE_OF = {site.name: site for site in SITES}


def sites_as_markdown() -> list[str]:
    """The sites as rows of a table for a page."""
    rows = [(f"`{site.name}`", site.meaning, f"{site.unit}s") for site in SITES]
    return markdown_table(["site", "activation", "`units` selects"], rows)
