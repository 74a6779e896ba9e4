"""Traces built by hand: residuals and masses in, everything else by the definitions."""

from dataclasses import fields

import torch

from secondary_sinks.measures import alignment, centred_alignment, local_mass, typical_token
from secondary_sinks.types import Sink, Trace


def trace_of(resid, mass=None, primary=0, text_id="text", tokens=None, first=3, **given):
    """A trace of residuals [layer, pos, d_model]; what is not given is NaN."""
    n_layers, n_pos, _ = resid.shape
    typical = torch.stack([typical_token(layer) for layer in resid])
    deviation = (resid - typical[:, None]).norm(dim=-1)
    norm = resid.norm(dim=-1)
    mass = torch.full((n_layers, n_pos), 1 / n_pos) if mass is None else mass
    seen = torch.arange(n_pos, 0, -1)
    share = 1 / torch.arange(1.0, n_pos + 1)
    values = {
        "text_id": text_id,
        "tokens": torch.arange(n_pos) if tokens is None else tokens,
        "token_strings": tuple(f"[{pos}]" for pos in range(n_pos)),
        "primary": primary,
        "dtype": torch.float32,
        "reference": torch.full((n_layers,), primary),
        "norm": norm,
        "norm_ratio": norm / norm.median(-1, keepdim=True).values,
        "deviation_ratio": deviation / deviation.median(-1, keepdim=True).values,
        "alignment": against(resid, primary),
        "alignment_centred": torch.stack(
            [centred_alignment(x, x[primary], t) for x, t in zip(resid, typical, strict=True)]
        ),
        "alignment_first": torch.stack([against(resid, pos) for pos in range(min(first, n_pos))]),
        "mass": mass,
        "mass_null": torch.stack([share[k:].mean() for k in range(n_pos)]).expand(n_layers, n_pos),
        "mass_local": torch.stack([local_mass(row) for row in mass]),
        "queries": seen.expand(n_layers, n_pos),
        "virtual_mass": torch.zeros(n_layers),
        "typical": typical,
        "median_norm": norm.median(-1).values,
        "median_deviation": deviation.median(-1).values,
        "reference_resid": resid[:, primary],
    } | given
    missing = {field.name for field in fields(Trace)} - values.keys()
    return Trace(**values, **{name: torch.full_like(norm, torch.nan) for name in missing})


def against(resid, pos):
    return torch.stack([alignment(layer, layer[pos]) for layer in resid])


def sink(text_id="a", pos=9, l_start=4, lifetime=3, kind="secondary", **changes):
    """A sink of a table."""
    layers = tuple(range(l_start, l_start + lifetime))
    values = {
        "text_id": str(text_id),
        "pos": pos,
        "token_id": pos,
        "token": f"[{pos}]",
        "kind": kind,
        "criterion": "joint",
        "l_start": layers[0],
        "l_end": layers[-1],
        "lifetime": lifetime,
        "layers": layers,
        "level": float("nan"),
        "censored": "none",
        **dict.fromkeys(("alignment_max", "alignment_centred_max", "norm_max"), 0.5),
        **dict.fromkeys(("norm_ratio_max", "mass_max", "mass_excess_max"), 0.5),
    }
    return Sink(**(values | changes))
