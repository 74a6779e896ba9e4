"""A made-up run of one text of 16,000 tokens, as large as pages get."""

import numpy as np
import pandas as pd

from tests.plots import frames
from tests.report.pages import layer_effect, page, record

TOKENS, LAYERS, SINKS = 16_000, 30, 400
WORDS = [" the", " of", " measure", "\n", " 17", " tokenization", ",", " <b>"]


def long_page():
    """The page of such a run: 400 sinks, each ablated in 30 layers, with its control."""
    told = record()
    told["model"]["n_layers"] = LAYERS
    told["texts"][0]["n_tokens"] = TOKENS
    told["layer_effects"] = [layer_effect(layer, 1 / (1 + layer)) for layer in range(LAYERS)]
    return page(record=told, sinks=_sinks(), trace=_trace(), effects=_effects())


def _sinks():
    primary = frames.sink(pos=0, kind="primary")
    places = np.linspace(20, TOKENS - 20, SINKS).astype(int).tolist()
    rows = [
        frames.sink(pos=1, l_start=place % 9, lifetime=1 + place % 7, mass_max=0.3)
        | {"pos": place, "token_id": place % 8, "token": WORDS[place % 8]}
        for place in places
    ]
    return frames.sinks(primary, *rows)


def _trace():
    chance = np.random.default_rng(0)
    n = LAYERS * TOKENS
    mass = chance.uniform(0, 1e-3, n)
    return pd.DataFrame(
        {
            "text_id": frames.PLAIN,
            "layer": np.repeat(np.arange(LAYERS), TOKENS),
            "pos": np.tile(np.arange(TOKENS), LAYERS),
            "token_id": np.tile(np.arange(TOKENS) % 8, LAYERS),
            "token": np.tile([WORDS[place % 8] for place in range(TOKENS)], LAYERS),
            "norm_ratio": chance.lognormal(size=n).astype("float32"),
            "alignment_centred": chance.uniform(-1, 1, n),
            "mass": mass.astype("float32"),
            "mass_excess": mass - 5e-4,
            "mass_local": 5e-4,
        }
    )


def _effects():
    sinks = _sinks().iloc[1:]
    cells = []
    for place, token in zip(sinks["pos"], sinks["token"], strict=True):
        for role, shift in (("sink", 0), ("control", 3)):
            for layer in range(LAYERS):
                one = frames.cell(layer, role, pos=1, sink_pos=place)
                cells.append(one | {"pos": place + shift, "token": token})
    return pd.DataFrame(cells)
