"""Plants, and the true sinks that follow from them, as data.

A `Plant` says what the residual of one token gets along the sink direction, layer by layer, and
which components write it. `expected_sinks` derives the true sinks from that alone. Strengths are in
units of the residual; ordinary tokens are about 6 from the typical token. A strength between `WEAK`
and `STRONG` is refused: a criterion may decide either way, so there is no clear truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from secondary_sinks.errors import PlantError

STRONG = 24.0
"""Minimum strength of a sink: four times the length of ordinary content."""
WEAK = 12.0
"""Maximum strength of a token that is not a sink: twice the length of ordinary content."""
PRIMARY = 300.0
"""Minimum strength of a primary sink; secondary sinks have at most half of it."""
STAYS, LEAST_QUERIES, LEAST_LAYERS = 0.8, 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A planted token at `pos`, which gets `strength` along the sink direction.

    Who writes it:

    * `forming`: layers whose MLPs write it in equal parts. Two parts that are each strong are
      redundant; two weak parts make a sink only together.
    * `chain`: of two MLPs, the first only writes what makes the second write all of it.
    * `by="attention"`: the last head of the one forming layer copies it from the token at `source`
      (default: the token before), without an MLP.
    * `identity`: the MLP of this earlier layer writes which token it is, at all its token twins
      too, and the forming MLPs write only if they read that.
    * `trigger`: earlier layers whose last head must read the token at `source`. This head reads
      other tokens too: its score is `trigger_score` on the source, 4.5 on a primary. The forming
      MLPs write in proportion to how much of it these heads have read; layers count alike.
    * `dies`: the layer whose MLP removes it (None: it stays).

    Who reads it, and what it tells:

    * `read_by`: the heads that attend to it, from its creation on (default: all heads);
    * `value`: how much each head writes per unit of attention to it, into the content of the token
      that attends (default: next to nothing, as a massive token has little content after the norm).

    Decoys:

    * `sideways`: the strength is along an axis of its own, so the token is massive but not aligned;
    * a negative `strength`: the token is anti-aligned;
    * `attended`: heads attend to the token (True) or not (False), regardless of its sink direction;
    * `content`: factor on its ordinary content, so that a small strength is enough to be aligned.
    """

    pos: int
    forming: tuple[int, ...] = ()
    dies: int | None = None
    strength: float = 60.0
    chain: bool = False
    identity: int | None = None
    by: str = "mlp"
    trigger: tuple[int, ...] = ()
    trigger_score: float = 4.0
    source: int | None = None
    sideways: bool = False
    attended: bool | None = None
    content: float = 1.0
    read_by: tuple[int, ...] | None = None
    value: float = 0.0

    @property
    def l_start(self) -> int:
        """Creation layer: the first at which the sum of the parts so far is strong."""
        strong = [layer for layer in range(max(self.forming) + 1) if self.along(layer) >= STRONG]
        return strong[0]

    def lifetime(self, n_layers: int) -> int:
        """Number of layers whose resid_post has a strong component."""
        return sum(self.along(layer) >= STRONG for layer in range(n_layers))

    def change(self, layer: int) -> float:
        """Contribution of the block of `layer` along the plant's axis."""
        if layer == self.dies:
            return -self.strength
        writers = self.forming[-1:] if self.chain else self.forming
        return self.strength / len(writers) if layer in writers else 0.0

    def along(self, layer: int) -> float:
        """Component of the resid_post of `layer` along the plant's axis."""
        return sum(self.change(below) for below in range(layer + 1))

    @property
    def copied_at(self) -> tuple[int, ...]:
        """Layers whose last head copies from the giver to this token."""
        return self.forming if self.by == "attention" else self.trigger

    @property
    def has_own_axis(self) -> bool:
        """Whether heads read a component along an axis of its own."""
        return self.attended is not None or self.read_by is not None or self.value != 0

    @property
    def giver(self) -> int:
        """The position that an attention head copies from."""
        return self.pos - 1 if self.source is None else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A component that writes along the sink direction at a planted token."""

    site: str
    """mlp_out or attn_out."""
    layer: int
    index: int
    """Index of the neuron (MLP) or the head (attention)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An edge of attention without which a sink would not be written."""

    layer: int
    head: int
    source: int
    """Position of the token that the head reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSink:
    """A true sink, and the components that write it."""

    pos: int
    kind: str
    """primary, primary_like, secondary, or transient (fewer than three layers in a row, and the
    model goes on). Of primaries that exist at the same layers, any one may be found as the primary,
    and the others as primary_like."""
    layers: tuple[int, ...]
    censored: str
    formed_by: tuple[Writer, ...]
    removed_by: tuple[Writer, ...]
    needed: tuple[Writer, ...]
    """Those of `formed_by` without which there is no sink at any layer."""
    triggered_by: tuple[Read, ...] = ()
    """What it must have read: with all of these cut there is no sink, and a token twin that has
    read the same is one. Empty where attention has no part in it."""

    @property
    def l_start(self) -> int:
        """Creation layer."""
        return self.layers[0]

    @property
    def lifetime(self) -> int:
        """Number of layers at which it is a sink."""
        return len(self.layers)


def expected_sinks(
    plants: Sequence[Plant], n_layers: int, n_pos: int, last_head: int
) -> tuple[ExpectedSink, ...]:
    """The true sinks of a planted text: primaries first, then by position.

    Raises `PlantError` if a token is strong along the sink direction while there is no primary.
    """
    strong = {
        pos: _strong_layers(plants, pos, n_layers, n_pos) for pos in sorted({p.pos for p in plants})
    }
    strong = {pos: layers for pos, layers in strong.items() if layers}
    primaries = _primaries(plants, strong)
    active = {layer for pos in primaries for layer in strong[pos]}
    found = []
    for pos in sorted(strong, key=lambda pos: (pos not in primaries, pos)):
        layers = sorted(strong[pos] & active)
        if not layers:
            raise PlantError(
                f"the plant at {pos} exists at no layer with a primary; it would be one itself"
            )
        if layers == [n_layers - 1]:
            continue
        kind = "primary" if pos in primaries else _kind(plants, pos, layers, active)
        if kind != "primary" and not _lasts(layers, strong[pos] - active, n_layers):
            kind = "transient"
        ends = (layers[0] - 1 in strong[pos] - active, layers[-1] + 1 in strong[pos] - active)
        left, right = ends[0] or layers[0] == 0, ends[1] or layers[-1] == n_layers - 1
        found.append(
            ExpectedSink(
                pos=pos,
                kind=kind,
                layers=tuple(layers),
                censored={(0, 0): "none", (1, 0): "left", (0, 1): "right"}.get(
                    (left, right), "both"
                ),
                **_writers(plants, pos, n_layers, last_head),
                triggered_by=tuple(
                    Read(layer=layer, head=last_head, source=one.giver)
                    for one in plants
                    if one.pos == pos
                    for layer in one.copied_at
                ),
            )
        )
    return tuple(found)


def _strong_layers(plants: Sequence[Plant], pos: int, n_layers: int, n_pos: int) -> set[int]:
    """Layers at which the token at `pos` is strong along the sink direction, and attended."""
    own = [one for one in plants if one.pos == pos and not one.sideways]
    if pos > n_pos - LEAST_QUERIES or any(one.attended is False for one in own):
        return set()
    strong = {layer for layer in range(n_layers) if sum(one.along(layer) for one in own) >= STRONG}
    last = n_layers - 1  # no block reads it: a sink can continue there, but not start
    return strong - {last} if last - 1 not in strong else strong


def _strength(plants: Sequence[Plant], pos: int) -> float:
    return max(one.strength for one in plants if one.pos == pos and not one.sideways)


def _primaries(plants: Sequence[Plant], strong: dict[int, set[int]]) -> list[int]:
    """The strongest, then others as massive that also exist at layers without it."""
    massive = [pos for pos in strong if _strength(plants, pos) >= PRIMARY]
    if strong and not massive:
        raise PlantError(f"expected a plant of strength {PRIMARY:g} or more as the primary")
    chosen: list[int] = []
    for pos in sorted(massive, key=lambda pos: -_strength(plants, pos)):
        if strong[pos] - set().union(*(strong[other] for other in chosen)):
            chosen.append(pos)
    return chosen


def _kind(plants: Sequence[Plant], pos: int, layers: list[int], active: set[int]) -> str:
    stays = len(layers) >= STAYS * len(active)
    with_it = layers[0] <= min(active) or _strength(plants, pos) >= PRIMARY
    return "primary_like" if stays and with_it else "secondary"


def _lasts(layers: list[int], goes_on: set[int], n_layers: int) -> bool:
    """Whether some run is long enough; what follows the last layer is not known to be over."""
    stands = goes_on.union(layers, range(n_layers, n_layers + LEAST_LAYERS))
    runs = [range(first, first + LEAST_LAYERS) for first in range(n_layers)]
    return any(stands.issuperset(run) and not set(run).isdisjoint(layers) for run in runs)


def _writers(
    plants: Sequence[Plant], pos: int, n_layers: int, last_head: int
) -> dict[str, tuple[Writer, ...]]:
    """Writers at a position; `needed` only if a single plant is there."""
    own = [(index, one) for index, one in enumerate(plants) if one.pos == pos]
    formed, removed, needed = [], [], []
    for index, one in own:
        attention = one.by == "attention"
        writers = [
            Writer(
                site="attn_out" if attention else "mlp_out",
                layer=layer,
                index=last_head if attention else index,
            )
            for layer in one.forming
        ]
        formed += writers
        rest = one.strength * (1 - 1 / len(one.forming)) if one.forming else 0.0
        if len(own) == 1 and (one.chain or rest <= WEAK):
            needed += writers
        if one.dies is not None:
            removed.append(Writer(site="mlp_out", layer=one.dies, index=index))
    return {"formed_by": tuple(formed), "removed_by": tuple(removed), "needed": tuple(needed)}
