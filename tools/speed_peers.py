"""The plain ways that `tools.speed` compares with: nothing here uses our engine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks import Edit, Trace

Written = Float[Tensor, "d_model"]


def same_weights(name: str) -> Any:
    """The Hugging Face model of the same name, with fused attention."""
    from secondary_sinks.foreign import load_weights
    from secondary_sinks.models.gguf.cache import converted_folder, embedded_gguf
    from secondary_sinks.models.original.sources import resolve

    source = resolve(name)
    folder = converted_folder(embedded_gguf()) if source.kind == "embedded" else source.path
    return load_weights(
        Path(folder), trusted=False, attn_implementation="sdpa", dtype=torch.float32
    ).eval()


def _mean(outputs: Float[Tensor, "pos d_model"], trace: Trace, layer: int) -> Written:
    """What an MLP writes on average at tokens of ordinary norm."""
    norm = trace.norm[layer]
    return outputs[norm <= 2 * norm.median()].mean(0)


def _written(edit: Edit, outputs: Float[Tensor, "pos d_model"], trace: Trace) -> Written:
    """What the MLP writes at the edited token."""
    if edit.kind == "zero":
        return torch.zeros_like(outputs[0])
    if edit.kind == "mean":
        return _mean(outputs, trace, edit.layers[0])
    assert edit.donor is not None
    return outputs[edit.donor]


class HookedPeer:
    """One forward pass of a `HookedTransformer` with hooks per cell."""

    def __init__(self, model: Any, trace: Trace) -> None:
        """Keep what every MLP writes in the clean run, which cells are patched from."""
        self.model, self.trace = model, trace
        with torch.no_grad():
            _, cache = model.run_with_cache(
                trace.tokens[None], names_filter=lambda name: name.endswith("hook_mlp_out")
            )
        layers = range(model.cfg.n_layers)
        self.outputs = [cache[f"blocks.{layer}.hook_mlp_out"][0] for layer in layers]

    def states(self, edits: Sequence[Edit]) -> Float[Tensor, "cell layer"]:
        """Norm of the edited token by layer."""
        return torch.stack([torch.stack(self._run(edit, "hook_resid_post")[0]) for edit in edits])

    def totals(self, edits: Sequence[Edit]) -> Float[Tensor, "cell number"]:
        """Masses of the edited token by layer, then losses by position."""
        rows = []
        for edit in edits:
            masses, logits = self._run(edit, "attn.hook_pattern", logits=True)
            log_probs = logits[0, :-1].log_softmax(-1)
            loss = -log_probs.gather(1, self.trace.tokens[1:, None])[:, 0]
            rows.append(torch.cat([torch.stack(masses), loss]))
        return torch.stack(rows)

    @staticmethod
    def cached(model: Any, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "layer pos"]:
        """Norms from a cache of everything."""
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens[None])
        layers = range(model.cfg.n_layers)
        return torch.stack([cache[f"blocks.{la}.hook_resid_post"][0].norm(dim=-1) for la in layers])

    def _run(self, edit: Edit, point: str, logits: bool = False) -> tuple[list[Tensor], Any]:
        pos, layer = edit.positions[0], edit.layers[0]
        new = _written(edit, self.outputs[layer], self.trace)
        read: list[Tensor] = []

        def write(mlp_out: Tensor, hook: Any) -> Tensor:
            mlp_out[0, pos] = new
            return mlp_out

        def note(tensor: Tensor, hook: Any) -> None:
            if point == "hook_resid_post":
                read.append(tensor[0, pos].norm())
            else:
                read.append(tensor[0, :, pos:, pos].mean())

        hooks: list[tuple[str, Callable[..., Any]]] = [(f"blocks.{layer}.hook_mlp_out", write)]
        hooks += [(f"blocks.{la}.{point}", note) for la in range(self.model.cfg.n_layers)]
        with torch.no_grad():
            made = self.model.run_with_hooks(
                self.trace.tokens[None],
                fwd_hooks=hooks,
                return_type="logits" if logits else None,
            )
        return read, made


class SdpaPeer:
    """One forward pass of a Hugging Face model with fused attention and a module hook per cell."""

    def __init__(self, hf_model: Any, trace: Trace) -> None:
        """Keep what every MLP writes in the clean run, which cells are patched from."""
        self.base, self.trace = hf_model.base_model, trace
        self.layers = self.base.layers
        self.outputs: list[Tensor] = []
        keep = [
            layer.mlp.register_forward_hook(lambda m, i, output: self.outputs.append(output[0]))
            for layer in self.layers
        ]
        self._forward(trace.tokens)
        for handle in keep:
            handle.remove()

    def states(self, edits: Sequence[Edit]) -> Float[Tensor, "cell layer"]:
        """Norm of the edited token by layer."""
        return torch.stack([self._cell(edit) for edit in edits])

    def forward(self, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "layer pos"]:
        """Norms of all states, read by a hook on each layer."""
        return torch.stack(self._read(lambda state: state.norm(dim=-1), tokens))

    def _cell(self, edit: Edit) -> Float[Tensor, "layer"]:
        pos, layer = edit.positions[0], edit.layers[0]
        new = _written(edit, self.outputs[layer], self.trace)

        def write(module: Any, inputs: Any, output: Tensor) -> Tensor:
            output[0, pos] = new
            return output

        handle = self.layers[layer].mlp.register_forward_hook(write)
        try:
            return torch.stack(self._read(lambda state: state[pos].norm(), self.trace.tokens))
        finally:
            handle.remove()

    def _read(
        self, measure: Callable[[Tensor], Tensor], tokens: Int[Tensor, "pos"]
    ) -> list[Tensor]:
        read: list[Tensor] = []

        def note(module: Any, inputs: Any, output: Any) -> None:
            read.append(measure((output[0] if isinstance(output, tuple) else output)[0]))

        handles = [layer.register_forward_hook(note) for layer in self.layers]
        self._forward(tokens)
        for handle in handles:
            handle.remove()
        return read

    def _forward(self, tokens: Int[Tensor, "pos"]) -> None:
        with torch.no_grad():
            self.base(tokens[None], use_cache=False)


class DecodePeer:
    """One prefill of a Hugging Face model, then one decoded token per cell, in batches.

    The cells of a token share the clean keys and values before it. Hooks on the MLPs make the
    edits; hooks on the layers read the states.
    """

    BATCH = 32

    def __init__(self, hf_model: Any, trace: Trace) -> None:
        """Keep what every MLP writes in the clean run, which cells are patched from."""
        self.base, self.trace, self.tokens = hf_model.base_model, trace, trace.tokens
        self.layers = self.base.layers
        self.outputs = SdpaPeer(hf_model, trace).outputs

    def states(self, edits: Sequence[Edit]) -> Float[Tensor, "cell layer"]:
        """Norm of the edited token by layer."""
        return self._sweep(edits, self._prefill(), None)

    def masses(self, edits: Sequence[Edit]) -> Float[Tensor, "cell layer"]:
        """Attention mass of the edited token by layer, with the clean queries of later tokens."""
        inputs: list[Tensor] = []
        kept = self._prefill(inputs)
        return self._sweep(edits, kept, CleanQueries(self.base, inputs, kept))

    def _prefill(self, inputs: list[Tensor] | None = None) -> Any:
        handles = [
            layer.self_attn.q_proj.register_forward_hook(lambda m, i, q: inputs.append(q[0]))
            for layer in self.layers
            if inputs is not None
        ]
        with torch.no_grad():
            made = self.base(self.tokens[None], use_cache=True).past_key_values
        for handle in handles:
            handle.remove()
        return made

    def _sweep(
        self, edits: Sequence[Edit], kept: Any, clean: "CleanQueries | None"
    ) -> Float[Tensor, "cell layer"]:
        rows = torch.empty(len(edits), len(self.layers))
        at: dict[int, list[int]] = {}
        for number, edit in enumerate(edits):
            at.setdefault(edit.positions[0], []).append(number)
        for pos, numbers in at.items():
            for batch in torch.tensor(numbers).split(self.BATCH):
                found = self._decode([edits[n] for n in batch.tolist()], pos, kept, clean)
                rows[batch] = found.float().cpu()
        return rows

    def _decode(
        self, edits: Sequence[Edit], pos: int, kept: Any, clean: "CleanQueries | None"
    ) -> Float[Tensor, "cell layer"]:
        """One batch: the token at `pos`, once per cell."""
        from transformers import DynamicCache

        norms: list[Tensor] = []
        own: list[Tensor] = []

        def note(module: Any, inputs: Any, output: Any) -> None:
            state = output[0] if isinstance(output, tuple) else output
            norms.append(state[:, -1].norm(dim=-1))

        cache = DynamicCache()
        for layer, one in enumerate(kept.layers):
            parts = (one.keys, one.values)
            keys, values = (part[:, :, :pos].expand(len(edits), -1, -1, -1) for part in parts)
            cache.update(keys, values, layer)
        handles = []
        for number, module in enumerate(self.layers):
            handles.append(module.mlp.register_forward_hook(self._write(edits, number)))
            handles.append(module.register_forward_hook(note))
            if clean is not None:
                project = module.self_attn.q_proj
                handles.append(project.register_forward_hook(lambda m, i, q: own.append(q[:, 0])))
        with torch.no_grad():
            token = self.tokens[pos].expand(len(edits), 1)
            self.base(token, past_key_values=cache, use_cache=True)
        for handle in handles:
            handle.remove()
        if clean is None:
            return torch.stack(norms, dim=1)
        found = [
            clean.mass(layer, query, one.keys, pos)
            for layer, (query, one) in enumerate(zip(own, cache.layers, strict=True))
        ]
        return torch.stack(found, dim=1)

    def _write(self, edits: Sequence[Edit], layer: int) -> Callable[..., Tensor]:
        rows = [number for number, edit in enumerate(edits) if layer in edit.layers]
        new = [_written(edits[number], self.outputs[layer], self.trace) for number in rows]

        def write(module: Any, inputs: Any, output: Tensor) -> Tensor:
            if rows:
                output[rows, -1] = torch.stack(new)
            return output

        return write


class CleanQueries:
    """The rotated queries of a clean pass and the softmax denominators of their rows.

    For models of the Llama kind: rotary positions, scores divided by the root of the head's width.
    """

    def __init__(self, base: Any, projected: Sequence[Tensor], kept: Any) -> None:
        """`projected` are outputs of `q_proj` by layer, `kept` the cache of keys and values."""
        self.kept, self.width = kept, kept.layers[0].keys.shape[-1]
        places = torch.arange(len(projected[0]))[None]
        self.cos, self.sin = (table[0] for table in base.rotary_emb(projected[0], places))
        self.queries, self.log_sums = [], []
        later = torch.ones(len(projected[0]), len(projected[0]), dtype=torch.bool).triu(1)
        for rows, one in zip(projected, kept.layers, strict=True):
            queries = self._rotated(rows, slice(None))
            scores = queries @ self._of_heads(one.keys[0], len(queries)).transpose(1, 2)
            self.queries.append(queries)
            self.log_sums.append(scores.masked_fill_(later, -torch.inf).logsumexp(-1))

    def _rotated(
        self, projected: Float[Tensor, "row width"], at: slice
    ) -> Float[Tensor, "head row d_head"]:
        rows = projected.unflatten(-1, (-1, self.width)).transpose(0, 1)
        first, second = rows.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return (rows * self.cos[at] + turned * self.sin[at]) / self.width**0.5

    @staticmethod
    def _of_heads(of_groups: Float[Tensor, "kv_head *rest"], n_heads: int) -> Tensor:
        return of_groups.repeat_interleave(n_heads // len(of_groups), 0)

    def mass(
        self,
        layer: int,
        own: Float[Tensor, "cell width"],
        keys: Float[Tensor, "cell kv_head key d_head"],
        pos: int,
    ) -> Float[Tensor, "cell"]:
        """Attention to the new key, by its own new query and the clean queries of later tokens."""
        queries, n_pos = self.queries[layer], len(self.cos)
        by_head = keys.transpose(0, 1)
        own_scores = torch.einsum(
            "hcd,hckd->hck",
            self._rotated(own, slice(pos, pos + 1)),
            self._of_heads(by_head, len(queries)),
        )
        later, sums = queries[:, pos + 1 :], self.log_sums[layer][:, pos + 1 :, None]
        old_key = self.kept.layers[layer].keys[0, :, pos]
        old = later @ self._of_heads(old_key, len(queries))[..., None]
        rest = sums + torch.log1p(-(old - sums).exp())
        new = later @ self._of_heads(by_head[:, :, -1], len(queries)).transpose(1, 2)
        paid = torch.sigmoid(new - rest).mean(0).sum(0)
        return (paid + own_scores.softmax(-1)[..., -1].mean(0)) / (n_pos - pos)
