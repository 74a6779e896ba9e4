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
# # From a claim to a verdict
#
# The paper observes that secondary sinks *are formed by MLPs of the middle layers, which write
# along the direction of the primary sink*. An observation becomes a finding when something is
# taken away and the sink goes with it, while controls stay what they are. Here that is done where
# the truth is known: in planted models.

# %%
import torch

from secondary_sinks import detect, necessity, observe, sufficiency
from secondary_sinks.testing import Plant, plant


def garden(*plants, n_texts=8):
    """A model with these plants, and texts that share them among other words."""
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), *plants])
    ordinary, chance = planted.tokens >= 16, torch.Generator().manual_seed(0)
    texts = [torch.randint(16, 32, planted.tokens.shape, generator=chance) for _ in range(n_texts)]
    texts = [torch.where(ordinary, text, planted.tokens) for text in texts]
    return planted.model, [
        observe(planted.model, text, text_id=str(n)) for n, text in enumerate(texts)
    ]


def verdicts(answer):
    return {verdict.claim: verdict for verdict in answer.verdicts}


# %% [markdown]
# ## A model in which the claim is true
# The MLP of layer 4 writes both sinks. The first claim below names that layer and no other: of the
# layers up to 4, which alone could end them, it is the only one without which they do, whether its
# output is zeroed, set to the mean, or resampled from other tokens.

# %%
model, traces = garden(Plant(pos=12, forming=(4,)), Plant(pos=30, forming=(4,)))
sinks = detect(traces)
answer = necessity(model, traces, sinks)
for verdict in answer.verdicts:
    print(f"{verdict.outcome}: {verdict.claim}\n    {verdict.why}")

# %%
needed = [claim for claim in verdicts(answer) if "need the MLP of layer" in claim]
assert needed == ["secondary sinks need the MLP of layer 4"]
assert {verdict.outcome for verdict in answer.verdicts} == {"supported"}
ended = answer.effects.query("layer <= 4").pivot(index="layer", columns="edit", values="removed")
assert set(ended.columns) == {"zero", "mean", "resample"}
assert (ended.loc[4] == 1).all()
assert (ended.loc[:3] == 0).all(axis=None)

# %% [markdown]
# How large, how sure, against what? Every verdict carries its number, its interval and its
# controls. `sinks_lost` is the share of their attention that sinks lose, `controls_lost` the same
# at controls, `lost` the difference. Layer 5 has no numbers: its MLP is too late to end them.

# %%
shown = answer.effects.query("layer in (3, 4, 5)")
shown[["edit", "layer", "lost", "low", "high", "sinks_lost", "controls_lost"]].round(2)

# %%
by_layer = shown.groupby("layer")
assert (by_layer.get_group(4)["low"] > 0.95).all()
assert (by_layer.get_group(3)["high"] < 0.01).all()
assert (shown["controls_lost"].dropna() < 0.01).all()
assert (by_layer.get_group(5)["n_sinks"] == 0).all()

# %% [markdown]
# ## A model in which it is false
# Now attention heads copy the sinks from another token. To the eye the first sink is the same as
# before: creation layer, lifetime, norm, alignment, attention. The verdict is not.

# %%
model, traces = garden(
    Plant(pos=12, forming=(4,), by="attention"), Plant(pos=30, forming=(3,), by="attention")
)
copied = detect(traces)
assert {sink.kind for sink in copied.sinks} == {"primary", "secondary"}

before, after = (
    table.to_frame().query("text_id == '0' and pos == 12").iloc[0] for table in (sinks, copied)
)
for same in ("kind", "l_start", "lifetime"):
    assert before[same] == after[same]
for alike in ("norm_max", "alignment_centred_max", "mass_max"):
    assert abs(after[alike] / before[alike] - 1) < 0.05

contrary = necessity(model, traces, copied)
for verdict in contrary.verdicts:
    print(f"{verdict.outcome}: {verdict.claim}\n    {verdict.why}")

# %%
formed = verdicts(contrary)["sinks other than the primary need one MLP, or several MLPs together"]
assert formed.outcome == "contradicted"
assert not any(verdict.outcome == "supported" for verdict in contrary.verdicts)

# %% [markdown]
# Needed is one half; *enough* is the other. `sufficiency` puts what the MLPs wrote where there is
# no sink. On your own model: `secondary-sinks run MODEL --texts FILE`, or these functions.

# %%
enough = sufficiency(*garden(Plant(pos=12, forming=(4,)), Plant(pos=30, forming=(4,))), sinks)
for verdict in enough.verdicts:
    print(f"{verdict.outcome}: {verdict.claim}")
assert {verdict.outcome for verdict in enough.verdicts} == {"supported"}
