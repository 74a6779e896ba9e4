"""How few coordinates of what the writer writes carry a sink?

Coordinates of the residual's basis, sorted by how much the writer's output at the sink differs
there from its mean over the token twins. Their values at the twins are put in their place:

    without  the first k are the twins'; does the sink end?
    only     all but the first k are the twins'; does the sink live?
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.display import count
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation.activations import activations
from secondary_sinks.questions import few_units
from secondary_sinks.questions.answer import judge
from secondary_sinks.questions.matched_pairs import Place
from secondary_sinks.questions.role_tests import SinkWithTwins, patched, run_rows
from secondary_sinks.questions.trials import Trial, frame_of
from secondary_sinks.types import SinkTable, Verdict

Writers = Mapping[Place, tuple[int, ...]]
"""Layers of the MLPs that write each sink, by text and position."""
WORDS = ("test", "coordinates", "k", "few", "seed")
NEEDED = "a sink ends without the few coordinates in which its writer writes something else"
ENOUGH = "a sink stays with only the few coordinates in which its writer writes something else"
CLAIMS = {"without": NEEDED, "only": ENOUGH}
NO_WRITER = "without a writer, or without a twin"


def coordinate_cells(
    model: HookedModel, asked: Sequence[SinkWithTwins], writers: Writers, sinks: SinkTable
) -> pd.DataFrame:
    """One row per sink, test and set of coordinates; `trials.survives` says whether it lives.

    Column `coordinates`: "top" are those that differ most, "random" as many of all, drawn `SEEDS`
    times. Column `few` marks the k that the verdicts are about: the share `FEW` of all coordinates.
    """
    able = [one for one in asked if one.twins and writers.get(one.place)]
    vectors = _written(model, able, writers)
    pairs = [
        (one, trial)
        for one in able
        for trial in _trials(one, writers[one.place], _ranked(one, writers[one.place], vectors))
    ]
    return frame_of(run_rows(model, pairs, sinks), *WORDS)


Vectors = Mapping[tuple[str, int, int], Float[Tensor, "d_model"]]
"""MLP outputs by text, position and layer."""


def _written(model: HookedModel, asked: Sequence[SinkWithTwins], writers: Writers) -> Vectors:
    """What the writers write at the sinks and at their twins; one pass per text."""
    texts = {text.text_id: text for one in asked for text in (one.trace, one.home)}
    needed: dict[str, set[tuple[int, int]]] = {name: set() for name in texts}
    for one in asked:
        for layer in writers[one.place]:
            needed[one.trace.text_id].add((one.sink.pos, layer))
            needed[one.home.text_id] |= {(twin, layer) for twin in one.twins}
    found: dict[tuple[str, int, int], Tensor] = {}
    for name, places in needed.items():
        positions, layers = (sorted(set(axis)) for axis in zip(*places, strict=True))
        for layer, points in activations(model, texts[name], positions, layers, ("mlp_out",)):
            rows = zip(positions, points["mlp_out"], strict=True)
            found |= {(name, pos, layer): row.clone() for pos, row in rows}
    return found


def _ranked(one: SinkWithTwins, layers: Sequence[int], vectors: Vectors) -> list[int]:
    """All coordinates; first those in which the sum over the writers differs most from twins."""
    total = sum(
        vectors[one.trace.text_id, one.sink.pos, layer]
        - torch.stack([vectors[one.home.text_id, twin, layer] for twin in one.twins]).mean(0)
        for layer in layers
    )
    assert isinstance(total, Tensor)
    return [int(index) for index in total.abs().argsort(descending=True, stable=True)]


def _trials(one: SinkWithTwins, layers: tuple[int, ...], ranked: Sequence[int]) -> Iterator[Trial]:
    pos = one.sink.pos
    for k in few_units.sizes_of(len(ranked)):
        words = {"k": k, "few": k == few_units.least_of(len(ranked))}
        for more, units in few_units.edited_units(one.sink, ranked, k, "coordinates"):
            edit = patched(pos, layers, one.twins, one.home, one.trace, "mlp_out", tuple(units))
            yield Trial(sink=one.sink, pos=pos, cell=(edit,), words=words | more)


def coordinate_verdicts(
    cells: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> tuple[Verdict, ...]:
    """Do the few coordinates end the sink, and are they enough? Each compared with one half."""
    return tuple(_verdict(cells, test, left_out, n_claims) for test in CLAIMS)


def _verdict(cells: pd.DataFrame, test: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = few_units.judged(cells, test)

    def why() -> str:
        few = count(int(part["k"].iloc[0]), "coordinate")
        which = f"{few} in which the writer's output differs most from that at twins"
        return few_units.in_words(part, test, "coordinates", which)

    return judge(
        CLAIMS[test],
        few_units.share_of(part, test, "coordinates", n_claims),
        why,
        statistic=few_units.statistic_of(test, "coordinates"),
        controls="the same number of random coordinates",
        left_out=left_out,
        n_claims=n_claims,
        always=len(part) > 0,
    )
