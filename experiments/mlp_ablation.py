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

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import typer

from secondary_sinks import (
    Effects,
    Verdict,
    ablate,
    bundled_corpus,
    detect,
    layer_effects,
    layer_verdicts,
    load_model,
    observe,
    read_texts,
    tokenize,
)
from secondary_sinks.plots import layer_effect_bars


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the experiment gives to a notebook."""

    effects: pd.DataFrame
    figure: go.Figure
    verdicts: list[Verdict]


def run(model_name: str, texts_file: Path | None = None, edit: str = "zero") -> Answer:
    """Observe, detect and ablate on every text, then compare sinks with controls."""
    model = load_model(model_name)
    texts = bundled_corpus() if texts_file is None else read_texts(texts_file)
    fed = [tokenize(text, model.tokenizer) for text in texts]
    traces = [observe(model, text.tokens, text_id=text.text_id) for text in fed]
    sinks = detect(traces)
    effects = Effects.join(ablate(model, trace, sinks, edit) for trace in traces).to_frame()
    return Answer(
        effects=effects,
        figure=layer_effect_bars(layer_effects(effects)),
        verdicts=layer_verdicts(effects),
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder for effects.parquet and figure.html.")],
    model: str = "smollm2-135m",
    texts: Annotated[Path | None, typer.Option(help="JSON lines or .txt.")] = None,
    edit: Annotated[str, typer.Option(help="zero or mean.")] = "zero",
) -> None:
    """Run, write the data and the figure, print the verdicts."""
    answer = run(model, texts, edit)
    out.mkdir(parents=True, exist_ok=True)
    answer.effects.to_parquet(out / "effects.parquet", index=False)
    answer.figure.write_html(out / "figure.html", include_plotlyjs=True)
    for verdict in answer.verdicts:
        print(f"{verdict.outcome}: {verdict.claim}: {verdict.why}")


if __name__ == "__main__":
    typer.run(main)
