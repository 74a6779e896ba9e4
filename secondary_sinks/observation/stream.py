"""`observe`: hooked model + tokens -> `Trace`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from secondary_sinks.errors import ModelError, TextError
from secondary_sinks.measures import (
    local_mass,
    mean_score,
    norms,
    seeing_queries,
    typical_token,
    uniform_mass,
)
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.observation.candidates import Candidates, choose_primary
from secondary_sinks.observation.walk import CHUNK, LayerView, walk
from secondary_sinks.types import Trace

Rows = dict[str, Tensor]


def observe(
    model: HookedModel,
    tokens: Tensor | Sequence[int] | str,
    *,
    text_id: str = "text",
    chunk: int = CHUNK,
) -> Trace:
    """Measure one text in one streaming pass.

    `tokens` are ids `[pos]` or `[1, pos]`, fed exactly as they are (nothing is prepended).
    No attention pattern outlives its chunk of `chunk` queries; results don't depend on `chunk`.
    Raises `TextError` for fewer than two tokens, ids outside the vocabulary, or a text longer
    than the model's context.
    """
    ids = token_ids(tokens, model.cfg.d_vocab)
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 query, got {chunk}")
    candidates = Candidates(len(ids))
    layers = [_measure(view, candidates) for view in walk(model, ids, chunk=chunk)]
    rows = {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}
    excess = rows["mass"] - rows["mass_null"]
    primary = choose_primary(candidates.positions, rows["deviation_ratio"], excess, rows["queries"])
    return Trace(
        text_id=text_id,
        tokens=ids,
        token_strings=token_strings(model, ids),
        primary=primary,
        **(rows | candidates.of(primary)),
    )


def token_ids(tokens: Tensor | Sequence[int] | str, d_vocab: int) -> Tensor:
    """Token ids `[pos]` on the CPU, checked before any forward pass."""
    if isinstance(tokens, str):
        raise TextError("expected token ids, got a string; use model.to_tokens(text)")
    ids = torch.as_tensor(tokens).detach().cpu()
    if ids.ndim == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if ids.ndim != 1 or ids.is_floating_point():
        raise TextError(f"expected token ids [pos] or [1, pos], got {ids.dtype} {tuple(ids.shape)}")
    if len(ids) < 2:
        raise TextError(f"the text has {len(ids)} token(s); expected at least 2")
    if int(ids.min()) < 0 or int(ids.max()) >= d_vocab:
        raise TextError(f"a token id lies outside the vocabulary of {d_vocab}; wrong tokenizer?")
    return ids.long()


def token_strings(model: HookedModel, ids: Tensor) -> tuple[str, ...]:
    """The text of every single token; its id in brackets where there is no tokenizer."""
    if model.tokenizer is None:
        return tuple(f"[{token}]" for token in ids.tolist())
    return tuple(model.tokenizer.decode([token]) for token in ids.tolist())


def _measure(view: LayerView, candidates: Candidates) -> Rows:
    """The rows of one layer that don't need to know the primary; feeds the candidates."""
    _refuse_not_finite(view)
    typical = typical_token(view.resid_post)
    norm, deviation = norms(view.resid_post), norms(view.resid_post.float() - typical)
    seen = seeing_queries(len(norm), view.run.window)
    deviation_ratio = deviation / deviation.median()
    candidates.measure(view.resid_post, view.mlp_out, typical, deviation_ratio, view.received)
    rows = {
        "norm": norm,
        "norm_ratio": norm / norm.median(),
        "deviation_ratio": deviation_ratio,
        "mass": view.received / seen,
        "mass_null": uniform_mass(len(norm), view.run.window),
        "queries": seen,
        "mass_local": local_mass(view.received / seen),
        "virtual_mass": 1 - view.received.sum() / len(norm),
        "score": mean_score(view.queries, view.run.keys, view.run.scale, view.run.window),
        "key_norm": norms(view.run.keys).mean(-1),
        "value_norm": norms(view.run.values).mean(-1),
        "mlp_norm": norms(view.mlp_out),
        "typical": typical,
        "median_norm": norm.median(),
        "median_deviation": deviation.median(),
    }
    return {name: value.cpu() for name, value in rows.items()}


def _refuse_not_finite(view: LayerView) -> None:
    bad = (~torch.isfinite(view.resid_post).all(-1)).nonzero()[:, 0]
    if len(bad):
        raise ModelError(
            f"layer {view.layer} gives NaN or infinite values at position {int(bad[0])}; "
            "expected finite ones. In float16 a massive token may overflow: use float32 or bfloat16"
        )
