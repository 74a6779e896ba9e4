"""Slow and obvious: the same numbers from Hugging Face outputs, and from full forward passes."""

import functools

import torch

from secondary_sinks.layerwise.begin import layerwise_forward

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


def edited_runs(model, trace, edits, blocks=None):
    """State and direct mass of tokens whose MLP output is zero, `[layer, edit]`.

    By full forward passes with one hook each, an edit to a row of the batch. Masses are those of
    some `blocks`, NaN elsewhere; None: of all.
    """
    cache = _run(model, trace.tokens, edits)
    layers, rows = range(model.cfg.n_layers), range(len(edits))
    positions = [edit.pos for edit in edits]
    states = [cache[f"blocks.{layer}.hook_resid_post"][rows, positions] for layer in layers]
    resid = torch.stack(states)
    primary, typical = trace.reference_resid[:, None], trace.typical[:, None]
    mass = torch.full((len(layers), len(edits)), torch.nan)
    for layer in layers if blocks is None else blocks:
        mass[layer] = direct_masses(model, trace.tokens, layer, cache, positions)
    return {
        "norm": resid.norm(dim=-1),
        "alignment": torch.cosine_similarity(resid, primary, dim=-1),
        "alignment_centred": torch.cosine_similarity(resid - typical, primary - typical, dim=-1),
        "mass": mass,
    }


def direct_masses(model, tokens, layer, edited, positions):
    """Masses of edited tokens in the clean text: their query and key in this layer are replaced.

    One row of the batch per position.
    """
    kept = []

    def read(pattern, hook):
        kept.append(pattern.float().mean(1))

    point = f"blocks.{layer}.attn.hook_"
    hooks = [
        (point + kind, functools.partial(replace, value=edited[point + kind], positions=positions))
        for kind in "qk"
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, (point + "pattern", read)]):
        model(tokens.repeat(len(positions), 1), stop_at_layer=layer + 1)
    window = layerwise_forward(model, tokens).layer(layer).window
    columns = [kept[0][row, pos:, pos][:window] for row, pos in enumerate(positions)]
    return torch.stack([column.mean() for column in columns])


def replace(tensor, hook, value, positions):
    """The tensor with another value at one position of each row."""
    tensor, rows = tensor.clone(), range(len(positions))
    tensor[rows, positions] = value[rows, positions]
    return tensor


def _run(model, tokens, edits):
    def zero(row, edit):
        def hook(mlp_out, hook):
            edited = mlp_out.clone().reshape(len(edits), len(tokens), -1)  # experts drop an axis
            edited[row, edit.pos] = 0
            return edited.reshape(mlp_out.shape)

        return f"blocks.{edit.layer}.hook_mlp_out", hook

    with torch.no_grad(), model.hooks(fwd_hooks=list(map(zero, range(len(edits)), edits))):
        return model.run_with_cache(tokens.repeat(len(edits), 1))[1]
