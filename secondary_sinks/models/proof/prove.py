"""Proof at load: the hooked model computes what its original computes, and obeys its hooks.

Four checks, each skippable by its name:

* `original`: every layer and the unembedding give what those of the Hugging Face original give,
  and every layer sees as far back as its original does;
* `patterns`: rows of every attention pattern sum to one, or to less where a layer has learned
  sinks, which take the rest;
* `causality`: an edit of one MLP's output at one position changes what comes after it and
  nothing before it;
* `chunks`: each layer gives the same when it is fed in chunks of queries.

The rule for "the same": each layer is handed exactly the input that the original's layer had, and
at every position the largest difference between the two outputs must stay within a bound that is
measured on the original. The bound is how far the original's own output moves, given that input,
when all numbers that enter and leave its parts are disturbed by 64 units of rounding, plus 64 units
of rounding of the output itself; 8 units in half precision (`models.disturbed`).

So rounding does not pile up from layer to layer, a wrong layer stands out among right ones, and the
bound is wide only where rounding is: a norm of thousands that arises or cancels amplifies rounding
a hundred times, at that layer and position alone. A fixed tolerance would refuse right models there
or accept wrong ones elsewhere. Differences between honest computations stay below a third of the
bound; a wrong rope, bias, head or norm exceeds it ten times and more.
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import ModelError, ModelMismatchError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.agreement import Agreements, compare, relative_error
from secondary_sinks.models.proof.expected import Expected, States
from secondary_sinks.models.proof.lockstep import expect_itself, lockstep

CHECKS = ("original", "patterns", "causality", "chunks")

WHOM = {"original": "its original", "chunks": "itself when it is fed in chunks"}

# What sums to one may miss it by this much, and what changes by more has changed.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 8e-2, torch.float16: 1e-2}


def prove(
    model: Any, expected: Expected | None, skip: Collection[str] = ()
) -> dict[str, Agreements]:
    """Run all checks; by the name of each that compares states, how well they agree.

    Without `expected` (a model that comes hooked has no original) nothing is compared with one,
    and rounding is measured on the model itself.
    Raises `ModelMismatchError` that names the check and the first layer which fails it.
    """
    check_skip(skip)
    if expected is None:
        skip, expected = {*skip, "original"}, expect_itself(model)
    states, row_sums = lockstep(model, expected.probe, expected.states)
    found: dict[str, Agreements] = {}
    if "original" not in skip:
        _check_finite(expected.states)
        _check_windows(model, expected)
        found["original"] = _agree(model, states, expected.states, expected, "original")
    if "patterns" not in skip:
        _check_patterns(model, row_sums)
    if "causality" not in skip:
        found["causality"] = _check_causality(model, expected, states)
    if "chunks" not in skip:
        walked = _walked_states(model, expected)
        found["chunks"] = _agree(model, walked, states, expected, "chunks")
    return found


def check_skip(skip: Collection[str]) -> None:
    """Raise `ModelError` for the name of a check that there isn't."""
    names = [skip] if isinstance(skip, str) else list(skip)
    unknown = [name for name in names if name not in CHECKS]
    if unknown or isinstance(skip, str):
        wrong = unknown[0] if unknown else skip
        raise ModelError(
            f"checks to skip: got {wrong!r}; expected a list of names among {', '.join(CHECKS)}"
        )


def _agree(model: Any, ours: States, theirs: States, expected: Expected, check: str) -> Agreements:
    found = compare(ours, theirs, expected.bounds, median=_chosen_by_a_hair(model))
    for name, one in found.items():
        if not one.share <= 1:
            raise _failed(
                check,
                f"given the same input, the hooked model disagrees with {WHOM[check]} first at "
                f"{name}, position {one.pos}: relative error {one.error:.2g}, where rounding "
                f"explains at most {one.error / one.share:.2g}",
            )
    return found


def _chosen_by_a_hair(model: Any) -> bool:
    """Whether the median position is judged: in half precision, of a mixture of experts.

    There rounding alone may choose another expert and turn single positions over. What is wrong
    with a model is wrong with most positions.
    """
    half = model.cfg.dtype in (torch.bfloat16, torch.float16)
    return half and bool(getattr(model.cfg, "num_experts", None))


def _check_finite(theirs: States) -> None:
    """An original that overflows has nothing to agree with."""
    bad = [name for name, state in theirs.items() if not torch.isfinite(state).all()]
    if bad:
        first = min(bad, key=lambda name: name == "logits")
        raise _failed(
            "original",
            f"the original itself gives NaN or infinite values first at {first} for the probe "
            "text; in half precision, try float32",
        )


def _check_windows(model: Any, expected: Expected) -> None:
    """Every layer of the original must see as many keys as ours does."""
    passage = layerwise_forward(model, torch.zeros(expected.far + 1, dtype=torch.long))
    for layer, theirs in enumerate(expected.visible):
        window = passage.layer(layer).window
        ours = expected.far + 1 if window is None else min(window, expected.far + 1)
        if ours != theirs:
            raise _failed(
                "original",
                f"a query at position {expected.far} of layer {layer} sees {ours} keys, "
                f"in the original {theirs}",
            )


def _check_patterns(model: Any, row_sums: list[Float[Tensor, "head pos"]]) -> None:
    tolerance = TOLERANCE[model.cfg.dtype]
    passage = layerwise_forward(model, torch.zeros(2, dtype=torch.long))
    for layer, sums in enumerate(row_sums):
        leaks = passage.layer(layer).learned_sinks is not None
        off = (sums - 1).clamp(min=0) if leaks else (sums - 1).abs()
        if not float(off.max()) <= tolerance:
            kind = "more than 1" if leaks else "not to 1"
            raise _failed("patterns", f"rows of the pattern of layer {layer} sum {kind}")


def _check_causality(model: Any, expected: Expected, clean: States) -> Agreements:
    """Add a vector to one MLP output, and look at what has changed.

    It is ten times as long as the residual, so that later layers, which may write much, do not hide
    it within the rounding of half precision. What lies before it is handed on as it was.
    """
    layer, pos = (model.cfg.n_layers - 1) // 2, expected.probe.shape[1] // 2
    point, edited = hook_name(layer, "mlp_out"), hook_name(layer, "resid_post")
    vector = _strong_vector(clean[edited][pos])

    def add(mlp_out: Tensor, hook: Any) -> Tensor:
        changed = mlp_out.clone()
        changed[0, pos] += vector.to(changed)
        return changed

    names = list(clean)
    after = names[names.index(edited) :]
    untouched = {name: slice(None, pos) if name in after else slice(None) for name in names}
    given = {name: state[untouched[name]] for name, state in expected.states.items()}
    states, _ = lockstep(model, expected.probe, given, [(point, add)])
    cut = (_cut(each, untouched) for each in (states, clean, expected.bounds))
    found = compare(*cut, median=_chosen_by_a_hair(model))
    for name, one in found.items():
        if not one.share <= 1:
            raise _failed("causality", f"an edit at layer {layer}, position {pos} leaks to {name}")
        change = relative_error(states[name][pos:].float(), clean[name][pos:].float())
        if name in after and not change > TOLERANCE[model.cfg.dtype]:
            raise _failed("causality", f"an edit of {point} misses {name}")
    return found


def _strong_vector(residual: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
    vector = torch.randn(len(residual), generator=torch.Generator().manual_seed(1))
    return vector * 10 * residual.float().norm() / vector.norm()


def _cut(states: dict[str, Tensor], parts: dict[str, slice]) -> dict[str, Tensor]:
    return {name: state[parts[name]] for name, state in states.items()}


def _walked_states(model: Any, expected: Expected) -> States:
    """`resid_post` of every layer, each walked through in two chunks and a rest."""
    passage, states = layerwise_forward(model, expected.probe[0]), {}
    chunk = max(1, expected.probe.shape[1] * 2 // 5)
    for layer in range(model.cfg.n_layers):
        resid_pre = expected.states[hook_name(layer, "resid_pre")][None]
        run = passage.layer(layer)
        walked = run.forward(resid_pre.to(passage.embedded.device), [], chunk=chunk)
        states[hook_name(layer, "resid_post")] = walked[0].cpu()
    return states


def _failed(check: str, what: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"check {check!r}: {what}; this model cannot be trusted here "
        f"(load_model(..., skip=[{check!r}]) loads it all the same)"
    )
