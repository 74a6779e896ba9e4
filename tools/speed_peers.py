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
