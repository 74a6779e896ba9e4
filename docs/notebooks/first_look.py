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
# # First look: the sinks of a model
#
# SmolLM2-135M reads a short conversation. Which of its tokens draw attention that their meaning
# does not explain?

# %%
from secondary_sinks import ablate, bundled_corpus, detect, load_model, observe, tokenize

model = load_model("smollm2-135m", device="cpu")  # compared with its original while it loads
text = next(text for text in bundled_corpus() if text.text_id == "first-telescope")
tokens = tokenize(text, model.tokenizer).tokens

# %% [markdown]
# One streaming pass measures every token at every layer: norm, alignment with the primary sink,
# attention received. `detect` then asks of each token, layer by layer, whether it is aligned,
# outlying and attended, all at once.

# %%
trace = observe(model, tokens)
sinks = detect(trace)

columns = ["kind", "pos", "token", "segments", "norm_ratio_max", "mass_max"]
sinks.to_frame()[columns].round(3)

# %% [markdown]
# The first token is the primary sink, as in most models. The others are *secondary*: a handful of
# ` the`, alive in layers 2 to 8 only, with several times the norm of a typical token. One is
# *transient*: too brief to count.

# %%
primary, *others = sinks.sinks
assert (primary.kind, primary.pos) == ("primary", 0)
assert len(others) >= 2
assert {sink.kind for sink in others} <= {"secondary", "transient"}
assert {sink.token for sink in others} == {" the"}
assert all(sink.l_start == 2 and sink.l_end <= 8 for sink in others)
assert all(sink.norm_ratio_max > 4 for sink in others if sink.kind == "secondary")

# %% [markdown]
# The life of the sinks: what a secondary one shares with the primary in layers 2 to 8, it does not
# have any more after them.

# %%
from secondary_sinks.plots import layer_profiles

layer_profiles(trace.to_frame(), sinks.to_frame())

# %%
strongest = max(sinks.of_kind("secondary").sinks, key=lambda sink: sink.mass_max).pos
along = trace.alignment_centred[:, strongest]
assert (along[2:9] > 0.9).all()
assert (along[9:] < 0.9).all()

# %% [markdown]
# Who makes them? Zero the MLP of one layer at one sink, and see for how many layers it still
# lives. The control of each is the same token where it is no sink; there the edit makes none.

# %%
effects = ablate(model, trace, sinks, edit="zero", layers=range(3)).to_frame()
lived = effects[effects["role"] == "sink"].pivot(
    index="pos", columns="layer", values="lifetime_edited"
)
lived.assign(clean=effects.drop_duplicates("pos").set_index("pos")["lifetime_clean"])

# %% [markdown]
# Without the MLP of layer 0 or of layer 2 none of them ever comes to be. Later layers are left
# out: they write after the sink is there, so they could not have prevented it. Zeroing says that an
# MLP is needed, not that it writes the sink: `roles` tells the writer from those that enable it.

# %%
assert (lived[[0, 2]] == 0).all(axis=None)
controls = effects[effects["role"] == "control"]
assert {trace.token_strings[pos] for pos in controls["pos"]} == {" the"}
assert not set(controls["pos"]) & {sink.pos for sink in sinks.sinks}
assert (controls["lifetime_edited"] == 0).all()
