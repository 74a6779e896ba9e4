"""Where do activations separate sinks from the same tokens elsewhere? (Figure 6 of the paper.)"""

from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.members import Members, Rows, gather, members_of
from experiments.placebo import placebo_of, with_placebo
from experiments.planes import principal_plane, separation, tsne_plane
from experiments.shared import Finding, Observed, places, unanswered, why_no_sinks
from secondary_sinks import Verdict
from secondary_sinks.cli import whole
from secondary_sinks.plots import scatter_panels
from secondary_sinks.questions import judge
from secondary_sinks.statistics import Interval, median_over_texts, min_texts, outcome_of

NAME = "separability"
QUESTION = "Where do activations separate sinks from the same tokens elsewhere?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the MLP of the creation layer makes "
    "the sink. If so, its output must separate sinks from the same tokens elsewhere."
)
METHOD = (
    "Attention output, MLP output and residual, from two layers before the creation layer to one "
    "after, at sinks and at their token twins, since any other token differs in its id too. The "
    "layer is the one that creates most of these sinks, or `--layer`; sinks of other layers and "
    "without a twin are left out. t-SNE and PCA are only illustrations. Verdict: a linear "
    "classifier (logistic regression on standardized coordinates) of the MLP output of the "
    "creation layer, trained on the texts before the one it is tested on; skill is twice its "
    "accuracy minus one (0: chance, 1: perfect), median over texts. Twins may stand elsewhere in "
    "the text, so place alone could tell them. Placebo: the same classifier on pairs of ordinary "
    "tokens of one id, where sink and twin stand and as far apart (each within a factor of 2); the "
    "skill beyond that must exceed one half too, at the sinks that have such a pair. Sinks are "
    "detected in the residual, so separation there is not evidence."
)
REFUTATION = (
    "A skill below one half. Where the placebo has nearly as much, or there are too few such "
    "pairs, nothing is shown or refuted."
)
CLAIM = "the MLP output of the creation layer separates sinks from the same tokens elsewhere"
BEFORE = "the attention output of the creation layer already separates them"
AXES = {"tsne": ("t-SNE 1", "t-SNE 2"), "pca": ("component 1", "component 2")}
N_CLAIMS = len((CLAIM, BEFORE))
AT_PLACES = (
    "place in the text may tell them: ordinary tokens of one id at like positions are separated "
    "too, or the texts are too few to exclude it"
)
NO_PLACEBO = (
    "position in the text alone could tell them, and pairs of ordinary tokens of one id at like "
    "positions, to exclude that, were tested in only {found} texts; at least {needed} are needed"
)
POINTS = {"attn_out": "attention", "mlp_out": "MLP", "resid_post": "residual"}
COLUMNS = {
    "layer": "0-based",
    "point": "attn_out, mlp_out or resid_post",
    "text_id": "text",
    "pos": "position of the token",
    "token": "string of the token",
    "role": "sink or control",
    "tsne_x": "first t-SNE coordinate at this layer and point, without a unit",
    "tsne_y": "second t-SNE coordinate",
    "pca_x": "first principal component, in units of the model",
    "pca_y": "second principal component",
    "right": "1 if a classifier trained on earlier texts gets it right, else 0; NaN in the first",
    "placebo_pos": "position of its placebo, an ordinary token at a like place; NaN without one",
    "matched_right": "as right, of a classifier of the tokens that have a placebo; else NaN",
    "placebo_right": "the same for their placebo tokens, labelled as sink and control",
}
CAPTIONS = {
    "figure": (
        "t-SNE; distances between clusters have no meaning. In the titles: accuracy of a linear "
        "classifier trained on earlier texts (chance: one half)."
    ),
    "pca": "The same by their first two principal components.",
}


def run(
    observed: Observed,
    *,
    layer: Annotated[
        int | None, whole("The creation layer; by default the most frequent one.")
    ] = None,
) -> Finding:
    """Sinks of one creation layer and their token twins, at layers and hook points around it."""
    members = members_of(observed, layer, twins=True)
    if why := why_no_sinks(observed) or members.missing:
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    first, end = max(members.layer - 2, 0), min(members.layer + 2, observed.n_layers)
    around = list(range(first, end))
    members = replace(
        members, frame=members.frame.assign(placebo_pos=placebo_of(observed, members))
    )
    every = with_placebo(members, members.frame["placebo_pos"].to_numpy())
    found = gather(observed, replace(members, frame=every), around, list(POINTS))
    is_placebo = every["placebo"].to_numpy()
    parts = [
        _place(members, *key, rows[~is_placebo], rows[is_placebo], observed.seed)
        for key, rows in found.items()
    ]
    frame = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=_cloud(frame, "tsne"),
        verdict=_verdict(frame, members, "mlp_out", CLAIM),
        further=(_verdict(frame, members, "attn_out", BEFORE),),
        tables={"told": _skills(frame)},
        figures={"pca": _cloud(frame, "pca")},
    )


def _place(
    members: Members, layer: int, point: str, rows: Rows, placebo: Rows, seed: int
) -> pd.DataFrame:
    """One row per token: its position in the plane, and whether it is classified correctly.

    Equal rows lie at 0. `placebo` has the rows of the placebo tokens, in the order of the members.
    """
    plane, map_ = principal_plane(rows), tsne_plane(rows, seed)
    role, text = members.frame["role"].to_numpy(), members.frame["text_id"].to_numpy()
    known = members.frame["placebo_pos"].notna().to_numpy()
    matched, other = np.full((2, len(rows)), np.nan)
    matched[known] = separation(rows[known], role[known], text[known])
    other[known] = separation(placebo, role[known], text[known])
    return members.frame.assign(
        layer=layer,
        point=point,
        tsne_x=map_[:, 0],
        tsne_y=map_[:, 1],
        pca_x=plane[:, 0],
        pca_y=plane[:, 1],
        right=separation(rows, role, text),
        matched_right=matched,
        placebo_right=other,
    )


def _cloud(frame: pd.DataFrame, method: str) -> go.Figure:
    drawn = frame.assign(
        row=frame["point"].map(POINTS),
        col="layer " + frame["layer"].astype(str),
        group=frame["role"],
        x=frame[f"{method}_x"],
        y=frame[f"{method}_y"],
        label=places(frame),
    )
    panels = drawn.groupby(["row", "col"], as_index=False)["right"].mean()
    titles = {
        (row, col): f"{row}, {col}" + (f": {share:.0%}" if share == share else "")
        for row, col, share in panels.itertuples(index=False)
    }
    axes = AXES[method]
    return scatter_panels(drawn, x_title=axes[0], y_title=axes[1], ticks=False, titles=titles)


def _skill(part: pd.DataFrame, right: str = "right") -> Interval:
    texts = part["text_id"].tolist()
    return median_over_texts(2 * part[right] - 1, texts, n_claims=N_CLAIMS)


def _beyond(part: pd.DataFrame) -> Interval:
    """Skill beyond the placebo's at the sinks that have one, median over texts."""
    more = 2 * (part["matched_right"] - part["placebo_right"])
    return median_over_texts(more, part["text_id"].tolist(), n_claims=N_CLAIMS)


def _skills(frame: pd.DataFrame) -> pd.DataFrame:
    """Classification skill by layer and hook point, from 0 (chance) to 1 (all correct)."""
    rows = []
    for _, part in frame.groupby(["layer", "point"], sort=False):
        one, first = _skill(part), part[["layer", "point"]].iloc[0].to_list()
        more, placebo = _beyond(part), _skill(part, "placebo_right")
        numbers = [one.value, one.low, one.high, placebo.value, more.value, more.low, more.high]
        rows.append([*first, *numbers])
    names = ["told", "low", "high", "placebo", "beyond", "beyond_low", "beyond_high"]
    return pd.DataFrame(rows, columns=["layer", "point", *names])


def _verdict(frame: pd.DataFrame, members: Members, point: str, claim: str) -> Verdict:
    """supported: skill and skill beyond the placebo lie above one half; contradicted: skill below.

    inconclusive: otherwise, and the verdict says so where it is for the placebo.
    """
    layer = members.layer
    part = frame[(frame["layer"] == layer) & (frame["point"] == point)]
    skill, beyond = _skill(part), _beyond(part)
    n_sinks = int(part.loc[part["right"].notna(), "role"].eq("sink").sum())
    outcome = outcome_of(skill)
    why = _why(skill, beyond, _skill(part, "placebo_right"))
    if outcome == "supported" and outcome_of(beyond) != "supported":
        outcome, why = "inconclusive", f"{why}; {_left_open(beyond)}"
    return judge(
        claim,
        replace(skill, n=n_sinks),
        why,
        statistic=f"skill of a linear classifier of {point} at layer {layer}, 0 (chance) to 1 "
        "(perfect), median over texts",
        unit="skill",
        controls="one token twin per sink; ordinary tokens of one id at like positions",
        left_out=members.left_out | {"in the first text": members.n_sinks - n_sinks},
        n_claims=N_CLAIMS,
        outcome=outcome,
    )


def _why(skill: Interval, beyond: Interval, placebo: Interval) -> str:
    said = (
        f"a linear classifier has an accuracy of {(1 + skill.value) / 2:.0%} on the median unseen "
        "text"
    )
    if not beyond.n_texts:
        return said
    return (
        f"{said}; of {(1 + placebo.value) / 2:.0%} for ordinary tokens of one id at like positions "
        f"(skill beyond that {beyond.value:.2f} [{beyond.low:.2f}, {beyond.high:.2f}])"
    )


def _left_open(beyond: Interval) -> str:
    needed = min_texts(N_CLAIMS)
    few = beyond.n_texts < needed
    return NO_PLACEBO.format(found=beyond.n_texts, needed=needed) if few else AT_PLACES


main = main_of(run)

if __name__ == "__main__":
    main()
