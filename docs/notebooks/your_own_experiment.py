# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own experiment, in thirty lines
#
# Your model, your hooks, your loop: plain TransformerLens. Ours are only the measures. The
# question: does a sink draw less attention if its *norm* is brought down, though its direction
# stays?
#
# The model is a planted one: the MLP of layer 3 makes the token at 20 a secondary sink, by
# design.

# %%
import torch

from secondary_sinks.measures import cached
from secondary_sinks.testing import Plant, plant

SINK, LAYER, PRIMARY = 20, 3, 0
planted = plant(
    [Plant(pos=PRIMARY, forming=(1,), strength=400.0), Plant(pos=SINK, forming=(LAYER,))]
)
model, tokens = planted.model, planted.tokens[None]


def run(scale):
    """A whole pass with the MLP's output at the sink scaled, and its ActivationCache."""

    def hook(mlp_out, hook):
        mlp_out = mlp_out.clone()
        mlp_out[0, SINK] *= scale
        return mlp_out

    with model.hooks(fwd_hooks=[(f"blocks.{LAYER}.hook_mlp_out", hook)]):
        return model.run_with_cache(tokens)[1]


scales = [1.0, 0.75, 0.5, 0.25, 0.1, 0.0]
caches = [run(scale) for scale in scales]
norm = torch.stack([cached.residual_norms(cache, LAYER)[SINK] for cache in caches])
aligned = torch.stack([cached.centred_alignment(cache, LAYER, PRIMARY)[SINK] for cache in caches])
mass = torch.stack([cached.attention_mass(cache, LAYER + 1)[SINK] for cache in caches])

# %% [markdown]
# Read it downwards. At a quarter of its norm the token still points the way of the primary sink,
# and keeps most of its attention: attention reads the state after a norm, so direction is what
# counts. Only where the ordinary content of the token shows through again, both go together.

# %%
import pandas as pd

table = pd.DataFrame({"scale": scales, "norm": norm, "alignment": aligned, "mass": mass})
table.round(3)

# %%
assert (mass.diff() < 0).all(), "less norm, less attention"
quarter = scales.index(0.25)
assert norm[quarter] < 0.3 * norm[0]
assert aligned[quarter] > 0.9
assert mass[quarter] > 0.8 * mass[0]
tenth = scales.index(0.1)
assert max(aligned[tenth] / aligned[0], mass[tenth] / mass[0]) < 0.8
assert max(aligned[-1], mass[-1]) < 0.05

# %% [markdown]
# The same in one call: six edits in a single walk through the model, exact to the last digits.

# %%
from secondary_sinks import Edit, observe, replay

trace = observe(model, tokens)
edits = [Edit(pos=SINK, layer=LAYER, kind="scale", value=scale) for scale in scales]
replayed = replay(model, trace, edits)
torch.testing.assert_close(replayed.mass[LAYER + 1], mass)
torch.testing.assert_close(replayed.norm[LAYER], norm)
