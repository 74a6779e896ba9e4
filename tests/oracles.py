"""Slow and obvious: the same numbers from Hugging Face outputs, and from full forward passes."""

import functools

import torch

from secondary_sinks.models.layers import begin

NORM_WHAT_THEY_WRITE = ("Olmo2", "Gemma2", "Gemma3")
"""Models whose MLP output is normed before it is written: the hook sees it after the norm."""


def original_measures(original, tokens, primary):
    """Measures by layer and position from a Hugging Face model's own outputs."""
    layers = decoder_layers(original)
    states, mlps = {}, {}
    handles = []
    for index, layer in enumerate(layers):
        handles.append(layer.register_forward_hook(keep(states, index)))
        handles.append(layer.mlp.register_forward_hook(keep(mlps, index)))
    with torch.no_grad():
        out = original(tokens[None], output_attentions=True)
    for handle in handles:
        handle.remove()
    resid = torch.stack([states[index] for index in range(len(layers))])
    mlp = torch.stack([mlps[index] for index in range(len(layers))])
    pattern = torch.stack([attention[0] for attention in out.attentions]).mean(1)
    norm = resid.norm(dim=-1)
    centred = torch.stack([one - typical(one) for one in resid])
    deviation = centred.norm(dim=-1)
    measures = {
        "norm": norm,
        "norm_ratio": norm / norm.median(dim=1, keepdim=True).values,
        "deviation_ratio": deviation / deviation.median(dim=1, keepdim=True).values,
        "alignment": cosine(resid, resid[:, primary]),
        "alignment_centred": cosine(centred, centred[:, primary]),
        "mass": masses(pattern),
    }
    if not type(original).__name__.startswith(NORM_WHAT_THEY_WRITE):
        measures |= {"mlp_norm": mlp.norm(dim=-1), "mlp_alignment": cosine(mlp, resid[:, primary])}
    return measures


def typical(resid):
    """Mean over the positions whose norm is at most twice the median."""
    lengths = resid.norm(dim=-1)
    return resid[lengths <= 2 * lengths.median()].mean(0)


def masses(pattern):
    """Mean over the queries that see a key: those with a window see a band of the pattern."""
    n_pos = pattern.shape[-1]
    rows = []
    for layer in pattern:
        seen = (layer > 0).sum(0).clamp(min=1)
        rows.append(layer.sum(0) / seen)
    assert n_pos == len(rows[0])
    return torch.stack(rows)


def cosine(vectors, direction):
    """Cosine of `[layer, pos, d]` with `[layer, d]`."""
    return torch.cosine_similarity(vectors, direction[:, None], dim=-1)


def decoder_layers(original):
    """The list of decoder layers, whatever the architecture calls it."""
    return getattr(original.base_model, "layers", None) or original.base_model.h


def keep(store, index):
    """A hook that keeps a module's output for the first text."""

    def hook(module, inputs, output):
        store[index] = (output[0] if isinstance(output, tuple) else output)[0].detach()

    return hook


def edited_run(model, trace, edit):
    """State and direct mass of the edited token from one full forward pass with one hook."""
    cache = _run(model, trace.tokens, edit)
    layers = range(model.cfg.n_layers)
    resid = torch.stack([cache[f"blocks.{layer}.hook_resid_post"][0, edit.pos] for layer in layers])
    return {
        "norm": resid.norm(dim=-1),
        "alignment": torch.cosine_similarity(resid, trace.primary_resid, dim=-1),
        "alignment_centred": torch.cosine_similarity(
            resid - trace.typical, trace.primary_resid - trace.typical, dim=-1
        ),
        "mass": torch.stack(
            [direct_mass(model, trace.tokens, layer, cache, edit.pos) for layer in layers]
        ),
    }


def direct_mass(model, tokens, layer, edited, pos):
    """Mass in a run of the clean text whose query and key at `pos`, in this layer, are edited."""
    column = []

    def read(pattern, hook):
        column.append(pattern[0].float().mean(0)[pos:, pos])

    point = f"blocks.{layer}.attn.hook_"
    hooks = []
    for kind in "qk":
        hooks.append(
            (point + kind, functools.partial(replace, value=edited[point + kind], pos=pos))
        )
    hooks.append((point + "pattern", read))
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model(tokens[None])
    window = begin(model, tokens).layer(layer).window
    return column[0][:window].mean()


def replace(tensor, hook, value, pos):
    """The tensor with another value at `pos`."""
    tensor = tensor.clone()
    tensor[:, pos] = value[:, pos]
    return tensor


def _run(model, tokens, edit=None):
    def zero(mlp_out, hook):
        mlp_out = mlp_out.clone()
        mlp_out[:, edit.pos] = 0
        return mlp_out

    hooks = [] if edit is None else [(f"blocks.{edit.layer}.hook_mlp_out", zero)]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model.run_with_cache(tokens[None])[1]
