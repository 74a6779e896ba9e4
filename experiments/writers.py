"""Does one MLP write each secondary sink, and does it write along the primary?"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Verdict, roles
from secondary_sinks.plots import count_bars
from secondary_sinks.questions import (
    NO_TWIN,
    judge,
    n_claims_of,
    shares_of_roles,
    writer_verdicts,
    writers_of,
)
from secondary_sinks.statistics import outcome_of, paired_share_over_texts, share_over_texts

NAME, QUESTION = "writers", "Does one MLP write each secondary sink, along the primary's direction?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): a single middle-layer MLP writes the "
    "secondary sinks of a level, along the direction of the primary sink. The paper infers this "
    "from the directions of vectors, without interventions."
)
METHOD = (
    "Roles (`secondary_sinks.roles`). An MLP *writes* a sink if replacing its output by that at "
    "the same token elsewhere, where it is not a sink, ends the sink; if patching its output in "
    "there makes most such tokens sinks; if its output alone brings the sink back while all "
    "earlier MLPs are zeroed; and if its output is aligned with the primary. A sink that keeps "
    "half of its attention has not ended, and a token that draws as much anyway is not made a "
    "sink. An MLP whose replacement ends the sink only through a later MLP *enables* it. Verdicts: "
    "the share of sinks that a single MLP writes, whichever it is. Mediation, at all sinks: with "
    "all earlier MLPs zeroed, the output of the MLP of the creation layer brings the sink back, "
    "and with that output zeroed too the sink ends, its attention included. Direction: the output "
    "of that MLP at a sink has a larger cosine with the primary's state than 99 % of random "
    "directions of the same norm, and its output at the control token (a twin, else a neighbour) "
    "has not. Then, for each level, which MLP writes most of its sinks. Means over texts with "
    "exact intervals, corrected for all claims of this page."
)
REFUTATION = (
    "Most sinks are written by several MLPs together, or by none; the creation layer's MLP alone "
    "does not bring them back; or its output is no better aligned with the primary than random "
    "directions, or than at the same tokens elsewhere. A sink whose token occurs as an "
    "ordinary one neither in its own text nor in a free one (which no other text is tested with) "
    "cannot be tested for its writer: it is left out there, and counted."
)
CLAIM = "a single MLP writes a secondary sink"
MEDIATES = "the creation layer's MLP alone brings a secondary sink back"
ALONG = "the output of the creation layer's MLP is aligned with the primary"
OWN_CLAIMS = 3
PLACE = ["text_id", "pos"]
COLUMNS = {
    "level": "level of the sinks",
    "layer": "layer of the MLP, 0-based",
    "writer": "share of the level's sinks that it writes, in [0, 1]",
    "enabler": "share that it enables: its replacement ends them, through a later MLP",
    "neither": "share that do not need it",
    "undecided": "share at which the tests disagree, or whose token has no twin",
    "n_sinks": "secondary sinks, without copies of sinks in earlier texts",
    "n_texts": "texts with such a sink",
}
CAPTIONS = {
    "figure": (
        "Secondary sinks by the role of each MLP up to their creation layer. MLPs that no sink "
        "needs are left out."
    ),
}


def run(observed: Observed) -> Finding:
    """The role of each MLP for each secondary sink, and what the roles add up to."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    given = (observed.model, observed.traces, observed.sinks)
    answer = roles(*given, progress=observed.progress(NAME))
    table = answer.cells[answer.cells["kind"] == "secondary"].reset_index(drop=True)
    n_claims = OWN_CLAIMS + n_claims_of(["roles"], observed.sinks)
    sinks = _by_sink(observed, table)
    without_control = {"without a control": observed.left_out["without a control"]}
    left_out = {**observed.left_out, "without a control": 0}
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=shares_of_roles(table)[list(COLUMNS)],
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=count_bars(_bars(table), "secondary sinks"),
        verdict=_alone(sinks, left_out, n_claims),
        further=(
            _mediation(sinks, left_out, n_claims),
            _direction(sinks, left_out | without_control, n_claims),
            *writer_verdicts(table, n_claims),
        ),
        tables={"sinks": sinks, "roles": table},
    )


def _by_sink(observed: Observed, table: pd.DataFrame) -> pd.DataFrame:
    """One row per sink: who writes it, and what the MLP of its creation layer does."""
    made = table[table["layer"] == table["l_start"]].reset_index(drop=True)
    groups = writers_of(table)
    open_ones = table["role"].eq("undecided").groupby([table[one] for one in PLACE], sort=False)
    control = _at_controls(observed)
    places = list(zip(made["text_id"], made["pos"].tolist(), strict=True))
    return made[[*PLACE, "token", "level", "l_start", "n_donors", "write_alignment"]].assign(
        writers=[", ".join(map(str, group)) for group in groups],
        n_writers=[len(group) for group in groups],
        undecided=open_ones.any().to_numpy(),
        mediates=(made["rescued_alone"] & ~made["lives_without"]).where(made["l_start"] > 0),
        random_99=made["write_null"],
        control_alignment=[control.get(place, np.nan) for place in places],
    )


def _at_controls(observed: Observed) -> dict[tuple[str, int], float]:
    """Cosine of what the creation layer's MLP writes at each sink's control token."""
    return {
        (trace.text_id, case.sink.pos): float(trace.mlp_alignment[case.sink.l_start, case.control])
        for trace, case in observed.pairs()
    }


def _alone(sinks: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    """Contradicted only if most sinks lack a sole writer however undecided MLPs are decided."""
    known = sinks[sinks["n_donors"] > 0]
    wrote = known["n_writers"] == 1
    found, most = (
        share_over_texts(one.astype(float), known["text_id"].tolist(), n_claims=n_claims)
        for one in (wrote, wrote | known["undecided"] & (known["n_writers"] == 0))
    )
    layers = known.loc[wrote, "writers"].value_counts()
    which = ", ".join(f"MLP {layer} writes {count}" for layer, count in layers.items())
    several, none = int((known["n_writers"] > 1).sum()), int((known["n_writers"] == 0).sum())
    verdict = judge(
        CLAIM,
        found,
        f"{int(wrote.sum())} of {len(known)} sinks have one writer ({which or 'no MLP'}); several "
        f"MLPs write {several} together; {none} have no writer that passed all tests",
        statistic="share of sinks that one MLP writes alone, mean over texts",
        controls="the output at the same token elsewhere, where it is not a sink",
        left_out={**left_out, NO_TWIN: len(sinks) - len(known)},
        n_claims=n_claims,
    )
    if verdict.outcome == "contradicted" and outcome_of(most) != "contradicted":
        why = f"{verdict.why}; the undecided MLPs may write enough of them to change this"
        return replace(verdict, outcome="inconclusive", why=why)
    return verdict


def _mediation(sinks: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    known = sinks[sinks["l_start"] > 0]
    mediates, n_first = known["mediates"].astype(float), len(sinks) - len(known)
    return judge(
        MEDIATES,
        share_over_texts(mediates, known["text_id"].tolist(), n_claims=n_claims),
        f"{int(mediates.sum())} of {len(known)} sinks come back",
        statistic="share of sinks that come back with all earlier MLPs zeroed, but not with this "
        "one zeroed too, mean over texts",
        controls="the same with this MLP zeroed too",
        controlled=False,
        left_out={**left_out, "created at layer 0, before which there is no MLP": n_first},
        n_claims=n_claims,
    )


def _direction(sinks: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    known = sinks[sinks["control_alignment"].notna() & sinks["write_alignment"].notna()]
    own, control = (known[name] for name in ("write_alignment", "control_alignment"))
    beyond, also = ((one > known["random_99"]).astype(float) for one in (own, control))
    texts = known["text_id"].tolist()
    return judge(
        ALONG,
        paired_share_over_texts(beyond, also, texts, n_claims=n_claims),
        f"cosine with the primary's state, median over sinks: {own.median():.2f} at sinks, "
        f"{control.median():.2f} at controls, {known['random_99'].median():.2f} for 99 % of random "
        "directions",
        statistic="share of sinks at which its output is more aligned with the primary than 99 % "
        "of random directions, but not at their control, mean over texts",
        controls="random directions of the same norm; token twins, or ordinary tokens nearby",
        left_out=left_out,
        n_claims=n_claims,
    )


def _bars(table: pd.DataFrame) -> pd.DataFrame:
    """Number of sinks by MLP and role, for `count_bars`; without MLPs that no sink needs."""
    needed = table[table.groupby("layer")["role"].transform(lambda one: (one != "neither").any())]
    drawn = needed if len(needed) else table
    counts = drawn.groupby(["layer", "role"]).size().rename("count").reset_index()
    return counts.assign(what="MLP " + counts["layer"].astype(str), group=counts["role"])


main = main_of(run)

if __name__ == "__main__":
    main()
