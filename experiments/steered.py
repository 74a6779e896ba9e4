"""The authors' steering rule, and exact edits next to it: which tokens they touch, what they do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from experiments.shared import Observed
from secondary_sinks import Edit, SinkTable, Trace, detect, observe, recompute
from secondary_sinks.causal import Recomputed, readers, watched_sinks
from secondary_sinks.detection import prefix_key
from secondary_sinks.observation import activations
from secondary_sinks.types import LASTING, Sink, mass_lost, match_controls

TAU, EXEMPT = 0.98, 3
"""The authors' cosine, and the number of first positions that their rule never touches."""
DOSES = {"0": 0.0, "half": 0.5, "1x": 1.0, "2x": 2.0}
"""Lengths in units of the median length of what the MLP writes at its sinks."""
PRIMARY = "primary"
"""One more dose: the longest that any MLP up to the layer writes at the primary."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """The tokens of one text that are edited at a layer."""

    trace: Trace
    sinks: tuple[Sink, ...]
    """Secondary and primary-like sinks created at the layer."""
    touched: tuple[int, ...]
    """Positions that the rule edits."""
    cosine: Float[Tensor, "pos"]
    """Cosine of what the MLP writes with the rule's direction."""
    controls: dict[int, int]
    """Touched position -> its control: the nearest token twin, else the nearest ordinary token."""
    copies: frozenset[int]
    """Sinks and touched tokens that stood in an earlier text, with the same tokens before them."""

    @property
    def asked(self) -> list[Sink]:
        """Sinks that are edited on their own: no copies, and the MLP writes something."""
        written = self.trace.mlp_norm[self.sinks[0].l_start] if self.sinks else torch.empty(0)
        return [s for s in self.sinks if s.pos not in self.copies and float(written[s.pos]) > 0]


def targets_of(observed: Observed, layer: int, tau: float, *, residual: bool) -> list[Targets]:
    """Apply the rule to every text.

    The direction is that of what the MLP of this layer writes at the primary or (`residual`) of the
    primary's resid_post there: mean over texts of unit vectors. Exempt are the first positions and
    the primary of the layer.
    """
    direction = _direction(observed, layer, residual)
    seen: set[bytes] = set()
    return [_of_text(observed, trace, layer, tau, direction, seen) for trace in observed.traces]


def _direction(observed: Observed, layer: int, residual: bool) -> Float[Tensor, "d_model"]:
    found = [
        trace.reference_resid[layer]
        if residual
        else _written(observed, trace, layer, [int(trace.reference[layer])])[0]
        for trace in observed.traces
    ]
    units = [one / one.norm().clamp(min=1e-30) for one in found]
    return torch.stack([one for one in units if bool(one.isfinite().all())]).mean(0)


def _written(
    observed: Observed, trace: Trace, layer: int, positions: list[int]
) -> Float[Tensor, "row d_model"]:
    """What the MLP of a layer writes at some positions."""
    ((_, rows),) = activations(observed.model, trace, positions, [layer], ["mlp_out"])
    return rows["mlp_out"]


def _of_text(
    observed: Observed,
    trace: Trace,
    layer: int,
    tau: float,
    direction: Float[Tensor, "d_model"],
    seen: set[bytes],
) -> Targets:
    written = _written(observed, trace, layer, list(range(len(trace.tokens))))
    cosine = torch.cosine_similarity(written, direction[None], dim=-1)
    rule = cosine > tau
    rule[:EXEMPT] = False
    rule[int(trace.reference[layer])] = False
    touched = tuple(rule.nonzero()[:, 0].tolist())
    table = observed.sinks.of_text(trace.text_id)
    lasting = table.of_kind(*LASTING).sinks
    sinks = tuple(sink for sink in lasting if sink.l_start == layer)
    places = sorted({*touched, *(sink.pos for sink in sinks)})
    prefixes = {pos: prefix_key(trace.tokens, pos) for pos in places}
    copies = frozenset(pos for pos, prefix in prefixes.items() if prefix in seen)
    seen.update(prefixes.values())
    return Targets(
        trace=trace,
        sinks=sinks,
        touched=touched,
        cosine=cosine,
        controls=_controls(trace, table, touched, written.norm(dim=-1) > 0),
        copies=copies,
    )


def _controls(
    trace: Trace, table: SinkTable, touched: tuple[int, ...], writes: Bool[Tensor, "pos"]
) -> dict[int, int]:
    """Controls are no sinks, seen by enough queries, and the MLP writes something there."""
    taken = {*touched, *(sink.pos for sink in table.sinks), *trace.reference.tolist()}
    taken |= set((~writes).nonzero()[:, 0].tolist())
    judged = trace.queries.amin(0) >= table.thresholds.min_queries
    last = int(judged.nonzero().max()) if bool(judged.any()) else -1
    found = match_controls(trace.tokens.tolist(), touched, taken, last)
    return {control.sink_pos: control.pos for control in found}


def token_rows(targets: Targets, table: SinkTable, layer: int, tau: float) -> list[dict[str, Any]]:
    """One row per token that the rule touches, or that is a lasting sink created at the layer."""
    trace = targets.trace
    own = {sink.pos: sink for sink in table.of_text(trace.text_id).sinks}
    rows = []
    for pos in sorted({*targets.touched, *(sink.pos for sink in targets.sinks)}):
        is_touched, kind = pos in targets.touched, own[pos].kind if pos in own else "no sink"
        lasting = kind in LASTING
        missed = "exempt position" if pos < EXEMPT else f"cosine of {tau:g} or less"
        rows.append(
            {
                "text_id": trace.text_id,
                "pos": pos,
                "token": trace.token_strings[pos],
                "found": "both" if is_touched and lasting else "rule" if is_touched else "sinks",
                "reason": missed if not is_touched else "agreement" if lasting else kind,
                "kind": kind,
                "l_start": own[pos].l_start if pos in own else torch.nan,
                "cosine": float(targets.cosine[pos]),
                "alignment": float(trace.mlp_alignment[layer, pos]),
                "mlp_norm": float(trace.mlp_norm[layer, pos]),
                "copy": pos in targets.copies,
            }
        )
    return rows


def lengths_of(observed: Observed, targets: list[Targets], layer: int) -> dict[str, float]:
    """The norm that each dose gives to the MLP output."""
    norms = [float(one.trace.mlp_norm[layer, s.pos]) for one in targets for s in one.asked]
    usual = float(torch.tensor(norms).median())
    longest = [
        float(trace.mlp_norm[: layer + 1, int(trace.reference[layer])].max())
        for trace in observed.traces
    ]
    return {dose: factor * usual for dose, factor in DOSES.items()} | {
        PRIMARY: sum(longest) / len(longest)
    }


Arm = tuple[str, str, tuple[int, ...], Edit]
"""(arm, dose, edited positions, edit)."""


def _arms(targets: Targets, layer: int, lengths: Mapping[str, float]) -> list[Arm]:
    """The rule at all its tokens at once, the same at their controls, and each sink on its own."""
    places = {"rule": [targets.touched], "matched": [tuple(targets.controls.values())]}
    places["alone"] = [(sink.pos,) for sink in targets.asked]
    return [
        (arm, dose, pos, Edit(pos=pos, layer=layer, kind="set_norm", value=length))
        for arm, several in places.items()
        for pos in several
        for dose, length in lengths.items()
        if pos
    ]


def edited_rows(
    observed: Observed, targets: Targets, layer: int, lengths: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows by sink, arm and dose; and rows by arm and dose about later tokens. Total effects."""
    arms, trace = _arms(targets, layer, lengths), targets.trace
    if not arms:
        return [], []
    watch = {sink.pos for sink in targets.sinks} | set(targets.controls.values())
    result = recompute(observed.model, trace, [edit for *_, edit in arms], watch=sorted(watch))
    alive = watched_sinks(trace, result, observed.sinks.thresholds).sum(0)
    sinks = [
        row
        for number, (arm, dose, pos, _) in enumerate(arms)
        for row in _sink_rows(targets, result, alive, number, (arm, dose, pos))
    ]
    edited = sorted({pos for *_, positions, _ in arms for pos in positions})
    counted = torch.arange(len(trace.tokens)) > edited[0]
    counted[[*edited, len(counted) - 1]] = False
    damage = [
        {
            "text_id": trace.text_id,
            "arm": arm,
            "dose": dose,
            "n_edited": len(pos),
            "n_counted": int(counted.sum()),
            "kl": float(result.kl[number, counted].double().mean()),
            "loss_clean": float(result.loss_clean[counted].double().mean()),
            "loss_edited": float(result.loss[number, counted].double().mean()),
        }
        for number, (arm, dose, pos, _) in enumerate(arms)
    ]
    return sinks, damage


def _sink_rows(
    targets: Targets, result: Recomputed, alive: Tensor, number: int, said: tuple[Any, ...]
) -> Iterator[dict[str, Any]]:
    """What one cell does to each sink; in arm "matched", to the control of each touched sink."""
    (arm, dose, edited), trace = said, targets.trace
    for sink in targets.asked:
        pos = targets.controls.get(sink.pos, -1) if arm == "matched" else sink.pos
        if pos < 0 or (arm == "alone" and edited != (sink.pos,)):
            continue
        blocks, column = readers(sink.layers, len(trace.mass)), result.column(pos)
        clean, after = trace.mass[blocks, pos], result.mass[blocks, number, column]
        own = float(trace.mass[blocks, sink.pos].mean())
        yield {
            "text_id": trace.text_id,
            "pos": sink.pos,
            "token": sink.token,
            "arm": arm,
            "dose": dose,
            "touched": sink.pos in targets.touched,
            "n_touched": len(targets.touched),
            "mlp_norm": float(trace.mlp_norm[sink.l_start, sink.pos]),
            "mass_clean": float(clean.mean()),
            "mass_edited": float(after.mean()),
            "lost": float(mass_lost(float(clean.mean()), float(after.mean()), own)),
            "lifetime_clean": sink.lifetime if arm != "matched" else 0,
            "lifetime_edited": int(alive[number, column]),
        }


def found_rows(
    observed: Observed, targets: Targets, layer: int, lengths: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Sinks by both criteria, in the clean run and in one whole pass per dose of the rule."""
    trace, limits = targets.trace, observed.sinks.thresholds
    runs = {"clean": trace} | dict.fromkeys(lengths, trace)
    for dose, length in lengths.items() if targets.touched else ():
        hook = (f"blocks.{layer}.hook_mlp_out", rescale(targets.touched, length))
        runs[dose] = observe(observed.model, trace.tokens, text_id=trace.text_id, hooks=[hook])
    rows = []
    for criterion in ("paper", "joint"):
        found = {
            dose: lasting_positions(detect(run, limits, criterion)) for dose, run in runs.items()
        }
        rows += [
            {
                "text_id": trace.text_id,
                "criterion": criterion,
                "dose": dose,
                "n_sinks": len(there),
                "n_of_clean": len(there & found["clean"]),
                "n_new": len(there - found["clean"]),
                "n_new_touched": len((there - found["clean"]) & set(targets.touched)),
            }
            for dose, there in found.items()
        ]
    return rows


def rescale(positions: tuple[int, ...], length: float) -> Any:
    """A plain hook that sets the norm of the activation at some positions, in its direction."""

    def hook(written: Tensor, hook: Any) -> Tensor:
        changed = written.clone()
        rows = written[:, positions]
        changed[:, positions] = rows * (length / rows.norm(dim=-1, keepdim=True))
        return changed

    return hook


def lasting_positions(table: SinkTable) -> set[int]:
    """Positions of the lasting sinks other than the primary; the paper's noise is left out."""
    return {sink.pos for sink in table.of_kind(*LASTING).sinks}
