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
# # Interactive patching
#
# Take a sink apart with your own hands. In a clone: `pip install ".[smollm2,notebook]"`.

# %%
from secondary_sinks import bundled_corpus, load_model, tokenize
from secondary_sinks.notebook import SinkExplorer

model = load_model("smollm2-135m", device="cpu")
text = next(text for text in bundled_corpus() if text.text_id == "first-telescope")
tokens = tokenize(text, model.tokenizer).tokens[:160]

explorer = SinkExplorer(model, tokens)
explorer

# %% [markdown]
# The strip is the text; blue is attention beyond an even share at the chosen layer. Click a
# token, a layer and an edit: the table below compares before and after, also at a control with
# the same token id that is not a sink. By keyboard: left and right move, Enter chooses, up and
# down change the layer, D sets the donor.
#
# Every click is also a line of Python. The explorer starts at the strongest secondary sink:

# %%
sink = explorer.session.sink_at(explorer.choice["pos"])
assert (sink.kind, sink.token) == ("secondary", " the")

explorer.choose(layer=0, kind="zero")
print(explorer.status)

# %% [markdown]
# The status says what became of the sink and of its control, with the size and sign of each change.
# The MLP of layer 12 writes when this sink has ended already, so it cannot take anything from it: a
# check of the measurement, not a finding.

# %%
explorer.choose(layer=12)
columns = ["role", "edit", "lifetime_clean", "lifetime_edited", "mass_clean", "mass_edited"]
explorer.result[columns].round(4)

# %%
lifetimes = explorer.result.query("role == 'token'")["lifetime_edited"].tolist()
assert lifetimes == [0, sink.lifetime]
assert sink.l_end < 12

# %% [markdown]
# Is what the MLP of layer 2 writes also *enough*? Choose an ordinary token, and patch in what it
# wrote at the sink.

# %%
ordinary = explorer.session.trials[0].edits[1].positions[0]  # the control
explorer.choose(pos=ordinary, layer=2, kind="patch", donor=sink.pos)
print(explorer.status)

# %%
assert (explorer.result["lifetime_edited"].tail(2) == sink.lifetime).all()  # token and control

# %% [markdown]
# It becomes a sink that lives as long as the one it was taken from. Here the control is patched
# from the same donor, and becomes one too: whoever gets it is a sink. So the null is another donor,
# an ordinary one.

# %%
explorer.choose(donor=ordinary - 1)
print(explorer.status)

from_sink, from_ordinary = explorer.result.query("role == 'token'")["lifetime_edited"].tail(2)
assert (from_sink, from_ordinary) == (sink.lifetime, 0)

# %% [markdown]
# Every trial can leave the notebook: as Python that gives the same numbers, or all of them as a
# run folder.

# %%
code = explorer.to_python()
print(code)

# %%
names = {"model": model}
exec(code, names)
again = names["effects"][["lifetime_edited", "mass_edited"]].to_numpy()
replayed = explorer.result[["lifetime_edited", "mass_edited"]].tail(2).to_numpy()
assert abs(again - replayed).max() < 1e-4
