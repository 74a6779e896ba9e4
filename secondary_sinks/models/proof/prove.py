"""Check that a hooked model computes the same as its original, and that its hooks work.

There are four checks, which can be skipped by name:

* `original`: every layer and the unembedding have the same output as in the Hugging Face original,
  and every layer sees as many keys as there;
* `patterns`: rows of every attention pattern sum to one, or to less in a layer with learned sinks,
  which take the rest;
* `causality`: an edit of one MLP's output at one position changes later states at this and later
  positions, and no others;
* `chunks`: each layer has the same output if it is run in chunks of queries.

Two outputs are the same if they differ by no more than rounding. Each layer is given exactly the
input of the original's layer, and at every position the largest difference between the two outputs
must be within a bound that is measured on the original: how far its output moves, for that input,
when all inputs and outputs of its parts are disturbed by 64 units of rounding, plus 64 units of
rounding of the output itself. In half precision it is 8 units (`proof.disturbed`).

So rounding does not accumulate from layer to layer, and a wrong layer stands out among correct
ones. The bound is wide only where rounding is: a norm of thousands that arises or cancels amplifies
rounding a hundred times, at that layer and position only. A fixed tolerance would refuse correct
models there, or accept wrong ones elsewhere. Differences between correct computations stay below a
third of the bound; a wrong rope, bias, head or norm exceeds it by a factor of ten or more.
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import ModelError, ModelMismatchError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.expected import (
    Agreements,
    Expected,
    States,
    compare,
    relative_error,
)
from secondary_sinks.models.proof.lockstep import expect_itself, lockstep
from secondary_sinks.types.lists import refuse_twice

CHECKS = ("original", "patterns", "causality", "chunks")

COUNTERPARTS = {"original": "its original", "chunks": "itself when it is run in chunks"}

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 8e-2, torch.float16: 1e-2}
"""Largest error of a sum that should be one, and smallest relative change that counts as one."""


def prove(
    model: Any, expected: Expected | None, skip: Collection[str] = ()
) -> dict[str, Agreements]:
    """Run the checks; returns the agreements of each check that compares states, by its name.

    Without `expected`, for a model that has no original, the check `original` is left out and
    rounding is measured on the model itself. Raises `ModelMismatchError` that names the check and
    the first layer which fails it.
    """
    check_skip(skip)
    if expected is None:
        skip, expected = {*skip, "original"}, expect_itself(model)
    states, row_sums = lockstep(model, expected.probe, expected.states)
    agreements: dict[str, Agreements] = {}
    if "original" not in skip:
        _check_finite(expected.states)
        _check_windows(model, expected)
        agreements["original"] = _compare(model, states, expected.states, expected, "original")
    if "patterns" not in skip:
        _check_patterns(model, row_sums)
    if "causality" not in skip:
        agreements["causality"] = _check_causality(model, expected, states)
    if "chunks" not in skip:
        in_chunks = _states_in_chunks(model, expected)
        agreements["chunks"] = _compare(model, in_chunks, states, expected, "chunks")
    return agreements


def check_skip(skip: Collection[str]) -> None:
    """Raise `ModelError` for the name of a check that there isn't, and for one given twice."""
    names = [skip] if isinstance(skip, str) else list(skip)
    unknown = [name for name in names if name not in CHECKS]
    if unknown or isinstance(skip, str):
        wrong = unknown[0] if unknown else skip
        raise ModelError(
            f"checks to skip: got {wrong!r}", f"expected a list of names among {', '.join(CHECKS)}"
        )
    refuse_twice("checks to skip", names, ModelError)


def _compare(
    model: Any, ours: States, theirs: States, expected: Expected, check: str
) -> Agreements:
    agreements = compare(ours, theirs, expected.bounds, median=_judges_median(model))
    for name, one in agreements.items():
        if not one.share <= 1:
            raise _failed(
                check,
                "given the same input, the hooked model disagrees with "
                f"{COUNTERPARTS[check]} first at {name}, position {one.pos}: relative error "
                f"{one.error:.2g}, where rounding explains at most {one.error / one.share:.2g}",
            )
    return agreements


def _judges_median(model: Any) -> bool:
    """Whether the median position is judged: for a mixture of experts in half precision.

    There, rounding alone may choose another expert at single positions. An error in a model shows
    at most positions.
    """
    half = model.cfg.dtype in (torch.bfloat16, torch.float16)
    return half and bool(getattr(model.cfg, "num_experts", None))


def _check_finite(theirs: States) -> None:
    """Refuse an original whose states overflow, as nothing can be compared with them."""
    bad = [name for name, state in theirs.items() if not torch.isfinite(state).all()]
    if bad:
        first = min(bad, key=lambda name: name == "logits")
        raise _failed(
            "original",
            f"the original itself gives NaN or infinite values first at {first} for the probe "
            "text; in half precision, try float32",
        )


def _check_windows(model: Any, expected: Expected) -> None:
    """Refuse a layer that does not see as many keys as in the original."""
    forward = layerwise_forward(model, torch.zeros(expected.far + 1, dtype=torch.long))
    for layer, theirs in enumerate(expected.n_visible):
        window = forward.layer(layer).window
        ours = expected.far + 1 if window is None else min(window, expected.far + 1)
        if ours != theirs:
            raise _failed(
                "original",
                f"a query at position {expected.far} of layer {layer} sees {ours} keys, "
                f"in the original {theirs}",
            )


def _check_patterns(model: Any, row_sums: list[Float[Tensor, "head pos"]]) -> None:
    tolerance = TOLERANCE[model.cfg.dtype]
    forward = layerwise_forward(model, torch.zeros(2, dtype=torch.long))
    for layer, sums in enumerate(row_sums):
        has_learned_sinks = forward.layer(layer).learned_sinks is not None
        error = (sums - 1).clamp(min=0) if has_learned_sinks else (sums - 1).abs()
        if not float(error.max()) <= tolerance:
            problem = "sum to more than 1" if has_learned_sinks else "do not sum to 1"
            raise _failed("patterns", f"rows of the pattern of layer {layer} {problem}")


def _check_causality(model: Any, expected: Expected, clean: States) -> Agreements:
    """Add a vector to one MLP output, and compare all states with the clean ones.

    The vector is ten times as long as the residual, so that large outputs of later layers do not
    hide it in the rounding of half precision. Earlier positions are given their clean states.
    """
    layer, pos = (model.cfg.n_layers - 1) // 2, expected.probe.shape[1] // 2
    point, edited = hook_name(layer, "mlp_out"), hook_name(layer, "resid_post")
    state = clean[edited][pos]
    vector = torch.randn(len(state), generator=torch.Generator().manual_seed(1))
    vector = vector * 10 * state.float().norm() / vector.norm()

    def add(mlp_out: Tensor, hook: Any) -> Tensor:
        changed = mlp_out.clone()
        changed[0, pos] += vector.to(changed)
        return changed

    names = list(clean)
    after = names[names.index(edited) :]
    untouched = {name: slice(None, pos) if name in after else slice(None) for name in names}
    given = {name: state[untouched[name]] for name, state in expected.states.items()}
    states, _ = lockstep(model, expected.probe, given, [(point, add)])
    ours, theirs, bounds = (
        {name: values[name][untouched[name]] for name in values}
        for values in (states, clean, expected.bounds)
    )
    agreements = compare(ours, theirs, bounds, median=_judges_median(model))
    for name, one in agreements.items():
        if not one.share <= 1:
            raise _failed("causality", f"an edit at layer {layer}, position {pos} leaks to {name}")
        change = relative_error(states[name][pos:].float(), clean[name][pos:].float())
        if name in after and not change > TOLERANCE[model.cfg.dtype]:
            raise _failed("causality", f"an edit of {point} does not change {name}")
    return agreements


def _states_in_chunks(model: Any, expected: Expected) -> States:
    """`resid_post` of every layer, computed in two chunks of queries and a rest."""
    forward, states = layerwise_forward(model, expected.probe[0]), {}
    chunk = max(1, expected.probe.shape[1] * 2 // 5)
    for layer in range(model.cfg.n_layers):
        resid_pre = expected.states[hook_name(layer, "resid_pre")][None]
        on_device = resid_pre.to(forward.embedded.device)
        resid_post = forward.layer(layer).forward(on_device, [], chunk=chunk)
        states[hook_name(layer, "resid_post")] = resid_post[0].cpu()
    return states


def _failed(check: str, problem: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"check {check!r}: {problem}; this model cannot be trusted here "
        f"(load_model(..., skip=[{check!r}]) loads it without this check)"
    )
