"""Edits the slow way: plain hooks in a whole pass per cell, with the arithmetic written anew."""

import functools
import math
from contextlib import contextmanager

import torch

from secondary_sinks.types import as_cell

POINTS = {
    "mlp_out": "hook_mlp_out",
    "attn_out": "hook_attn_out",
    "resid_post": "hook_resid_post",
    "resid_pre": "hook_resid_pre",
    "z": "attn.hook_z",
    "post": "mlp.hook_post",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "attn_scores": "attn.hook_attn_scores",
    "pattern": "attn.hook_pattern",
    "mlp_in": "hook_mlp_in",
}


def name_of(site, layer):
    return "hook_embed" if site == "embed" else f"blocks.{layer}.{POINTS[site]}"


def clean_runs(model, trace, *others):
    """Caches of plain runs, by text; "" is the edited text's own."""
    texts = {"": trace, **{one.text_id: one for one in others}}
    return {name: cache_of(model, one.tokens) for name, one in texts.items()}


def full_runs(model, trace, cells, caches=None, reference=None):
    """Logits and cache of whole runs, one text of the batch per cell, edited by plain hooks."""
    caches = clean_runs(model, trace) if caches is None else caches

    def made(row, edit, layer):
        def hook(tensor, hook):
            new = tensor.clone()
            for pos in edit.positions:
                if edit.key is not None:
                    attend(new[row, :, pos, edit.key], edit)
                    continue
                old = heads_apart(model, edit, tensor[row, pos])
                given = given_row(trace, edit, pos, layer, caches, reference)
                changed = edited_row(trace, edit, old, given, layer)
                new[row, pos] = changed.reshape(new[row, pos].shape)
            return new

        return name_of(edit.site, layer), hook

    hooks = [
        made(row, edit, layer)
        for row, cell in enumerate(cells)
        for edit in as_cell(cell)
        for layer in edit.layers
    ]
    with mlp_in_fires(model), torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model.run_with_cache(trace.tokens.repeat(len(cells), 1))


@contextmanager
def mlp_in_fires(model):
    """TransformerLens reads `hook_mlp_in` only where it is told to."""
    model.set_use_hook_mlp_in(True)
    yield
    model.set_use_hook_mlp_in(False)


def attend(by_head, edit):
    """Edit scores or attention of a query on a key, in place."""
    heads = list(edit.units) or slice(None)
    by_head[heads] = -math.inf if edit.kind == "knockout" else by_head[heads] * edit.value


def cache_of(model, tokens):
    with mlp_in_fires(model), torch.no_grad():
        return model.run_with_cache(tokens[None])[1]


def heads_apart(model, edit, row):
    if edit.site not in {"z", "q", "k", "v"}:
        return row
    n_heads = model.cfg.n_heads
    if edit.site in {"k", "v"}:
        n_heads = model.cfg.n_key_value_heads or n_heads
    return row.reshape(n_heads, -1)


def given_row(trace, edit, pos, layer, caches, reference):
    """What is put in the place of the activation, where the kind says so."""
    name = name_of(edit.site, layer)
    clean, norm = caches[""][name][0], trace.norm[layer]
    ordinary = norm <= 2 * norm.median()
    if edit.kind == "patch":
        several = [edit.donor] if isinstance(edit.donor, int) else list(edit.donor)
        return caches[edit.text][name][0, several].mean(0)
    if edit.kind == "mean" and edit.over == "reference":
        return reference[edit.site, layer]
    if edit.kind == "mean":
        if edit.over == "twins":
            median = trace.norm.median(1, keepdim=True).values
            ordinary = (trace.norm <= 2 * median).all(0) & (trace.tokens == trace.tokens[pos])
            ordinary[pos] = False
        return clean[ordinary].mean(0)
    return None


def edited_row(trace, edit, old, given, layer):
    units = list(edit.units) or list(range(len(old)))
    whole, old = old.clone(), old[units]
    if given is not None:
        new = given.reshape(whole.shape)[units]
    else:
        new = CHANGES[edit.kind](old, edit, trace.reference_resid[layer])
    whole[units] = new
    return whole


def turn(old, edit, primary):
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(edit.seed))
    flat, rows = old.reshape(-1, old.shape[-1]), []
    for one, other in zip(flat, noise.reshape(flat.shape), strict=True):
        other = other - one * (one @ other) / (one @ one)
        other = other * one.norm() / other.norm()
        angle = edit.value / 180 * math.pi
        rows.append(math.cos(angle) * one + math.sin(angle) * other)
    return torch.stack(rows).reshape(old.shape)


def along(old, primary):
    return primary * (old @ primary) / (primary @ primary)


CHANGES = {
    "none": lambda old, edit, primary: old,
    "zero": lambda old, edit, primary: 0 * old,
    "scale": lambda old, edit, primary: edit.value * old,
    "set_norm": lambda old, edit, primary: old / old.norm(dim=-1, keepdim=True) * edit.value,
    "rotate": turn,
    "remove": lambda old, edit, primary: old - along(old, primary),
    "keep": lambda old, edit, primary: along(old, primary),
    "steer": lambda old, edit, primary: old + edit.value * primary / primary.norm(),
}


def states(model, trace, cache, row, pos):
    """Measures of one token by layer, from the cache of edited runs."""
    layers = range(model.cfg.n_layers)
    resid = torch.stack([cache[f"blocks.{la}.hook_resid_post"][row, pos] for la in layers])
    primary, typical = trace.reference_resid, trace.typical
    return {
        "norm": resid.norm(dim=-1),
        "deviation_ratio": (resid - typical).norm(dim=-1) / trace.median_deviation,
        "alignment": cosine(resid, primary),
        "alignment_centred": cosine(resid - typical, primary - typical),
        "key_norm": torch.stack(
            [keys(model, cache, la)[row, pos].norm(dim=-1).mean() for la in layers]
        ),
    }


def cosine(one, other):
    """NaN where there is no direction."""
    return (one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))


def keys(model, cache, layer):
    """Keys as scores use them; turning leaves their length, but for a scale that some have."""
    rotated = f"blocks.{layer}.attn.hook_rot_k"
    if rotated in cache:
        return cache[rotated]
    plain, original = cache[f"blocks.{layer}.attn.hook_k"], getattr(model, "original_model", model)
    scale = scale_of_rope(original)
    if scale == 1.0:
        return plain
    share = original.config.rope_parameters.get("partial_rotary_factor", 1.0)
    turned = torch.arange(plain.shape[-1]) < share * plain.shape[-1]
    return torch.where(turned, scale * plain, plain)


@functools.cache
def scale_of_rope(original):
    """By what a rope multiplies keys besides turning them; 1 where it only turns."""
    scales = (vars(module).get("attention_scaling", 1.0) for module in original.modules())
    return next((scale for scale in scales if scale != 1.0), 1.0)


def mass(trace, cache, row, pos):
    """Attention mass of a token by layer, from the patterns of edited runs."""
    masses = []
    for layer in range(len(trace.norm)):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][row].mean(0)
        masses.append(pattern[:, pos].sum() / trace.queries[layer, pos])
    return torch.stack(masses)


def losses(trace, logits):
    """Next-token losses by position, from logits `[pos, d_vocab]`."""
    log_probs = logits[:-1].log_softmax(-1)
    return -log_probs[range(len(trace.tokens) - 1), trace.tokens[1:]]
