"""Proof at load: the hooked model computes what its original computes, and obeys its hooks.

Four checks, each skippable by its name:

* `original`: logits and every residual equal those of the Hugging Face original, and every layer
  sees as far back as its original does;
* `patterns`: rows of every attention pattern sum to one, or to less where a layer has learned
  sinks, which take the rest;
* `causality`: an edit of one MLP's output at one position changes what comes after it and
  nothing before it;
* `chunks`: a walk layer by layer, in chunks of queries, gives the residuals of one plain pass.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import ModelError, ModelMismatchError
from secondary_sinks.models.expected import PROBE_LENGTH, Expected, States, probe_tokens
from secondary_sinks.models.layers import begin, hook_name
from secondary_sinks.models.protocol import Hook

CHECKS = ("original", "patterns", "causality", "chunks")

# Relative error that separates rounding from a wrong model: rounding of the dtype times the
# square root of a few thousand additions, with room for depth. A wrong rope errs by order 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 8e-2, torch.float16: 1e-2}


def prove(model: Any, expected: Expected | None, skip: Collection[str] = ()) -> dict[str, float]:
    """Run all checks; the largest relative error of each state against the original, by name.

    Without `expected` (a model that comes hooked has no original) nothing is compared with one.
    Raises `ModelMismatchError` that names the check and the first layer which fails it.
    """
    check_skip(skip)
    length = min(PROBE_LENGTH, model.cfg.n_ctx)
    probe = probe_tokens(model.cfg.d_vocab, length) if expected is None else expected.probe
    states, row_sums = _plain_pass(model, probe)
    errors: dict[str, float] = {}
    if expected is not None and "original" not in skip:
        _check_finite(expected.states)
        _check_windows(model, expected)
        errors = _compare(model, states, expected.states, "original", "its original")
    if "patterns" not in skip:
        _check_patterns(model, row_sums)
    if "causality" not in skip:
        _check_causality(model, probe, states)
    if "chunks" not in skip:
        walked = _walked_states(model, probe)
        _compare(model, walked, states, "chunks", "one pass when it is fed in chunks")
    return errors


def check_skip(skip: Collection[str]) -> None:
    """Raise `ModelError` for the name of a check that there isn't."""
    names = [skip] if isinstance(skip, str) else list(skip)
    unknown = [name for name in names if name not in CHECKS]
    if unknown or isinstance(skip, str):
        wrong = unknown[0] if unknown else skip
        raise ModelError(
            f"checks to skip: got {wrong!r}; expected a list of names among {', '.join(CHECKS)}"
        )


def relative_error(ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]) -> float:
    """Largest over positions of max|ours - theirs| / max|theirs|.

    Per position, so that one massive token can't hide errors in the others.
    """
    return float(_relative_errors(ours, theirs).max())


def _relative_errors(
    ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]
) -> Float[Tensor, "*shape"]:
    return (ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)


def _plain_pass(
    model: Any, probe: Int[Tensor, "1 pos"], edits: Sequence[Hook] = ()
) -> tuple[States, list[Float[Tensor, "head pos"]]]:
    """`resid_post` of every layer and the logits, by name; sums of the rows of each pattern."""
    states: States = {}
    sums: list[Tensor] = []

    def on_resid(resid: Tensor, hook: Any) -> None:
        states[f"blocks.{len(states)}.hook_resid_post"] = resid[0].detach().float().cpu()

    def on_pattern(pattern: Tensor, hook: Any) -> None:
        sums.append(pattern[0].float().sum(-1).cpu())

    layers = range(model.cfg.n_layers)
    hooks: list[Hook] = [(hook_name(layer, "resid_post"), on_resid) for layer in layers]
    hooks += [(hook_name(layer, "pattern"), on_pattern) for layer in layers]
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, *edits]):
        logits = model(probe.to(model.cfg.device))
    return states | {"logits": logits[0].float().cpu()}, sums


def _compare(model: Any, ours: States, theirs: States, check: str, whom: str) -> dict[str, float]:
    """In half precision the median position is judged: rounding alone may turn a single one over.

    There an expert of a mixture is chosen by a hair, or a norm divides by next to nothing. What is
    wrong with a model is wrong with most positions.
    """
    half = model.cfg.dtype in (torch.bfloat16, torch.float16)
    judged = torch.median if half else torch.max
    both = {name: (ours[name], theirs[name]) for name in theirs if name in ours}
    errors = {name: float(judged(_relative_errors(*pair))) for name, pair in both.items()}
    tolerance = TOLERANCE[model.cfg.dtype]
    for name, error in errors.items():
        if not error <= tolerance:
            raise _failed(
                check,
                f"the hooked model disagrees with {whom} first at {name}: relative error "
                f"{error:.2g}, expected at most {tolerance:.0e}",
            )
    return errors


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
    passage = begin(model, torch.zeros(expected.far + 1, dtype=torch.long))
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
    passage = begin(model, torch.zeros(2, dtype=torch.long))
    for layer, sums in enumerate(row_sums):
        leaks = passage.layer(layer).learned_sinks is not None
        off = (sums - 1).clamp(min=0) if leaks else (sums - 1).abs()
        if not float(off.max()) <= tolerance:
            kind = "more than 1" if leaks else "not to 1"
            raise _failed("patterns", f"rows of the pattern of layer {layer} sum {kind}")


def _check_causality(model: Any, probe: Int[Tensor, "1 pos"], clean: States) -> None:
    """Add a vector to one MLP output, and look at what has changed.

    It is ten times as long as the residual, so that later layers, which may write much, do not hide
    it within the rounding of half precision.
    """
    layer, pos = (model.cfg.n_layers - 1) // 2, probe.shape[1] // 2
    residual = clean[f"blocks.{layer}.hook_resid_post"][pos]
    vector = torch.randn(len(residual), generator=torch.Generator().manual_seed(1))
    vector *= 10 * residual.norm() / vector.norm()

    def add(mlp_out: Tensor, hook: Any) -> Tensor:
        edited = mlp_out.clone()
        edited[0, pos] += vector.to(edited)
        return edited

    edited, _ = _plain_pass(model, probe, [(hook_name(layer, "mlp_out"), add)])
    tolerance = TOLERANCE[model.cfg.dtype]
    for number, (name, before) in enumerate(clean.items()):
        untouched = slice(None) if number < layer else slice(None, pos)
        leak = relative_error(edited[name][untouched], before[untouched])
        if not leak <= tolerance:
            raise _failed("causality", f"an edit at layer {layer}, position {pos} leaks to {name}")
        change = relative_error(edited[name][pos:], before[pos:])
        if number >= layer and not change > tolerance:
            raise _failed("causality", f"an edit of {hook_name(layer, 'mlp_out')} misses {name}")


def _walked_states(model: Any, probe: Int[Tensor, "1 pos"]) -> States:
    """`resid_post` of every layer, walked through in two chunks and a rest."""
    passage = begin(model, probe[0])
    residual, states = passage.embedded, {}
    chunk = max(1, probe.shape[1] * 2 // 5)
    for layer in range(model.cfg.n_layers):
        residual = passage.layer(layer).forward(residual, [], chunk=chunk)
        states[f"blocks.{layer}.hook_resid_post"] = residual[0].float().cpu()
    return states


def _failed(check: str, what: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"check {check!r}: {what}; this model cannot be trusted here "
        f"(load_model(..., skip=[{check!r}]) loads it all the same)"
    )
