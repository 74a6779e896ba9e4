"""Small hand-made frames of a run: four layers, and texts of twelve tokens."""

import numpy as np
import pandas as pd

from secondary_sinks.types import Effects, SinkTable

LAYERS, POSITIONS = 4, 12
TOKENS = ["<s>", " the", "\n", " a"] + [f" w{i}" for i in range(POSITIONS - 4)]
PLAIN = "one"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<img src=x onerror=alert(2)>",
    '<b>x</b><a href="javascript:alert(3)">y</a><br>',
    "\"'`&amp;&lt;i&gt;",
    "a\u2028b\u2029\u202egnp.exe\x00\x1b",
    "%{x} {{7*7}} {% raw %} $\\alpha$",
]


def trace(*text_ids, tokens=TOKENS):
    """Ordinary tokens count up slowly; position 0 (primary) and 1 (secondary) stand out."""
    cells = []
    for text_id in text_ids or (PLAIN,):
        for layer in range(LAYERS):
            for pos in range(POSITIONS):
                strong = {0: 10.0, 1: 5.0}.get(pos)
                cells.append(
                    {
                        "text_id": text_id,
                        "layer": layer,
                        "pos": pos,
                        "token_id": pos,
                        "token": tokens[pos % len(tokens)],
                        "norm_ratio": strong or 1 + pos / 100 + layer,
                        "alignment_centred": 0.99 if strong else pos / 100,
                        "mass": strong / 20 if strong else pos / 1000,
                        "mass_excess": strong / 20 - 0.1 if strong else pos / 1000 - 0.1,
                        "mass_local": 0.01,
                    }
                )
    return pd.DataFrame(cells).astype({"norm_ratio": "float32", "mass": "float32"})


def sink(text_id=PLAIN, pos=1, kind="secondary", **changes):
    """One row of a sink table."""
    return {
        "text_id": text_id,
        "pos": pos,
        "token_id": pos,
        "token": TOKENS[pos],
        "kind": kind,
        "criterion": "joint",
        "label": "none",
        "l_start": 1,
        "l_end": 2,
        "lifetime": 2,
        "lifetime_norm": 2.0,
        "lifetime_attention": 3.0,
        "segments": "1-2",
        "level": 0.0 if kind == "secondary" else np.nan,
        "copy_of": "",
        "censored": "none",
        "within_rounding": False,
        "alignment_max": 0.99,
        "alignment_centred_max": 0.98,
        "norm_max": 50.0,
        "norm_ratio_max": 5.0,
        "mass_max": 0.25,
        "mass_excess_max": 0.2,
    } | changes


def sinks(*rows):
    """A sink table: by default the primary and one secondary sink of one text."""
    return pd.DataFrame(list(rows) or [sink(pos=0, kind="primary", mass_max=0.5), sink()])


def cell(layer=0, role="sink", pos=1, sink_pos=1, text_id=PLAIN, **changes):
    """One row of a table of effects."""
    clean = 0.2 if role == "sink" else 0.01
    return {
        "text_id": text_id,
        "pos": pos,
        "token_id": pos,
        "token": TOKENS[pos % len(TOKENS)],
        "role": role,
        "kind": "secondary" if role == "sink" else "twin",
        "sink_pos": sink_pos,
        "layer": layer,
        "site": "mlp_out",
        "edit": "zero",
        "effect": "direct",
        "lifetime_clean": 2 if role == "sink" else 0,
        "lifetime_edited": 0,
        "l_start_clean": 1.0,
        "l_start_edited": np.nan,
        "alignment_clean": 0.99,
        "alignment_edited": 0.5,
        "alignment_centred_clean": 0.98,
        "alignment_centred_edited": 0.25,
        "norm_clean": 50.0,
        "norm_edited": 10.0,
        "mass_clean": clean,
        "mass_edited": clean,
    } | changes


def effects(*text_ids):
    """A sink that loses all its mass with layer 0 and nothing with layer 1, and its control."""
    rows = []
    for text_id in text_ids or (PLAIN,):
        rows += [
            cell(0, text_id=text_id, mass_edited=0.0),
            cell(1, text_id=text_id, lifetime_edited=2),
            cell(0, "control", pos=5, text_id=text_id, mass_edited=0.05),
            cell(1, "control", pos=5, text_id=text_id),
        ]
    return pd.DataFrame(rows)


def no_sinks():
    """A sink table without rows, as a run makes it."""
    return SinkTable(sinks=()).to_frame()


def no_effects():
    """A table of effects without rows, as a run makes it."""
    return Effects(rows=()).to_frame()
