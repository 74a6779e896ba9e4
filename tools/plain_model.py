"""A Hugging Face model run in the most obvious way, for `tools.plain_circuit`.

Whole passes over the whole text, one per edit: forward hooks of PyTorch on the modules, and an
attention written by hand that keeps all scores and weights in memory. Nothing here uses our engine.
For decoders of the Llama kind (Llama, Qwen2): norm, attention, norm, MLP, no sliding window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.foreign import folder_with_only, load_weights

ATTENTION = "plain"
PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
MODULES = {"mlp_out": "mlp", "attn_out": "self_attn"}
INPUTS = {"z": "self_attn.o_proj", "post": "mlp.down_proj", "attention_in": "self_attn.v_proj"}
"""Where an activation is read and changed: the output, or the input, of a module of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a pass: `write` changes a tensor of one layer in place.

    `place` is one of `MODULES` or `INPUTS` (the tensor is `[pos, width]`), or "scores" or "weights"
    (`[head, query, key]`, before and after the softmax).
    """

    layer: int
    place: str
    write: Callable[[Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What one whole pass computed; heads share keys and values already."""

    states: Float[Tensor, "layer pos d_model"]
    """The residual that each layer writes."""
    parts: dict[str, Float[Tensor, "layer pos width"]]
    """Activations by place (`MODULES` and `INPUTS`)."""
    queries: Float[Tensor, "layer head pos d_head"]
    keys: Float[Tensor, "layer head pos d_head"]
    values: Float[Tensor, "layer head pos d_head"]
    weights: Float[Tensor, "layer head query key"]
    logits: Float[Tensor, "pos d_vocab"] | None


@dataclass(slots=True)
class _Noted:
    """What the hooks of a pass note, layer after layer."""

    parts: dict[str, list[Tensor]] = field(default_factory=dict)
    attention: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)

    def add(self, name: str, tensor: Tensor) -> None:
        self.parts.setdefault(name, []).append(tensor)


class PlainModel:
    """Whole passes of one model over one text."""

    def __init__(self, hf_model: Any, tokens: Int[Tensor, "pos"]) -> None:
        """Put the attention written by hand into the model, for good.

        Raises `ValueError` for a model of another kind.
        """
        from transformers import AttentionInterface

        self.hf_model, self.tokens, self.n_passes = hf_model.eval(), tokens, 0
        self.layers = list(hf_model.base_model.layers)
        kinds = set(getattr(hf_model.config, "layer_types", None) or ["full_attention"])
        names = {name for layer in self.layers for name, _ in layer.named_children()}
        if names != PARTS or kinds != {"full_attention"}:
            raise ValueError(f"expected layers of {sorted(PARTS)} without a window; got {names}")
        AttentionInterface.register(ATTENTION, self._attend)
        hf_model.set_attn_implementation(ATTENTION)
        self.n_heads = int(hf_model.config.num_attention_heads)
        self.scale = float(self.layers[0].self_attn.scaling)
        self._changes: list[Change] = []
        self._noted = _Noted()

    @torch.no_grad()
    def run(self, changes: Sequence[Change] = (), *, logits: bool = False) -> Pass:
        """One pass over the whole text with some changes."""
        self._changes, self._noted = list(changes), _Noted()
        self.n_passes += 1
        handles = [handle for at in range(len(self.layers)) for handle in self._hooks(at)]
        try:
            whole = self.hf_model if logits else self.hf_model.base_model
            made = whole(self.tokens[None], use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        parts = {name: torch.stack(found) for name, found in self._noted.parts.items()}
        queries, keys, values, weights = map(torch.stack, zip(*self._noted.attention, strict=True))
        return Pass(
            states=parts.pop("states"),
            parts=parts,
            queries=queries,
            keys=keys,
            values=values,
            weights=weights,
            logits=made.logits[0] if logits else None,
        )

    def _hooks(self, at: int) -> list[Any]:
        """The hooks of one layer, in the order in which their modules run."""
        layer = self.layers[at]
        found = [layer.register_forward_hook(self._output("states", at))]
        for place, name in MODULES.items():
            module = layer.get_submodule(name)
            found.append(module.register_forward_hook(self._output(place, at)))
        for place, name in INPUTS.items():
            module = layer.get_submodule(name)
            found.append(module.register_forward_pre_hook(self._input(place, at)))
        return found

    def _output(self, place: str, at: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            self._see(place, at, output[0] if isinstance(output, tuple) else output)

        return hook

    def _input(self, place: str, at: int) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            self._see(place, at, inputs[0])

        return hook

    def _see(self, place: str, at: int, tensor: Float[Tensor, "1 pos width"]) -> None:
        self._change(place, at, tensor[0])
        self._noted.add(place, tensor[0].clone())

    def _change(self, place: str, at: int, tensor: Tensor) -> None:
        for change in self._changes:
            if (change.layer, change.place) == (at, place):
                change.write(tensor)

    def _attend(
        self,
        module: Any,
        query: Float[Tensor, "1 head pos d_head"],
        key: Float[Tensor, "1 kv_head pos d_head"],
        value: Float[Tensor, "1 kv_head pos d_head"],
        attention_mask: Any,
        scaling: float,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Causal attention, with all scores in memory."""
        group = query.shape[1] // key.shape[1]
        keys, values = (one[0].repeat_interleave(group, 0) for one in (key, value))
        scores = causal(query[0] @ keys.transpose(1, 2) * scaling)
        self._change("scores", module.layer_idx, scores)
        weights = scores.softmax(-1)
        self._change("weights", module.layer_idx, weights)
        self._noted.attention.append((query[0].clone(), keys, values, weights))
        return (weights @ values).transpose(0, 1)[None].contiguous(), weights[None]


def causal(scores: Float[Tensor, "head query key"]) -> Float[Tensor, "head query key"]:
    """Scores with minus infinity at later keys."""
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf)


def replaced_key(clean: Pass, edited: Pass, pos: int, scale: float) -> Float[Tensor, "layer"]:
    """Attention mass of a token if only its key, and its own query, are those of the edited pass.

    The queries and keys of all other tokens are those of the clean pass: the direct effect.
    """
    queries, keys = clean.queries.clone(), clean.keys.clone()
    queries[:, :, pos], keys[:, :, pos] = edited.queries[:, :, pos], edited.keys[:, :, pos]
    layers = zip(queries, keys, strict=True)
    weights = [causal(q @ k.transpose(1, 2) * scale).softmax(-1) for q, k in layers]
    return torch.stack([one.mean(0)[pos:, pos].mean() for one in weights])


def read_plain(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The Hugging Face model of a GGUF file or of a folder."""
    if path.is_dir():
        return load_weights(path, trusted=False, dtype=dtype)
    with folder_with_only(path) as folder:
        return load_weights(folder, trusted=False, dtype=dtype, gguf_file=path.name)
