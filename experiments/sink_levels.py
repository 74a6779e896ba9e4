"""At which layers do secondary sinks arise, and for how long? (Figure 2 of the paper.)"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered
from secondary_sinks import SinkTable, Verdict, find_levels
from secondary_sinks.detection import LEAST_TEXTS, counts_for_levels, read_released
from secondary_sinks.display import count
from secondary_sinks.errors import SinkError
from secondary_sinks.plots import level_heatmap, level_heatmaps
from secondary_sinks.questions import judge
from secondary_sinks.statistics import outcome_of, share_over_texts
from secondary_sinks.texts import read_utf8, split_json_lines
from secondary_sinks.types import FREQUENT, Levels, Sink, refuse_twice

NAME, QUESTION = "sink_levels", "At which layers do secondary sinks arise, and for how long?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): secondary sinks come in *levels*, a "
    "few pairs of creation layer and lifetime, more of them in larger models (three in QwQ-32B, "
    "six in Qwen3-14B). The paper shows a heat map, and does not say how levels are counted."
)
METHOD = (
    "Counts by (l_start, lifetime), for one model or several (`--also`, each on the same texts), "
    "and for detections that the authors released (`--released`, JSON lines; sinks by their "
    "criterion and their labels). A level is a mode of these counts found in at least five texts "
    "(`detection.levels`); its stability is measured by resampling the texts. Verdict, for the "
    "first model: the share of its secondary sinks that belong to a level, over texts. It can "
    "contradict the claim, but not support it: the same sinks define the levels and lie in them; "
    "sinks without any levels often seem to have several. A level that few texts show is not "
    "detected, so the claim is contradicted only if most sinks would belong to none even if every "
    "pair that two texts share, within one layer, were a level. Also reported: the number of cells "
    "of the heat map with at least five sinks, a count that the paper's figure suggests."
)
REFUTATION = (
    "Half of the sinks or more belong to no level, and are like no sink of another text, in at "
    "least ten texts. A single level refutes nothing: another may be rare."
)
CLAIM = "secondary sinks come in several levels"
SAME_SINKS = "a description, since levels are found in the same sinks that they are counted in"
ENOUGH_TEXTS = 2 * LEAST_TEXTS
COLUMNS = {
    "model": "model, or file of released detections",
    "l_start": "creation layer, 0-based",
    "lifetime": "number of layers at which they are sinks",
    "count": "secondary sinks, without copies of sinks in earlier texts",
    "n_texts": "texts with such a sink",
    "level": "level that the pair belongs to; NaN if it belongs to no level",
}
CAPTIONS = {
    "figure": (
        "Secondary sinks by creation layer and lifetime. Numbers mark the most frequent pair of "
        "each level."
    ),
}


class Source(NamedTuple):
    """Sinks of one model, or of one file."""

    name: str
    sinks: SinkTable
    n_texts: int
    n_layers: int | None


def run(
    observed: Observed,
    *,
    also: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A further model. Repeatable.")
    ] = None,
    released: Annotated[
        list[Path] | None,
        typer.Option(help="JSON Lines file with detections that the authors released. Repeatable."),
    ] = None,
) -> Finding:
    """Levels of every model and file; the verdict is about the first model."""
    names = [observed.name, *(also or ()), *map(str, released or ())]
    refuse_twice("the list of models and detections", names, SinkError)
    sources = list(_sources(observed, also or (), released or ()))
    found = {}
    for one in sources:
        chance = torch.Generator().manual_seed(observed.seed)
        found[one.name] = find_levels(one.sinks, n_texts=one.n_texts, generator=chance)
    verdicts = [_verdict(one, found[one.name], len(sources)) for one in sources]
    if not any(levels.n_sinks for levels in found.values()):
        why = "no secondary sink was found, so there are no levels"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    cells = {one.name: (found[one.name].cells_frame(), one.n_layers) for one in sources}
    named = [part.assign(model=name) for name, (part, _) in cells.items()]
    tables = [levels.to_frame().assign(model=name) for name, levels in found.items()]
    (only, size), *others = cells.values()
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=pd.concat(named, ignore_index=True)[list(COLUMNS)],
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=level_heatmaps(cells) if others else level_heatmap(only, size),
        verdict=verdicts[0],
        further=tuple(verdicts[1:]),
        tables={"levels": pd.concat(tables, ignore_index=True)},
    )


def _sources(observed: Observed, also: Sequence[str], released: Sequence[Path]) -> Iterator[Source]:
    """One source after another: each model is released before the next is loaded."""
    yield Source(observed.name, observed.sinks, len(observed.traces), observed.n_layers)
    for name in also:
        other = observed.again(name)
        yield Source(name, other.sinks, len(other.traces), other.n_layers)
    for path in released:
        content = read_utf8(path, "detections in the JSON lines of the paper's authors")
        split_json_lines(content, str(path))  # limits number and length of lines
        found = read_released(content, str(path))
        yield Source(str(path), found.sinks, len(found.lines), None)


def _verdict(source: Source, levels: Levels, n_sources: int) -> Verdict:
    """Judge the share of sinks in a level: contradicted or inconclusive, never supported.

    Levels are fitted to the same sinks, which may lie in several by chance.
    """
    sinks = [sink for sink in source.sinks.sinks if counts_for_levels(sink)]
    known = source.n_texts >= LEAST_TEXTS
    inside = [float(sink.level == sink.level) if known else float("nan") for sink in sinks]
    texts = [sink.text_id for sink in sinks]
    share = share_over_texts(inside, texts, n_claims=n_sources)
    able = [float(one == 1 or like) for one, like in zip(inside, _recurs(sinks), strict=True)]
    outcome = outcome_of(share, most=share_over_texts(able, texts, n_claims=n_sources))
    stable = ", ".join(
        f"({level.l_start}, {level.lifetime}) with {level.n_sinks} (stability {level.jaccard:.2f})"
        for level in levels.levels
    )
    found = judge(
        f"{CLAIM} ({source.name})" if n_sources > 1 else CLAIM,
        share,
        f"{count(len(levels.levels), 'level')} for {share.value:.0%} of "
        f"{count(levels.n_sinks, 'sink')}: "
        f"{stable or 'none'}; the same number in {levels.same_number:.0%} of resamples; "
        f"{count(levels.n_frequent, 'cell')} of the heat map with at least {FREQUENT} sinks",
        statistic="share of secondary sinks that belong to a level",
        controls="none; strays of the same creation layers are subtracted",
        controlled=False,
        left_out={f"in fewer than {LEAST_TEXTS} texts": 0 if known else len(sinks)},
        n_claims=n_sources,
        outcome=outcome,
    )
    if found.outcome == "supported":
        several = len(levels.levels) > 1
        why = f"{SAME_SINKS if several else 'one level, not several'}: {found.why}"
        return replace(found, outcome="inconclusive", why=why)
    if found.outcome == "contradicted" and source.n_texts < ENOUGH_TEXTS:
        why = f"{found.why}; in fewer than {ENOUGH_TEXTS} texts a level may remain undetected"
        return replace(found, outcome="inconclusive", why=why)
    return found


def _recurs(sinks: Sequence[Sink]) -> list[bool]:
    """Whether a sink of another text has the same creation layer and lifetime, within one layer."""
    places = np.array([(sink.l_start, sink.lifetime) for sink in sinks]).reshape(-1, 2)
    texts = np.array([sink.text_id for sink in sinks])
    near = (abs(places[:, None] - places).max(-1) <= 1) & (texts[:, None] != texts)
    return near.any(1).tolist()


main = main_of(run)

if __name__ == "__main__":
    main()
