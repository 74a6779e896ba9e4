"""Roles: which MLP writes a sink, and which only enable the one that does?

Zeroing an MLP at a token also takes away what the MLP says of the token, so that a sink may end
for want of its identity. A role therefore rests on the output at the *same* token elsewhere, where
it is no sink, and on what restoring an output alone brings back (the tests of `role_tests`).

    T  its replacement by the output at its twins ends the sink: the mean over them, and most single
    C  its output makes most twins sinks
    M  it mediates: with all earlier MLPs zeroed and its clean output kept the sink lives, and with
       its output zeroed too it does not
    A  its output lies along the primary's direction, more than 99 % of random directions do
    L  a later MLP, up to the creation layer, mediates: this one is not needed for more

    T    C    M    A    L    role
    yes  yes  yes  yes  no   writer
    yes  -    -    -    yes  enabler: what it does for the sink it does through a later MLP
    yes  any other           undecided, unless several MLPs write it together (below)
    no   yes                 undecided: enough, but not needed; another MLP or a head writes it too
    no   no                  neither; also where zeroing ends the sink, which then took away what
                             the MLP writes at this token everywhere
    ?                        undecided: no twin, or the twins disagree

Several MLPs write a sink *together* if those with T and A, none of which is a writer alone, pass C
and M as a group, all other MLPs up to the last of them zeroed; a member is a writer if the group
without it fails. An MLP with T before the last of them that is no member is an enabler.

At layer 0 there is no earlier MLP: M is then what zeroing says, and cannot mislead on its own.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
from scipy import stats

from secondary_sinks.causal.replay import Progress
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.role_tests import Asked, asked_of, group_tests, run_pairs, run_tests
from secondary_sinks.questions.writers import shares_of_roles, writer_verdicts
from secondary_sinks.types import SinkTable, Trace, format_layers
from secondary_sinks.types.frames import tidy

CHANCE = 0.01
"""How often a random direction lies along the primary's as much as an aligned output must."""

Group = tuple[int, ...]
Alive = Mapping[tuple[Group, str], float]
"""(layers, test) of one sink -> the share of cells after which there is a sink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one MLP is to one sink."""

    text_id: str
    pos: int
    token_id: int
    token: str
    kind: str
    level: float
    l_start: int
    layer: int
    role: str
    """writer, enabler, neither or undecided."""
    why: str
    """The tests that decided, in words."""
    ended_zero: bool
    """Whether zeroing its output ends the sink."""
    ended_twin: float
    """1 where the mean of its outputs at the twins, in its place, ends the sink, 0 where not."""
    ended_each: float
    """Share of single twins whose output ends it."""
    created_in_twin: float
    """Share of twins that its output makes sinks."""
    rescued_alone: bool
    """Whether the sink lives with all earlier MLPs zeroed and its clean output kept."""
    lives_without: bool
    """Whether it lives with its output zeroed too: then `rescued_alone` says nothing."""
    write_alignment: float
    """Cosine of its output with the primary's state of the layer; NaN where no primary is."""
    write_null: float
    """The 99th percentile of that cosine for random directions."""
    n_donors: int
    """Twins that were tried."""

    @property
    def ends(self) -> bool | None:
        """T of the table: None where it is unknown."""
        if not self.n_donors or (self.ended_twin == 1) != (self.ended_each > 0.5):
            return None
        return self.ended_twin == 1

    @property
    def creates(self) -> bool:
        """C of the table."""
        return self.created_in_twin > 0.5

    @property
    def mediates(self) -> bool:
        """M of the table."""
        return self.rescued_alone and not self.lives_without

    @property
    def along(self) -> bool:
        """A of the table; where no primary is there, nothing lies along it."""
        return self.write_alignment > self.write_null


def roles(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """The role of each MLP up to the creation layer, for every secondary and strong sink.

    `cells` has one row per sink and layer (`Role`), `effects` the share of sinks by level, layer
    and role, and there is one verdict per level, or one per writer where most of its sinks have
    several; `Verdict.layer` is the writer's. Twins are taken from the sink's own text, else from
    the given text that has most of them. `progress` is called with (texts done, texts). Verdicts
    are corrected for `n_claims` (`n_claims_of`); by default those of this answer.
    """
    texts = [traces] if isinstance(traces, Trace) else list(traces)
    asked, left_out = asked_of(texts, sinks)
    found: list[Role] = []
    for done, text in enumerate(texts):
        if progress:
            progress(done, len(texts))
        found += _of_sinks(model, [one for one in asked if one.trace is text], sinks)
    if progress:
        progress(len(texts), len(texts))
    table = tidy([asdict(role) for role in found], Role)
    return Answer(
        question="roles",
        cells=table,
        effects=shares_of_roles(table),
        verdicts=writer_verdicts(table, n_claims),
        left_out=left_out,
        n_censored=sum(one.sink.censored != "none" for one in asked),
    )


def null_cosine(d_model: int, chance: float = CHANCE) -> float:
    """What the cosine of a random direction with a given one exceeds with this probability.

    In closed form: r with r sqrt((d - 1) / (1 - r^2)) of Student's t with d - 1 degrees of freedom.

    >>> round(null_cosine(896), 3)
    0.078
    """
    t = float(stats.t.ppf(1 - chance, d_model - 1))
    return t / math.sqrt(d_model - 1 + t * t)


def _of_sinks(model: HookedModel, asked: Sequence[Asked], sinks: SinkTable) -> list[Role]:
    """The roles at the sinks of one text, in order."""
    alive = _by_sink(run_tests(model, asked, sinks))
    tested = [_measured(one, alive[_place(one)]) for one in asked]
    open_ones = [(one, together) for one, rows in zip(asked, tested, strict=True)
                 if len(together := _candidates(rows)) > 1]  # fmt: skip
    pairs = [
        (one, trial)
        for one, group in open_ones
        for part in (group, *_without_one(group))
        for trial in group_tests(one, part)
    ]
    joint = _by_sink(run_pairs(model, pairs, sinks))
    groups = {_place(one): _together(group, joint[_place(one)]) for one, group in open_ones}
    return [
        role
        for one, rows in zip(asked, tested, strict=True)
        for role in decided(rows, groups.get(_place(one), ()))
    ]


def _place(one: Asked) -> tuple[str, int]:
    return one.sink.text_id, one.sink.pos


def _by_sink(frame: pd.DataFrame) -> dict[tuple[str, int], dict[tuple[Group, str], float]]:
    found: dict[tuple[str, int], dict[tuple[Group, str], float]] = {}
    columns = (frame[name] for name in ("text_id", "pos", "group", "test", "alive"))
    for text_id, pos, group, test, alive in zip(*columns, strict=True):
        found.setdefault((str(text_id), int(pos)), {})[group, test] = float(alive)
    return found


def _measured(one: Asked, alive: Alive) -> list[Role]:
    """One row per layer, not yet decided."""
    sink, nan = one.sink, math.nan
    null = null_cosine(one.trace.typical.shape[1])
    return [
        Role(
            text_id=sink.text_id,
            pos=sink.pos,
            token_id=sink.token_id,
            token=sink.token,
            kind=sink.kind,
            level=sink.level,
            l_start=sink.l_start,
            layer=layer,
            role="undecided",
            why="",
            ended_zero=alive[(layer,), "zero"] == 0,
            ended_twin=1 - alive.get(((layer,), "twin"), nan),
            ended_each=1 - alive.get(((layer,), "each"), nan),
            created_in_twin=alive.get(((layer,), "create"), nan),
            rescued_alone=alive[(layer,), "rescue"] > 0,
            lives_without=alive[(layer,), "floor"] > 0,
            write_alignment=float(one.trace.mlp_alignment[layer, sink.pos]),
            write_null=null,
            n_donors=len(one.twins),
        )
        for layer in range(sink.l_start + 1)
    ]


def _candidates(rows: Sequence[Role]) -> Group:
    """MLPs that may write a sink together; none where one writes it alone."""
    if any(decide(row, rows)[0] == "writer" for row in rows):
        return ()
    return tuple(row.layer for row in rows if row.ends and row.along)


def _without_one(group: Group) -> list[Group]:
    return [tuple(layer for layer in group if layer != one) for one in group]


def _together(group: Group, alive: Alive) -> Group:
    """The members without which the group makes no sink; none where it makes none itself."""
    if not _passes(group, alive):
        return ()
    parts = zip(group, _without_one(group), strict=True)
    return tuple(layer for layer, rest in parts if not _passes(rest, alive))


def _passes(group: Group, alive: Alive) -> bool:
    rescued = alive[group, "rescue"] > 0 and alive[group, "floor"] == 0
    return rescued and alive.get((group, "create"), math.nan) > 0.5


def decided(rows: Sequence[Role], together: Group = ()) -> list[Role]:
    """The rows of one sink with their roles; `together` are MLPs that write it as a group."""
    found = []
    for row in rows:
        role, why = decide(row, rows)
        if row.layer in together:
            role, why = "writer", f"together with MLPs {format_layers(together)}"
        elif together and row.ends and row.layer < max(together):
            role, why = "enabler", f"through MLPs {format_layers(together)}"
        found.append(replace(row, role=role, why=why))
    return found


def decide(row: Role, rows: Sequence[Role]) -> tuple[str, str]:
    """The role of one MLP and the reason, by the table above; `rows` are all of its sink."""
    later = [other.layer for other in rows if other.layer > row.layer and other.mediates]
    if row.ends is None:
        none = "the token occurs nowhere else without a sink"
        return "undecided", "its twins disagree" if row.n_donors else none
    if not row.ends:
        return _not_needed(row)
    if later:
        return "enabler", f"through MLP {later[-1]}"
    failed = {
        "its output makes no sink in the twins": not row.creates,
        "it does not rescue the sink alone": not row.mediates,
        "its output does not lie along the primary": not row.along,
    }
    if any(failed.values()):
        return "undecided", "it ends the sink, but " + " and ".join(w for w in failed if failed[w])
    return "writer", "alone"


def _not_needed(row: Role) -> tuple[str, str]:
    if row.creates:
        return "undecided", "its output makes a sink in the twins, yet the sink does not need it"
    only = "zeroing alone ends it: what it writes at this token elsewhere is enough"
    return "neither", only if row.ended_zero else "the sink does not need it"
