"""Errors of hooked models against their Hugging Face originals, on every architecture.

    python -m tools.conformance

Each variant of `testing.families` is loaded as a `HookedTransformer` and as a
`TransformerBridge`. Errors are relative: max|ours - theirs| / max|theirs|, for states by
position; the table has the largest over layers and positions.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.causal import replay
from secondary_sinks.layerwise.hf_layers import decoder_layers
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models import load_model
from secondary_sinks.models.proof.expected import relative_error
from secondary_sinks.observation import observe
from secondary_sinks.testing import families
from secondary_sinks.types import Edit

N_POS = 40
CHUNK = 16
POST_NORM = ("post_feedforward_layernorm",)
"""Norms after the MLP; `hook_mlp_out` is the output of such a norm."""

States = dict[str, list[Float[Tensor, "..."]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """Relative errors of one variant, loaded as one class."""

    variant: str
    model_class: str
    logits: float
    resid_post: float
    pattern: float
    mlp_out: float
    chunks: float
    """Error of a pass in chunks with a key-value cache, against one ordinary pass."""
    replay: float
    """Error of single-token replays of ablations, against full forward passes."""


def model_classes() -> list[str]:
    """Names of the model classes of the installed TransformerLens."""
    old = importlib.util.find_spec("transformer_lens.HookedTransformer") is not None
    return ["HookedTransformer"] * old + ["TransformerBridge"]


def measure(variant: str, model_class: str) -> Conformance:
    """Load a variant from disk as `model_class` and compare it with its original."""
    with tempfile.TemporaryDirectory() as folder:
        families.save(variant, folder)
        bridge = model_class == "TransformerBridge"
        hooked = load_model(folder, device="cpu", bridge=bridge)
    errors = compare(hooked, families.tiny(variant))
    return Conformance(variant=variant, model_class=model_class, **errors)


def probe() -> Int[Tensor, "pos"]:
    """The token ids at which models are compared."""
    return torch.randint(3, 97, (N_POS,), generator=torch.Generator().manual_seed(1))


def compare(hooked: Any, original: Any) -> dict[str, float]:
    """Relative errors of a hooked model against its Hugging Face original, by name."""
    tokens = probe()
    theirs, ours = original_states(original, tokens), _hooked_states(hooked, tokens)
    errors = {name: largest_error(ours[name], theirs[name]) for name in theirs}
    trace = observe(hooked, tokens, chunk=CHUNK)
    plain = torch.stack([state.norm(dim=-1) for state in ours["resid_post"]])
    chunks = float(((trace.norm - plain).abs() / plain).max())
    return errors | {"chunks": chunks, "replay": _replay_error(hooked, trace)}


def largest_error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest relative error over layers and positions."""
    return max(map(relative_error, ours, theirs))


def original_states(hf_model: Any, tokens: Int[Tensor, "pos"]) -> States:
    """Logits, `resid_post`, patterns and `mlp_out` of an original, by layer.

    By module hooks, since the last hidden state that it returns is normed already.
    """
    states: States = {"resid_post": [], "mlp_out": []}

    def into(store: list[Tensor]) -> Any:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            store.append((output[0] if isinstance(output, tuple) else output).detach().clone())

        return keep

    for layer in decoder_layers(hf_model):
        named = dict(layer.named_children())
        mlp = next(named[name] for name in (*POST_NORM, "mlp") if name in named)
        mlp.register_forward_hook(into(states["mlp_out"]))
        layer.register_forward_hook(into(states["resid_post"]))
    with torch.no_grad():
        out = hf_model(tokens[None], output_attentions=True)
    states |= {"logits": [out.logits], "pattern": list(out.attentions)}
    return {name: [_first(state) for state in found] for name, found in states.items()}


def _hooked_states(model: Any, tokens: Int[Tensor, "pos"]) -> States:
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens[None])
    layers = range(model.cfg.n_layers)
    states = {
        point: [_first(cache[hook_name(layer, point)]) for layer in layers]
        for point in ("resid_post", "pattern", "mlp_out")
    }
    return states | {"logits": [_first(logits)]}


def _first(state: Tensor) -> Tensor:
    """Without a batch axis, which experts drop."""
    return state[0] if state.ndim > 2 else state


def _replay_error(model: Any, trace: Any) -> float:
    edits = [Edit(pos=pos, layer=layer) for pos in (5, 30) for layer in range(model.cfg.n_layers)]
    replayed = replay(model, trace, edits).norm
    plain = _full_passes(model, trace.tokens, edits)
    return max(relative_error(replayed[:, cell], plain[:, cell]) for cell in range(len(edits)))


def _full_passes(
    model: Any, tokens: Int[Tensor, "pos"], edits: list[Edit]
) -> Float[Tensor, "layer edit"]:
    """Norms of the edited tokens in whole forward passes, one row of the batch per edit."""

    def zero(row: int, pos: int) -> Any:
        def hook(mlp_out: Tensor, hook: Any) -> Tensor:
            edited = mlp_out.clone().reshape(len(edits), len(tokens), -1)
            edited[row, pos] = 0
            return edited.reshape(mlp_out.shape)

        return hook

    rows, positions = range(len(edits)), [edit.positions[0] for edit in edits]
    hooks = [
        (hook_name(edit.layers[0], "mlp_out"), zero(row, edit.positions[0]))
        for row, edit in enumerate(edits)
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        _, cache = model.run_with_cache(tokens.repeat(len(edits), 1))
    states = [cache[hook_name(la, "resid_post")] for la in range(model.cfg.n_layers)]
    return torch.stack([state[list(rows), positions].norm(dim=-1) for state in states])


def table() -> Iterator[str]:
    """The lines of a Markdown table, each as soon as its variant is measured."""
    columns = [field.name for field in fields(Conformance)]
    yield f"TransformerLens {version('transformer-lens')}, transformers {version('transformers')}"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for variant in families.configs():
        for model_class in model_classes():
            name, kind, *errors = astuple(measure(variant, model_class))
            yield f"| {name} | {kind} | {' | '.join(f'{error:.0e}' for error in errors)} |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
