"""Refuse plants that are impossible, or that a criterion could decide either way."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from secondary_sinks.errors import PlantError
from secondary_sinks.memory import free_bytes, gigabytes
from secondary_sinks.numbers import finite_number, whole_number
from secondary_sinks.testing.plant_spec import PRIMARY, STRONG, WEAK, Plant

MOST_LAYERS = 1_000
"""More layers than any model has; each takes time to make."""


def check_options(
    *, n_layers: Any, n_pos: Any, n_kv_heads: Any, n_heads: int, anisotropy: Any, seed: Any
) -> None:
    """Raise `PlantError` for sizes that no planted model can have, before it is made."""
    whole_number("n_pos", n_pos, PlantError, 1)
    if whole_number("n_layers", n_layers, PlantError, 1) > MOST_LAYERS:
        raise PlantError(f"n_layers is {n_layers}", f"expected at most {MOST_LAYERS}")
    if n_kv_heads is not None and n_heads % whole_number("n_kv_heads", n_kv_heads, PlantError, 1):
        raise PlantError(f"n_kv_heads is {n_kv_heads}", f"expected a divisor of {n_heads} heads")
    finite_number("anisotropy", anisotropy, PlantError, 0)
    if whole_number("seed", seed, PlantError, 0) >= 1 << 32:
        raise PlantError(f"seed is {seed}", "expected a number below 2^32")
    _check_memory(n_layers, n_pos, n_heads)


def check_flags(**flags: Any) -> None:
    """Raise `PlantError` for an option that is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise PlantError(f"{name} is {value!r:.60}", "expected True or False")


def _check_memory(n_layers: int, n_pos: int, n_heads: int) -> None:
    """Each layer keeps a mask [query, key] of bytes, and one layer at a time has float scores."""
    needed, free = n_pos**2 * (n_layers + 12 * n_heads), free_bytes()
    if free is not None and needed > free:
        raise PlantError(
            f"{n_layers} layers of {n_pos} positions need {gigabytes(needed)}",
            f"expected at most the free memory ({gigabytes(free)}): give fewer positions",
        )


def _check_values(one: Any) -> None:
    """Numbers are whole or finite, flags are True or False, and no layer is named twice."""
    if not isinstance(one, Plant):
        raise PlantError(f"got {one!r:.60} among the plants", "expected a Plant")
    whole = {"pos": one.pos, "dies": one.dies, "identity": one.identity, "source": one.source}
    for name, value in whole.items():
        if name == "pos" or value is not None:
            whole_number(name, value, PlantError)
    for name in ("strength", "trigger_score", "content", "value"):
        finite_number(name, getattr(one, name), PlantError)
    for name in ("forming", "trigger", "read_by"):
        _check_numbers(name, getattr(one, name))
    check_flags(
        chain=one.chain, sideways=one.sideways, attended=one.attended is None or one.attended
    )


def _check_numbers(name: str, numbers: Any) -> None:
    if numbers is None and name == "read_by":
        return
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise PlantError(f"{name} is {numbers!r:.60}", "expected a tuple of whole numbers")
    distinct = {whole_number(f"a number in {name}", one, PlantError) for one in numbers}
    if len(distinct) < len(numbers):
        raise PlantError(f"{name} is {numbers}", "expected each number once")


def check_plants(plants: Sequence[Plant], n_layers: int, n_pos: int, n_heads: int) -> None:
    """Raise `PlantError` for a plant that is impossible or has no clear truth."""
    for one in plants:
        _check_values(one)
        if not 0 <= one.pos < n_pos:
            raise PlantError(f"position {one.pos} is out of range", f"expected 0 to {n_pos - 1}")
        _check_layers(one, n_layers)
        _check_heads(one, n_heads)
        _check_strength(one)
    copied = [one for one in plants if one.copied_at]
    layers, positions = [la for one in copied for la in one.copied_at], {one.pos for one in plants}
    if len(set(layers)) < len(layers) or any(one.giver in positions for one in copied):
        raise PlantError(
            "expected at most one plant by attention, or with a trigger, in a layer, copied from "
            "an ordinary token; give another layer or source"
        )
    if any(one.trigger for one in plants) and len({one.giver for one in copied}) > 1:
        raise PlantError(
            "expected one source for all plants that heads copy to, if one has a trigger"
        )
    axes = {(one.pos, one.sideways) for one in plants}
    if len(axes) > len(positions):
        raise PlantError("expected plants at one position to be all sideways, or none of them")


def _check_layers(one: Plant, n_layers: int) -> None:
    for layer in [*one.forming, *([] if one.dies is None else [one.dies])]:
        if not 0 <= layer < n_layers:
            raise PlantError(f"layer {layer} is out of range", f"expected 0 to {n_layers - 1}")
    if one.dies is not None and one.dies <= max(one.forming, default=n_layers):
        raise PlantError(f"expected dies to be a layer after all forming layers; got {one}")
    if one.chain and (len(one.forming) != 2 or one.sideways or one.by != "mlp"):
        raise PlantError(f"expected a chain of two MLPs along the sink direction; got {one}")
    if one.by == "attention" and (len(one.forming) != 1 or not 0 <= one.giver < one.pos):
        raise PlantError(
            f"expected one forming layer and an earlier source for attention; got {one}"
        )
    if one.identity is not None and (
        one.chain or one.by != "mlp" or not 0 <= one.identity < min(one.forming, default=0)
    ):
        raise PlantError(f"expected identity to be a layer before all forming layers; got {one}")
    if one.trigger and (
        one.chain
        or one.identity is not None
        or one.by != "mlp"
        or one.sideways
        or one.has_own_axis
        or not 0 <= one.giver < one.pos
        or not 0 <= min(one.trigger) <= max(one.trigger) < min(one.forming, default=0)
    ):
        raise PlantError(
            "expected a trigger in layers before all forming MLPs, with an earlier source, and "
            f"without chain, identity, sideways, attended, read_by and value; got {one}"
        )
    if one.by not in ("mlp", "attention"):
        raise PlantError(f"expected a plant by 'mlp' or 'attention'; got {one.by!r}")


def _check_heads(one: Plant, n_heads: int) -> None:
    if one.read_by is not None and not set(one.read_by) <= set(range(n_heads)):
        raise PlantError(
            f"heads {one.read_by} are out of range", f"expected some of 0 to {n_heads - 1}"
        )
    if (one.read_by is not None or one.value) and (one.chain or one.identity is not None):
        raise PlantError(
            "read_by and value need the plant's own axis, which chain and identity use", "give one"
        )


def _check_strength(one: Plant) -> None:
    strengths = accumulate(map(one.change, sorted(one.forming)))
    partly = [one.strength * part / len(one.trigger) for part in range(1, len(one.trigger))]
    for strength in () if one.sideways else [*strengths, *partly]:
        if WEAK < strength < STRONG or PRIMARY / 2 < strength < PRIMARY:
            raise PlantError(
                f"strength {strength:g} has no clear truth",
                f"expected at most {WEAK:g} (no sink), "
                f"{STRONG:g} to {PRIMARY / 2:g} (a sink), or at least {PRIMARY:g} (a primary)",
            )
