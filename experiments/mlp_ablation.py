"""Which MLPs do secondary sinks need?

Claim of the paper (Wong et al. 2025, arXiv 2512.22213): specific middle-layer MLPs form
secondary sinks. It rests on where vectors point; nothing was taken away.

Method: at each secondary sink, and at as many control tokens (token twins, else the nearest
ordinary token), switch off the MLP of one layer at that token alone. Compare the attention that
the token draws, and its lifetime, before and after. Intervals by resampling texts, corrected
for the number of layers.

What would refute it: no single layer's MLP takes half of the sinks' attention away, or it takes
as much from controls.

    python -m experiments.mlp_ablation --model smollm2-135m --out results/mlp_ablation
"""

from typing import Annotated

import typer

from experiments.command import main_of
from experiments.shared import Finding, Observed, nobody, unanswered
from secondary_sinks import Effects, ablate, layer_effects, layer_verdicts
from secondary_sinks.plots import layer_effect_bars

NAME, QUESTION = "mlp_ablation", "Which MLPs do secondary sinks need?"
CLAIM = "the MLP of one layer forms most secondary sinks"


def run(
    observed: Observed,
    *,
    edit: Annotated[str, typer.Option(help="zero or mean.")] = "zero",
) -> Finding:
    """Ablate every MLP at every secondary sink and its control, then compare the two."""
    why = nobody(observed)
    if why:
        return unanswered(NAME, QUESTION, CLAIM, why, {})
    parts = (ablate(observed.model, trace, observed.sinks, edit) for trace in observed.traces)
    effects = Effects.join(parts).to_frame()
    headline, *further = layer_verdicts(effects)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=effects,
        columns={},
        figure=layer_effect_bars(layer_effects(effects)),
        verdict=headline,
        further=tuple(further),
    )


main = main_of(run)

if __name__ == "__main__":
    main()
