"""Which directions of its input make the forming MLP write a sink? (Figure 5 of the paper.)"""

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.members import Members, Rows, gather, members_of
from experiments.planes import principal_plane
from experiments.probe import Probe, principal_directions
from experiments.shared import Finding, Observed, places, unanswered, why_no_sinks
from secondary_sinks import Verdict
from secondary_sinks.cli import whole
from secondary_sinks.display import count
from secondary_sinks.plots import Look, interval_lines, scatter_panels
from secondary_sinks.questions import judge
from secondary_sinks.statistics import paired_share_over_texts

NAME, QUESTION = "mlp_directions", "Which directions of its input trigger the forming MLP?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): few components of the forming MLP's "
    "input trigger it; along these its output is long and points along the primary's direction."
)
METHOD = (
    "Principal components (not centred) of the inputs of the MLP of the creation layer (the layer "
    "that creates most sinks, or `--layer`; after any norm before the MLP) at sinks, and the same "
    "for controls (token twins, else neighbours). Curves: the MLP is run on each component alone, "
    "at several scales: the norm of its output, and the cosine with the primary's direction. "
    "Verdict: a sink's input is projected onto the first few components of the sinks of *earlier* "
    "texts; does the MLP still write half as much along the direction, and not if the input is "
    "projected onto components of earlier texts' controls? Sinks at which the MLP writes no more "
    "along the direction than at their control are left out: it does not form them."
)
REFUTATION = (
    "The projected inputs no longer trigger the MLP, or controls' components trigger it too."
)
CLAIM = "a few directions of its input trigger the MLP of the creation layer"
ROLES = ("sink", "control")
AXES = ("principal component 1", "principal component 2")
SCALES = np.linspace(-2, 2, 17)
PANELS = {
    "norm": ("norm of the output<br>÷ that at sinks", "linear"),
    "cosine": ("cosine with the<br>primary's direction", "linear"),
}
COLUMNS = {
    "component": "principal component (not centred) of the inputs at sinks, or at controls",
    "scale": "factor on the component, in units of the median norm of inputs at sinks",
    "norm": "norm of MLP(scale x component), in units of the median norm of outputs at sinks",
    "cosine": "its signed cosine with the primary's direction (minus the typical token)",
}
CAPTIONS = {
    "figure": (
        "Output of the MLP for one principal component as its input: components of its inputs at "
        "sinks, and at controls, the strongest first."
    ),
    "inputs": "Inputs in the plane of their first two principal components, centred.",
}


def run(
    observed: Observed,
    *,
    layer: Annotated[
        int | None, whole("Layer of the MLP. Default: the one that creates most sinks.")
    ] = None,
    components: Annotated[int, whole("Number of components in the verdict.", least=1)] = 3,
) -> Finding:
    """Response of the MLP to single components, and to inputs reduced to a few components."""
    members = members_of(observed, layer)
    if why := why_no_sinks(observed) or members.missing:
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    found = gather(observed, members, [members.layer], ["mlp_normed"])
    inputs = found[members.layer, "mlp_normed"]
    probe = Probe(observed, members.layer)
    frame = pd.DataFrame(list(_curves(probe, members, inputs, components)), columns=list(COLUMNS))
    cut = pd.DataFrame(list(_cut(probe, members, inputs, components)))
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_lines(
            frame.melt(["component", "scale"], list(PANELS), "panel")
            .rename(columns={"component": "group", "scale": "x"})
            .assign(low=np.nan, high=np.nan),
            PANELS,
            "scale, in units of the norm of inputs at sinks",
            looks=_looks(components),
        ),
        verdict=_verdict(cut, members, components),
        tables={"cut": cut},
        figures={"inputs": _plane(members, inputs)},
    )


def _curves(probe: Probe, members: Members, inputs: Rows, number: int) -> Iterator[dict[str, Any]]:
    role = members.frame["role"].to_numpy()
    unit = np.median(np.linalg.norm(inputs[role == "sink"], axis=1))
    usual = np.median(np.linalg.norm(probe(inputs[role == "sink"]), axis=1))
    for of in ROLES:
        for index, axis in enumerate(principal_directions(inputs[role == of], number), start=1):
            lengths, cosines = probe.answers(SCALES[:, None] * unit * axis)
            relative = lengths / (usual or np.nan)
            for scale, length, cosine in zip(SCALES, relative, cosines, strict=True):
                words = {"component": f"{of}s {index}", "scale": scale}
                yield words | {"norm": length, "cosine": cosine}


def _looks(number: int) -> dict[str, Look]:
    """Components of sinks are solid, those of controls dashed in the same colours."""
    dashes = {"sink": "solid", "control": "dash"}
    return {
        f"{of}s {index}": Look(f"{of}s, component {index}", index - 1, dashes[of])
        for of in ROLES
        for index in range(1, number + 1)
    }


def _cut(probe: Probe, members: Members, inputs: Rows, number: int) -> Iterator[dict[str, Any]]:
    """By sink: MLP output along the direction, and the share that remains with a reduced input.

    NaN for the share in the first text: components are those of earlier texts.
    """
    frame = members.frame
    role, text = frame["role"].to_numpy(), frame["text_id"].to_numpy()
    along = probe.along(inputs)
    for index in np.flatnonzero(role == "sink"):
        row = {name: frame[name].iloc[index] for name in ("text_id", "pos", "token")}
        row |= {"written": along[index], "written_control": along[index + 1]}
        earlier = np.arange(len(text)) < np.flatnonzero(text == text[index])[0]
        forms = along[index] > max(along[index + 1], 0.0)
        for of in ROLES:
            others = inputs[(role == of) & earlier]
            kept = np.nan
            if forms and len(others):
                axes = principal_directions(others, number)
                kept = float(probe.along(inputs[[index]] @ axes.T @ axes)[0] / along[index])
            row |= {f"kept_by_{of}s": kept}
        yield row


def _verdict(cut: pd.DataFrame, members: Members, number: int) -> Verdict:
    kept = {role: cut[f"kept_by_{role}s"] for role in ROLES}
    fires = {role: (one >= 0.5).astype(float).where(one.notna()) for role, one in kept.items()}
    interval = paired_share_over_texts(fires["sink"], fires["control"], cut["text_id"].tolist())
    silent = int((cut["written"] <= cut["written_control"].clip(lower=0)).sum())
    return judge(
        CLAIM,
        interval,
        f"with inputs projected onto {count(number, 'component')} of earlier texts' sinks, the MLP "
        f"of layer {members.layer} still writes half as much along the direction at "
        f"{fires['sink'].mean():.0%} of the sinks (median {kept['sink'].median():.0%} as much); "
        f"onto components of controls, at {fires['control'].mean():.0%}",
        statistic=f"share of sinks for which {count(number, 'component')} of sinks trigger the "
        "MLP, but those of controls do not",
        controls="components of the inputs at token twins, or ordinary tokens nearby",
        left_out=members.left_out
        | {
            "not formed by this MLP": silent,
            "in the first text": members.n_sinks - silent - interval.n,
        },
    )


def _plane(members: Members, inputs: Rows) -> go.Figure:
    """Inputs in the plane of their first two principal components, centred."""
    x, y = principal_plane(inputs).T
    words = {"row": "", "col": f"inputs of the MLP of layer {members.layer}"}
    drawn = members.frame.rename(columns={"role": "group"})
    drawn = drawn.assign(**words, x=x, y=y, label=places(drawn))
    return scatter_panels(drawn, x_title=AXES[0], y_title=AXES[1], side=360)


main = main_of(run)

if __name__ == "__main__":
    main()
