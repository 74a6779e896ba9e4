"""Precision and recall of the criteria on random planted models, by condition.

    python -m tools.plant_scores --plants 100

prints the table in docs/plants.md. Within `MARGINS` the sinks are unambiguous: none may be missed,
and nothing else may be found. Outside of them, criteria may differ.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from secondary_sinks.detection import detect
from secondary_sinks.observation import observe
from secondary_sinks.testing.plant_spec import PRIMARY, ExpectedSink, Plant
from secondary_sinks.testing.planted import PlantedModel, plant
from secondary_sinks.types import Sink, Thresholds

MARGINS = """Sinks: 30 to 150 along the sink direction (45 to 150 where tokens share a large common
direction), where ordinary tokens are about 6 long; at most 5 secondary ones in a text of 64 to 96
tokens, from position 6 on and seen by at least 16 queries; at most 9 tokens share the attention (7
where all comes at once). Primaries: 300 to 500. Weak decoys: at most 12 along the direction."""

CRITERIA = ("joint", "paper")
BRIEF = "joint, however brief"
"""The joint criterion without a word on how long a sink lasts and how much it draws."""
ROWS = (CRITERIA[0], BRIEF, *CRITERIA[1:])
"""Criteria of the printed table, in the order of its rows."""

Garden = tuple[list[Plant], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a criterion found in the planted models of one condition."""

    condition: str
    criterion: str
    plants: int
    """Number of planted models."""
    expected: int
    """Number of true sinks that last, primaries included."""
    found: int
    """Tokens called sinks, but for those called transient."""
    right: int
    """Number of true sinks that were found."""
    exact: int
    """Number of these with the right layers, kind and censoring."""

    @property
    def precision(self) -> float:
        """Share of found tokens that are true sinks, in [0, 1]; NaN if none was found."""
        return self.right / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of true sinks that were found, in [0, 1]; NaN without true sinks."""
        return self.right / self.expected if self.expected else float("nan")


def random_plants(condition: str, chance: random.Random) -> PlantedModel:
    """A random planted model of one of the `CONDITIONS`, within `MARGINS`."""
    n_layers, n_pos = chance.randint(6, 10), chance.choice([64, 80, 96])
    places = chance.sample(range(6, n_pos - 16, 2), 14)
    plants, own = CONDITIONS[condition](n_layers, places, chance)
    options: dict[str, Any] = {
        "n_layers": n_layers,
        "n_pos": n_pos,
        "seed": chance.randrange(10**6),
    }
    return plant(plants, **(options | own))


def measure(condition: str, n_plants: int, seed: int = 0, criterion: str = "joint") -> Score:
    """Compare found and true sinks of `n_plants` random planted models of a condition."""
    chance = random.Random(f"{condition} {seed}")
    expected = found = right = exact = 0
    for _ in range(n_plants):
        planted = random_plants(condition, chance)
        there = planted.expected_sinks()
        truth = {sink.pos: sink for sink in there if sink.kind != "transient"}
        sinks = [sink for sink in _find(planted, criterion) if sink.kind != "transient"]
        both = [sink for sink in sinks if sink.pos in truth]
        expected, found, right = expected + len(truth), found + len(sinks), right + len(both)
        exact += sum(is_exact(sink, truth[sink.pos]) for sink in both)
    return Score(
        condition=condition,
        criterion=criterion,
        plants=n_plants,
        expected=expected,
        found=found,
        right=right,
        exact=exact,
    )


def is_exact(sink: Sink, truth: ExpectedSink) -> bool:
    """Whether layers, censoring and kind are right; any of several primaries may be the first."""
    secondary = (sink.kind == "secondary", truth.kind == "secondary")
    same = (sink.layers, sink.censored) == (truth.layers, truth.censored)
    return same and secondary[0] == secondary[1]


def _find(planted: PlantedModel, criterion: str) -> Sequence[Sink]:
    trace, any_length = observe(planted.model, planted.tokens), Thresholds(persists=1, draws=0.0)
    if criterion == BRIEF:
        return detect(trace, any_length).sinks
    return detect(trace, criterion=criterion).sinks


def _primary(chance: random.Random, **changes: Any) -> Plant:
    strength = chance.uniform(PRIMARY, 500.0)
    return Plant(**({"pos": chance.choice([0, 0, 1, 3]), "strength": strength} | changes))


def _secondary(n_layers: int, pos: int, chance: random.Random, least: float = 30.0) -> Plant:
    """A sink by one MLP or two redundant ones, created after the primary; half of them die."""
    born = chance.randint(2, n_layers - 2)
    strength = least * (150.0 / least) ** chance.random()
    later = chance.randint(born + 1, n_layers - 1)
    twice = strength >= 2 * least and later < n_layers - 1 and chance.random() < 0.3
    forming = (born, later) if twice else (born,)
    end = max(forming)
    dies = chance.choice([None, chance.randint(end + 1, n_layers - 1)])
    return Plant(pos=pos, forming=forming, dies=dies, strength=strength)


def _some(
    n_layers: int, places: Sequence[int], chance: random.Random, least: float = 30.0
) -> list[Plant]:
    chosen = places[: chance.randint(0, min(5, len(places)))]
    return [_secondary(n_layers, pos, chance, least) for pos in chosen]


def _plain(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    return [_primary(chance, forming=(1,)), *_some(n_layers, places, chance)], {}


def _anisotropic(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    plants = [_primary(chance, forming=(1,)), *_some(n_layers, places, chance, least=45.0)]
    return plants, {"anisotropy": chance.uniform(10.0, 30.0)}


def _grouped(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    plants, _ = _plain(n_layers, places, chance)
    return plants, {"n_kv_heads": chance.choice([2, 4]), "content_queries": True}


def _rotary(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    plants, _ = _plain(n_layers, places, chance)
    options = {"positions": "rotary", "gated": True, "n_kv_heads": 2, "content_queries": True}
    return plants, options


def _by_attention(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Sinks copied by an attention head, and sinks that two MLPs form only together."""
    layers = chance.sample(range(2, n_layers - 1), 2)
    copied = [
        Plant(pos=pos, forming=(layer,), by="attention", strength=chance.uniform(30, 150))
        for pos, layer in zip(places, layers, strict=False)
    ]
    pair = tuple(sorted(chance.sample(range(2, n_layers - 1), 2)))
    together = Plant(pos=places[2], forming=pair, strength=24.0)
    chain = Plant(pos=places[3], forming=pair, chain=True, strength=chance.uniform(30, 150))
    return [_primary(chance, forming=(1,)), *copied, together, chain], {}


def _with_decoys(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Sinks and decoys, which pass one or two of the three tests of a sink."""
    plants, _ = _plain(n_layers, places[:3], chance)
    return plants + _decoys(n_layers, places[5:], chance), {}


def _decoys(n_layers: int, places: Sequence[int], chance: random.Random) -> list[Plant]:
    born = (chance.randint(2, n_layers - 2),)
    at = iter(places)
    strong = chance.uniform(45, 150)
    decoys = [
        Plant(pos=next(at), forming=born, sideways=True, strength=strong),
        Plant(pos=next(at), forming=born, sideways=True, strength=strong, attended=True),
        Plant(pos=next(at), forming=born, strength=-strong),
        Plant(pos=next(at), forming=born, strength=-strong, attended=True),
        Plant(pos=next(at), forming=born, strength=strong, attended=False),
        Plant(pos=next(at), forming=born, strength=chance.uniform(1, 12)),
        Plant(pos=next(at), forming=born, strength=12.0, content=0.02, attended=True),
        Plant(pos=next(at), attended=True),
    ]
    return chance.sample(decoys, 5)


def _brief_decoys(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Tokens that are sinks in all but length, at layer 0 and later, among sinks that last."""
    primary = _primary(chance, forming=(0,))
    sinks = [
        Plant(pos=pos, forming=(chance.randint(1, 3),), strength=chance.uniform(60, 150))
        for pos in places[:2]
    ]
    born = [0, 0, *(chance.randint(1, n_layers - 4) for _ in range(2))]
    brief = [
        Plant(pos=pos, forming=(one,), dies=one + chance.choice([1, 2]), strength=60.0)
        for pos, one in zip(places[2:6], born, strict=True)
    ]
    return [primary, *sinks, *brief], {"anisotropy": chance.uniform(10.0, 30.0)}


def _several_primaries(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Two to four primaries at the first tokens, some of them created a layer later."""
    primaries = [
        _primary(chance, pos=pos, forming=(1 if pos == 1 else chance.choice([1, 2]),))
        for pos in range(chance.randint(2, 4))
    ]
    n_layers = max(n_layers, 8)
    return primaries + _some(n_layers, places, chance), {"n_layers": n_layers}


def _episodes(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Two episodes, of one primary or of two different ones, each with its own sinks."""
    first = _primary(chance, forming=(1,), dies=4)
    where = chance.choice([first.pos, places[5]])
    second = _primary(chance, pos=where, forming=(5,))
    early, late, through = places[:3]
    plants = [
        Plant(pos=early, forming=(2,), dies=chance.choice([3, 4])),
        Plant(pos=late, forming=(chance.choice([5, 6]),), strength=80.0),
        Plant(pos=through, forming=(chance.choice([1, 2, 3]),), strength=80.0),
    ]
    return [first, second, *chance.sample(plants, 2)], {"n_layers": 9}


def _at_once(n_layers: int, places: Sequence[int], chance: random.Random) -> Garden:
    """Several primaries, sinks and decoys together, in a model with random options."""
    plants, options = _several_primaries(n_layers, (), chance)
    sinks = [_secondary(n_layers, pos, chance, least=60.0) for pos in places[:2]]
    make = {
        "n_pos": 96,
        "anisotropy": chance.uniform(0.0, 30.0),
        "n_kv_heads": chance.choice([None, 2]),
        "positions": chance.choice(["learned", "rotary"]),
        "gated": chance.choice([False, True]),
        "content_queries": True,
    }
    return plants[:2] + sinks + _decoys(n_layers, places[5:], chance)[:4], options | make


CONDITIONS: dict[str, Callable[[int, Sequence[int], random.Random], Garden]] = {
    "plain": _plain,
    "anisotropic": _anisotropic,
    "grouped queries": _grouped,
    "rotary, gated, grouped": _rotary,
    "by attention or together": _by_attention,
    "decoys": _with_decoys,
    "anisotropic, brief decoys": _brief_decoys,
    "several primaries": _several_primaries,
    "episodes and turns": _episodes,
    "all at once": _at_once,
}
"""Function that draws the plants of each condition, by name."""


def table(scores: Sequence[Score]) -> str:
    """The scores as a table in Markdown."""
    lines = [
        "| condition | criterion | models | sinks | precision | recall | exact |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in scores:
        exact = one.exact / one.right if one.right else float("nan")
        lines.append(
            f"| {one.condition} | {one.criterion} | {one.plants} | {one.expected} "
            f"| {one.precision:.3f} | {one.recall:.3f} | {exact:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--plants", type=int, default=100, help="planted models per condition")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pairs = [(condition, name) for condition in CONDITIONS for name in ROWS]
    print(table([measure(pair[0], given.plants, given.seed, pair[1]) for pair in pairs]))


if __name__ == "__main__":
    main()
