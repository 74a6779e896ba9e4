"""Writer: which MLPs write a sink or enable it, and which neurons and coordinates carry it?

The MLPs are those of `roles`. For those that write a sink: how few of their neurons must be zeroed
to end it (`sparsity`), and how few coordinates of their output must be those of a twin
(`coordinates`).
"""

from collections.abc import Iterable, Iterator, Mapping
from math import nan

import pandas as pd

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, part_of, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit.coordinates import (
    CLAIMS,
    NO_WRITER,
    Writers,
    coordinate_cells,
    coordinate_verdicts,
)
from secondary_sinks.questions.circuit.edges import Edge, by_level, edges_frame, of_sink
from secondary_sinks.questions.circuit.search import MOST
from secondary_sinks.questions.few_units import SEEDS, sizes_of, smallest_sizes
from secondary_sinks.questions.forming import Forming
from secondary_sinks.questions.matched_pairs import Place, match_pairs
from secondary_sinks.questions.question import (
    CellCounts,
    Drawing,
    Question,
    Sample,
    Shown,
)
from secondary_sinks.questions.role_tests import roles_cost, sinks_with_twins
from secondary_sinks.questions.roles import roles
from secondary_sinks.questions.run_claims import OWN_CLAIMS
from secondary_sinks.questions.sparsity import SPARSITY, sparsity
from secondary_sinks.questions.trials import survives
from secondary_sinks.questions.writers import writers_of
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import SHARE_UNIT, Sink, SinkTable, Trace, as_traces, load_cells

MEASURES = {"writer": "writes", "enabler": "enables"}
STAGES = 3


@shows_progress
def writer(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Which MLPs write or enable each sink, and which neurons and coordinates carry it?

    The MLPs are those of `roles`. `cells` has one row per edge (`Edge`): `writes` and `enables`
    have the share of twins whose output, in the place of the MLP's, ends the sink; `created`, the
    share of twins that become sinks with its output; `ended_in_set`, one row for each neuron (site
    `post`) or coordinate (site `mlp_out`) of the smallest set whose edit ends the sink, if it is at
    most `search.MOST` large. `control` is the share of random sets of the same size that do.
    Neurons are those of `sparsity`, with the writers as forming MLPs.

    Verdicts: those of `roles`, and two on coordinates. Table "roles": those of `roles`.
    "coordinates": one row per cell. "smallest": by sink, the sizes of the smallest sets, of
    coordinates and of neurons. `progress` is called with (texts done, texts), of three rounds.
    Verdicts are corrected for `n_claims` (`n_claims_of`); by default those of this answer.
    """
    check_whole(EditError, n_claims=n_claims)
    texts = as_traces(traces)
    n_claims = claims_together(n_claims, writer_claims(sinks))
    given = (model, texts, sinks)
    found = roles(*given, progress=part_of(progress, 0, STAGES), n_claims=n_claims)
    asked, _ = sinks_with_twins(texts, sinks)
    written = _writers(found.cells)
    coordinates = coordinate_cells(model, asked, written, sinks)
    if progress:
        progress(2 * len(texts), STAGES * len(texts))
    formed = _as_forming(texts, sinks, written)
    neurons = sparsity(*given, forming=formed, progress=part_of(progress, 2, STAGES))
    zeroed = neurons.cells[
        (neurons.cells["edit"] == "zero") & (neurons.cells["neurons"] != "control")
    ]
    left_out = {NO_WRITER: sum(not (one.twins and written.get(one.place)) for one in asked)}
    by_place = {one.place: one.sink for one in asked}
    edges = edges_frame([
        *_of_roles(found.cells, by_place),
        *_of_sets(coordinates, "coordinates", "mlp_out", by_place),
        *_of_sets(zeroed, "neurons", "post", by_place),
    ])  # fmt: skip
    return Answer(
        question="writer",
        cells=edges,
        effects=by_level(edges),
        verdicts=(*found.verdicts, *coordinate_verdicts(coordinates, left_out, n_claims)),
        tables={
            "roles": found.cells,
            "coordinates": coordinates,
            "smallest": _sizes(coordinates, neurons.tables["smallest"]),
        },
        left_out=found.left_out,
        n_censored=found.n_censored,
    )


def _writers(cells: pd.DataFrame) -> Writers:
    """The group of MLPs that writes each sink; empty if no MLP does."""
    places = cells[["text_id", "pos"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        (str(text_id), int(pos)): group
        for (text_id, pos), group in zip(places, writers_of(cells), strict=True)
    }


def _as_forming(texts: list[Trace], sinks: SinkTable, written: Writers) -> list[Forming]:
    """The writers of each sink with a control, as the MLPs whose neurons are tested."""
    cases = [case for text in match_pairs(texts, sinks) for case in text.cases]
    return [
        Forming(
            text_id=case.sink.text_id,
            pos=case.sink.pos,
            layers=written.get(case.place) or (case.sink.l_start,),
            how="one" if written.get(case.place) else "none",
            mass_lost=nan,
            alignment_lost=nan,
            written=nan,
        )
        for case in cases
    ]


Places = Mapping[Place, Sink]


def _of_roles(cells: pd.DataFrame, by_place: Places) -> Iterator[Edge]:
    """Edges of the MLPs that write or enable a sink."""
    for row in cells[cells["role"].isin(list(MEASURES))].to_dict("records"):
        sink = by_place[row["text_id"], row["pos"]]
        for measure, share in (
            (MEASURES[row["role"]], row["ended_each"]),
            ("created", row["created_in_twin"]),
        ):
            yield Edge(
                **of_sink(sink),
                part="writer",
                measure=measure,
                site="mlp_out",
                layer=float(row["layer"]),
                effect=share,
                low=float(share == 1),  # the outcomes at single twins are 0 or 1
                high=float(share > 0),
                unit=SHARE_UNIT,
            )


def _of_sets(cells: pd.DataFrame, column: str, site: str, by_place: Places) -> Iterator[Edge]:
    """Edges of the neurons or coordinates of the smallest set whose edit ends a sink."""
    without = cells[cells["test"] == "without"]
    for (text_id, pos), mine in without.groupby(["text_id", "sink_pos"], sort=False):
        sink = by_place.get((str(text_id), int(str(pos))))
        ended = mine[(mine[column] == "top") & (survives(mine) == 0)].sort_values("k")
        if sink is None or ended.empty or ended["k"].iloc[0] > MOST:
            continue
        first = ended.iloc[0]
        random = mine[(mine[column] == "random") & (mine["k"] == first["k"])]
        for edit in load_cells(str(first["edits"]))[0]:
            for layer in edit.layers:
                for unit in edit.units:
                    yield Edge(
                        **of_sink(sink),
                        part="writer",
                        measure="ended_in_set",
                        site=site,
                        layer=float(layer),
                        head=float(unit),
                        effect=1.0,
                        control=float(1 - survives(random).mean()),
                        unit=SHARE_UNIT,
                    )


def _sizes(coordinates: pd.DataFrame, neurons: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the smallest sets by sink, of coordinates and of neurons; NaN where none was."""
    parts = [
        smallest.set_index(["text_id", "pos"])[["needed", "enough"]].add_prefix(f"{name}_")
        for name, smallest in (("coordinates", smallest_sizes(coordinates)), ("neurons", neurons))
    ]
    return pd.concat(parts, axis=1).reset_index()


def writer_claims(sinks: SinkTable) -> int:
    """Number of claims of `writer`: those of `roles`, and two on coordinates."""
    return OWN_CLAIMS["roles"](sinks) + len(CLAIMS)


def cells_of(sample: Sample) -> CellCounts:
    """Cost of roles, neurons and coordinates, if every sink with a twin has one writer."""
    d_model = sample.texts[0].trace.typical.shape[1] if sample.texts else 1
    traces = [text.trace for text in sample.texts]
    asked, _ = sinks_with_twins(traces, sample.sinks)
    n_with_twins = sum(bool(one.twins) for one in asked)
    replayed = roles_cost(traces, sample.sinks).replayed + SPARSITY.cost(sample).replayed
    sets = len(sizes_of(d_model)) * 2 * (1 + SEEDS)
    return CellCounts(replayed=replayed + n_with_twins * sets)


def coordinate_figures(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that live, by the number of coordinates that are a twin's, or its own."""
    cells = answer.tables["coordinates"]
    keys = ["test", "coordinates", "k"]
    alive = cells.astype({"is_sink": float}).groupby(keys, sort=False)["is_sink"].mean()
    frame = alive.reset_index()
    caption = (
        "Coordinates of the writer's output, sorted by how much they differ from their mean at "
        "token twins. Above: the first k are replaced by that mean. Below: all but the first k. "
        "Compared with as many random coordinates. Shares of all sinks with a writer."
    )
    return figures.by_size(frame, "coordinates", "is_sink", "replaced", caption, frame)


WRITER = Question(
    name="writer",
    title="Writer",
    asks="Which MLPs write a sink, and which neurons and coordinates carry it?",
    ask=writer,
    n_claims=writer_claims,
    cost=cells_of,
    figures=coordinate_figures,
    further_tables=("roles", "coordinates", "smallest"),
    circuit=True,
    needs_forming=False,
)
