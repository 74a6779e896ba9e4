"""The plain ways that `tools.speed` compares with: nothing here uses our engine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks import Edit, Trace
from tools.clean_queries import CleanQueries

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
        self, edits: Sequence[Edit], kept: Any, clean: CleanQueries | None
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
        self, edits: Sequence[Edit], pos: int, kept: Any, clean: CleanQueries | None
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
