"""The table of edit kinds: everything else reads what it says.

A kind of edit is one row: what it does to an activation, its parameters with their ranges, and the
sites where it is possible. `Edit` reads and writes labels by it, `causal` checks and applies by it,
the command line and docs/edits.md list it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.display import markdown_table
from secondary_sinks.errors import EditError
from secondary_sinks.types.edit_sites import HEADS, OF_TOKEN, RESIDUAL, SITES

Row = Float[Tensor, "*site"]
ANY, LENGTH = (-math.inf, math.inf), (0.0, math.inf)
LARGEST = torch.finfo(torch.float32).max
"""Edits are made in float32: a larger value would be infinite there."""
SEEDS = 2**32
"""Seeds are below this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """What an edit works with besides the activation itself."""

    row: Row | None = None
    """What is put in its place, for the kinds that replace."""
    direction: Float[Tensor, "d_model"] | None = None
    """The primary's direction, of length 1."""
    value: float = math.nan
    """The edit's `value`, for the kinds that have one."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EditKind:
    """A kind of edit; the fields of `Edit` that it does not name must keep their defaults."""

    name: str
    becomes: str
    """What the activation becomes, as a table of a page says it."""
    apply: Callable[[Row, Given], Row]
    """In float32, on whole activations or on single heads `[head, d_head]`, neurons `[neuron]`; on
    scores and attention `[head]` of a query and a key."""
    sites: tuple[str, ...] = OF_TOKEN
    value: tuple[float, float] | None = None
    """Least and largest `value`; None: it has no value."""
    seed: bool = False
    """Whether a label gives its `seed`."""
    over: tuple[str, ...] = ()
    """What its mean can be over, the default first."""
    donor: bool = False
    """Whether it needs a `donor`, of this text or of `text`."""
    key: bool = False
    """Whether it needs a `key`, which comes before the token."""
    replaces: bool = False
    """Whether it puts the activation of other tokens in the place of this one."""
    directed: bool = False
    """Whether it needs the primary's direction."""
    of_vectors: bool = False
    """Whether it needs whole vectors, and so takes no single coordinates of the residual."""

    @property
    def label(self) -> str:
        """The form of its label, as a command line takes it.

        >>> KINDS["rotate"].label, KINDS["mean"].label, KINDS["zero"].label
        ('rotate:VALUE[:SEED]', 'mean[:OVER]', 'zero')
        """
        if self.key:
            return f"{self.name}:KEY" + (":VALUE" if self.value else "")
        if self.value is not None:
            return f"{self.name}:VALUE" + ("[:SEED]" if self.seed else "")
        if self.donor:
            return f"{self.name}:[TEXT@]POSITION[+POSITION]"
        return self.name + ("[:OVER]" if self.over else "[:SEED]" if self.seed else "")


def _replace(row: Row, given: Given) -> Row:
    assert given.row is not None
    return given.row


def _scale(row: Row, given: Given) -> Row:
    return row * given.value


def _set_norm(row: Row, given: Given) -> Row:
    length = row.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise EditError("the norm of a zero activation cannot be set; it has no direction")
    return row * (given.value / length)


def _rotate(row: Row, given: Given) -> Row:
    chance = torch.Generator().manual_seed(given.seed)
    other = torch.randn(row.shape, generator=chance).to(row.device)
    length = row.norm(dim=-1, keepdim=True)
    ahead = row / length.clamp(min=1e-30)
    across = other - (other * ahead).sum(-1, keepdim=True) * ahead
    across = across / across.norm(dim=-1, keepdim=True)
    angle = math.radians(given.value)
    return row * math.cos(angle) + across * (length * math.sin(angle))


def _component(row: Row, given: Given) -> Row:
    assert given.direction is not None
    return (row @ given.direction) * given.direction


def _steer(row: Row, given: Given) -> Row:
    assert given.direction is not None
    return row + given.value * given.direction


def _knock_out(row: Row, given: Given) -> Row:
    hidden = row < torch.finfo(row.dtype).min / 2  # by the causal mask or a window
    return row.where(hidden, -torch.inf)


EDIT_KINDS = (
    EditKind(name="none", becomes="unchanged: the no-op", apply=lambda row, given: row),
    EditKind(name="zero", becomes="zero", apply=lambda row, given: torch.zeros_like(row)),
    EditKind(
        name="mean",
        becomes="its mean over `over`: `ordinary` tokens of the text, its token `twins` that are "
        "ordinary at every layer (in short: `twins`), or a `reference` corpus (`reference_means`)",
        apply=_replace,
        over=("ordinary", "twins", "reference"),
        replaces=True,
    ),
    EditKind(
        name="resample",
        becomes="that of a random token of the same text that is ordinary at every layer (`seed`)",
        apply=_replace,
        seed=True,
        replaces=True,
    ),
    EditKind(
        name="patch",
        becomes="that of the token at `donor` (if there are several, their mean), in this text or "
        "in `text` (give its trace as `others=`)",
        apply=_replace,
        donor=True,
        replaces=True,
    ),
    EditKind(name="scale", becomes="itself times `value`", apply=_scale, value=ANY),
    EditKind(
        name="set_norm",
        becomes="rescaled to norm `value`, in the same direction",
        apply=_set_norm,
        value=LENGTH,
        sites=(*RESIDUAL, *HEADS),
        of_vectors=True,
    ),
    EditKind(
        name="rotate",
        becomes="rotated by `value` degrees towards a random direction (`seed`), at the same norm",
        apply=_rotate,
        value=LENGTH,
        seed=True,
        sites=(*RESIDUAL, *HEADS),
        of_vectors=True,
    ),
    EditKind(
        name="remove",
        becomes="itself without its component along the primary's direction",
        apply=lambda row, given: row - _component(row, given),
        directed=True,
        of_vectors=True,
        sites=RESIDUAL,
    ),
    EditKind(
        name="keep",
        becomes="only its component along the primary's direction",
        apply=_component,
        directed=True,
        of_vectors=True,
        sites=RESIDUAL,
    ),
    EditKind(
        name="steer",
        becomes="itself plus `value` along the primary's direction (in units of the residual)",
        apply=_steer,
        value=ANY,
        directed=True,
        of_vectors=True,
        sites=RESIDUAL,
    ),
    EditKind(
        name="knockout",
        becomes="minus infinity: the token pays no attention to the earlier token at `key`, and "
        "its other attention is normalised again",
        apply=_knock_out,
        key=True,
        sites=("attn_scores",),
    ),
    EditKind(
        name="reweight",
        becomes="itself times `value`, while the attention to other keys stays as it is",
        apply=_scale,
        key=True,
        value=ANY,
        sites=("pattern",),
    ),
)
"""Single neurons have no direction, and heads have none along the residual's: hence the sites."""
KINDS = {kind.name: kind for kind in EDIT_KINDS}
OVER = tuple(over for kind in EDIT_KINDS for over in kind.over)


def kinds_as_markdown() -> list[str]:
    """The kinds as rows of a table for a page.

    >>> kinds_as_markdown()[3]
    '| `zero` | zero |  | all but `attn_scores`, `pattern` |'
    """
    rows = [(f"`{kind.label}`", kind.becomes, _range(kind), _places(kind)) for kind in EDIT_KINDS]
    return markdown_table(["label", "the activation becomes", "value", "sites"], rows)


def _range(kind: EditKind) -> str:
    if kind.value is None:
        return ""
    low, high = kind.value
    named = {ANY: "any number", LENGTH: "at least 0"}
    return named.get(kind.value, f"{low:g} to {high:g}")


def _places(kind: EditKind) -> str:
    if kind.sites == OF_TOKEN:
        others = [f"`{site.name}`" for site in SITES if site.of_pair]
        return f"all but {', '.join(others)}"
    return ", ".join(f"`{name}`" for name in kind.sites)
