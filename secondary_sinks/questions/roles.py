"""Roles: which MLP writes a sink, and which ones only enable the writer?

Zeroing an MLP at a token also removes what it writes about which token this is, and a sink may end
for this reason alone. A role therefore rests on replacing the output by that at the *same* token
elsewhere, where it is not a sink, and on restoring a single output (the tests of `role_tests`):

    T  replacing its output by that at the twins ends the sink: by their mean, and by most of them.
       What still draws half of its attention has not ended
    C  its output makes most twins sinks, and these do not draw half of the sink's attention anyway
    M  it mediates: with all earlier MLPs zeroed and its clean output kept the token is a sink, and
       with its output zeroed too it neither is one nor draws half of its attention
    A  its output is aligned with the primary's direction, more than 99 % of random directions are
    L  a later MLP, up to the creation layer, mediates (passes M)

    T    C    M    A    L    role
    yes  yes  yes  yes  no   writer
    yes  -    -    -    yes  enabler: its effect on the sink goes through a later MLP
    yes  any other           undecided, unless several MLPs write it together (below)
    no   yes                 undecided: enough, but not needed; another MLP or a head writes it too
    no   -                   undecided if the mean over the twins ends the norm or the direction of
                             the sink, but not its attention: what heads attend to is not this
    no   no                  neither; also if zeroing ends the sink, since zeroing then removed what
                             the MLP writes at every token with this id
    ?                        undecided: no twin, or the twins disagree

Several MLPs may write a sink *together*: if none is a writer alone, those with T and A are tested
for C and M as a group, with all other MLPs up to the last of them zeroed. If the group passes, its
needed members are those without which it fails. They are writers together if there are several, and
if they pass C and M as a group of their own: what only passes with members that can be spared does
not write alone. Any other MLP with T before the last writer is an enabler.

At layer 0 there is no earlier MLP: M is then the same as zeroing, and decides nothing on its own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from scipy import special

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.observation import CachedPass
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.matched_pairs import with_progress
from secondary_sinks.questions.role_tests import (
    NOTHING_KEPT,
    Kept,
    SinkWithTwins,
    run_tests,
    sinks_with_twins,
)
from secondary_sinks.questions.writers import shares_of_roles, writer_verdicts
from secondary_sinks.questions.written_together import Group, Results, by_sink, written_together
from secondary_sinks.types import SinkTable, Trace, as_traces, format_layers
from secondary_sinks.types.frames import tidy

CHANCE = 0.01
"""Probability that a random direction is aligned enough to pass test A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The role of one MLP for one sink, and the tests that it rests on."""

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
    """The tests that decided, as text."""
    ended_zero: bool
    """Whether zeroing its output ends the sink, its attention included."""
    ended_twin: float
    """1 if replacing its output by the mean over the twins ends the sink, attention included."""
    ended_each: float
    """Share of twins whose output, in place of its own, ends the sink."""
    created_in_twin: float
    """Share of twins that become sinks with its output, and are not attended like one without."""
    rescued_alone: bool
    """Whether the token is a sink with all earlier MLPs zeroed and its clean output kept."""
    lives_without: bool
    """Whether it is one, or draws half of its attention, with its output zeroed too: then
    `rescued_alone` shows nothing."""
    write_alignment: float
    """Cosine of its output with the primary's state at the layer; NaN without a primary there."""
    write_null: float
    """The 99th percentile of that cosine for random directions."""
    n_donors: int
    """Number of twins that were tried."""

    @property
    def ends(self) -> bool | None:
        """Test T of `questions.roles`: a twin's output ends the sink. None if unknown."""
        if not self.n_donors or (self.ended_twin == 1) != (self.ended_each > 0.5):
            return None
        return self.ended_twin == 1

    @property
    def creates(self) -> bool:
        """Test C of `questions.roles`: its output makes most twins sinks."""
        return self.created_in_twin > 0.5

    @property
    def mediates(self) -> bool:
        """Test M of `questions.roles`: it is enough without any earlier MLP."""
        return self.rescued_alone and not self.lives_without

    @property
    def along(self) -> bool:
        """Test A of `questions.roles`: its output is aligned with the primary's direction.

        False at a layer without a primary.
        """
        return self.write_alignment > self.write_null


@shows_progress
def roles(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    kept: Kept = NOTHING_KEPT,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Which MLP writes each secondary and primary-like sink, and which only enable the writer?

    Each MLP up to the creation layer gets a role: writer, enabler, neither or undecided (the tests
    are in `questions.roles`).

    `cells` has one row per sink and layer (`Role`), `effects` the share of sinks by level, layer
    and role. There is one verdict per level, or one per writer if several MLPs together write most
    of its sinks; `Verdict.layer` is the layer of the writer. Twins are taken from the sink's own
    text, else from one that serves no other (`role_tests.match_homes`); verdicts leave out sinks
    without any (`n_donors` is 0) and count them. `kept` are clean passes that are still in memory,
    by text id; other texts are run again. `progress` is called with (texts done, texts). Verdicts
    are corrected for `n_claims` (`n_claims_of`); by default those of this answer.
    """
    check_whole(EditError, n_claims=n_claims)
    texts = as_traces(traces)
    asked, left_out = sinks_with_twins(texts, sinks)
    found: list[Role] = []
    for text in with_progress(texts, progress):
        found += _of_text(model, text, [one for one in asked if one.trace is text], sinks, kept)
    table = tidy([asdict(role) for role in found], Role)
    return Answer(
        question="roles",
        cells=table,
        effects=shares_of_roles(table),
        verdicts=writer_verdicts(table, n_claims),
        left_out=left_out,
        n_censored=sum(one.sink.censored != "none" for one in asked),
    )


def null_cosine(d_model: int) -> float:
    """Cosine with a given direction that a random direction exceeds with a probability of `CHANCE`.

    In closed form: for the cosine r in d dimensions, r sqrt((d - 1) / (1 - r^2)) follows Student's
    t distribution with d - 1 degrees of freedom.

    >>> round(null_cosine(896), 3)
    0.078
    """
    t = float(special.stdtrit(d_model - 1, 1 - CHANCE))
    return t / math.sqrt(d_model - 1 + t * t)


def _of_text(
    model: HookedModel, text: Trace, asked: Sequence[SinkWithTwins], sinks: SinkTable, kept: Kept
) -> list[Role]:
    """The roles at the sinks of one text, in order."""
    if not asked:
        return []
    clean = kept.get(text.text_id) or CachedPass.if_small(model, text.tokens, trace=text)
    kept = {**kept, text.text_id: clean} if clean else kept
    results = run_tests(model, asked, sinks, kept)
    alive, by_norm = by_sink(results), by_sink(results, "is_sink")
    tested = [_measured(one, alive[one.place]) for one in asked]
    open_ones = [(one, together) for one, rows in zip(asked, tested, strict=True)
                 if len(together := _candidates(rows)) > 1]  # fmt: skip
    groups = written_together(model, open_ones, sinks, kept)
    return [
        role
        for one, rows in zip(asked, tested, strict=True)
        for role in decide_all(
            rows,
            groups.get(one.place, ()),
            _still_attended(one, alive[one.place], by_norm[one.place]),
        )
    ]


def _measured(one: SinkWithTwins, alive: Results) -> list[Role]:
    """One row per layer with the test results; the roles are not decided yet."""
    sink, nan = one.sink, math.nan
    null = null_cosine(one.trace.typical.shape[1])
    return [
        Role(
            **sink.fields("text_id", "pos", "token_id", "token", "kind", "level", "l_start"),
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


def _still_attended(one: SinkWithTwins, alive: Results, is_sink: Results) -> Group:
    """MLPs whose mean output at the twins makes the sink none by the criterion, but attended."""
    tests = (((layer,), "twin") for layer in range(one.sink.l_start + 1) if one.twins)
    return tuple(test[0][0] for test in tests if alive[test] == 1 and is_sink[test] == 0)


def _candidates(rows: Sequence[Role]) -> Group:
    """MLPs that may write a sink together; empty if one writes it alone."""
    if any(decide(row, rows)[0] == "writer" for row in rows):
        return ()
    return tuple(row.layer for row in rows if row.ends and row.along)


def decide_all(
    rows: Sequence[Role], together: Group = (), still_attended: Group = ()
) -> list[Role]:
    """The rows of one sink with their roles; `together` are MLPs that write it as a group.

    `still_attended` are the MLPs whose replacement ends the sink's norm, but not its attention.
    """
    found = []
    for row in rows:
        role, why = decide(row, rows, still_attended)
        if row.layer in together:
            others = [layer for layer in together if layer != row.layer]
            role, why = "writer", f"together with {_mlps(others)}"
        elif together and row.ends and row.layer < max(together):
            role, why = "enabler", f"through {_mlps(together)}"
        found.append(replace(row, role=role, why=why))
    return found


def _mlps(layers: Sequence[int]) -> str:
    return f"MLP{'s' * (len(layers) > 1)} {format_layers(layers)}"


def decide(row: Role, rows: Sequence[Role], still_attended: Group = ()) -> tuple[str, str]:
    """The role of one MLP and the reason, by the table above; `rows` are all of its sink."""
    later = [other.layer for other in rows if other.layer > row.layer and other.mediates]
    if row.ends is None:
        none = "no token twin in its own text or a free one"
        return "undecided", "its twins disagree" if row.n_donors else none
    if not row.ends:
        return _not_needed(row, row.layer in still_attended)
    if later:
        return "enabler", f"through MLP {later[-1]}"
    failed = {
        "its output does not turn twins into sinks": not row.creates,
        "it does not bring the sink back when restored alone": not row.mediates,
        "its output is not aligned with the primary": not row.along,
    }
    if any(failed.values()):
        return "undecided", "replacing its output ends the sink, but " + " and ".join(
            w for w in failed if failed[w]
        )
    return "writer", "alone"


def _not_needed(row: Role, still_attended: bool) -> tuple[str, str]:
    if still_attended:
        return "undecided", "replacing its output ends the sink's norm, but not its attention"
    if row.creates:
        return "undecided", "its output turns twins into sinks, but the sink does not need it"
    only = "only zeroing ends the sink; the MLP's output at the same token elsewhere does not"
    return "neither", only if row.ended_zero else "the sink does not need it"
