"""Removed sinks, what takes their place, and later sinks that need earlier ones."""

from functools import cache

import torch

from experiments import replacement
from secondary_sinks import Edit, detect, recompute
from secondary_sinks.testing.plant_layout import COPY_DIM, GIVER, GIVER_DIM, SINK, SINK_DIM
from secondary_sinks.testing.planted import Plant, plant
from tests.experiments.observed import planted
from tests.marks import exhaustive
from tests.questions.gardens import PRIMARY, three

SOURCE, READER, LAYER = 12, 36, 4
MARKER, OWN, NEURON = 4, 5, 1
"""Of the second plant: the axis that marks its token, an axis of its own, and its MLP neuron."""
READER_MARK = 6
"""The axis that marks the token at `READER`."""
OWN_OF_SECOND = 7
"""The axis of the second plant after the primary."""
LINKED = [Plant(pos=SOURCE, forming=(2,)), Plant(pos=READER, forming=(LAYER,), by="attention")]


@cache
def linked(*, with_sink, with_mark, by_mark=False):
    """The sink at 36 is copied from the token at 12 instead of the token before it.

    The MLP that writes the sink at 12 also writes along an axis that no other token has. Copied are
    this times `with_sink`, and the mark of the token, which no edit removes, times `with_mark`.
    With `by_mark` later heads attend to marks of places, and not to what makes a sink.
    """

    @torch.no_grad()
    def change(model):
        model.blocks[2].mlp.W_out[NEURON, OWN] = 10.0
        name, attention = f"blocks.{LAYER}.ln1.hook_normalized", model.blocks[LAYER].attn
        tokens = plant([PRIMARY, *LINKED], n_layers=8).tokens
        _, cache = model.run_with_cache(tokens, names_filter=name)
        state, copied = cache[name][0, SOURCE], cache[name][0, READER - 1, GIVER]
        attention.W_K[-1, GIVER, GIVER_DIM] = 0.0
        attention.W_K[-1, MARKER, GIVER_DIM] = 1 / state[MARKER]
        attention.W_V[-1, :, COPY_DIM] = 0.0
        attention.W_V[-1, OWN, COPY_DIM] = with_sink * copied / state[OWN]
        attention.W_V[-1, MARKER, COPY_DIM] = with_mark * copied / state[MARKER]
        for block in model.blocks[LAYER + 1 :] if by_mark else []:
            attend_to_marks(block)
        model.setup()

    return planted(*LINKED, n_layers=8, n_texts=10, change=change)


def attend_to_marks(block):
    """Keys are the marks of the primary and of the token at 36, and what marks the sink at 12."""
    block.ln1 = torch.nn.Identity()
    block.attn.W_K[:, SINK, SINK_DIM] = 0.0
    for mark, size in ((2, 2.0), (READER_MARK, 2.0), (OWN, 20.0)):
        block.attn.W_K[:, mark, SINK_DIM] = 4.5 / size


def reads_the_token():
    """The sink at 36 is copied from what MLP 2 writes about which token stands at 12."""

    @torch.no_grad()
    def change(model):
        tokens, spare = plant([PRIMARY, *LINKED], n_layers=8).tokens, 3
        name, attention = f"blocks.{LAYER}.ln1.hook_normalized", model.blocks[LAYER].attn
        _, cache = model.run_with_cache(tokens, names_filter=name)
        copied = cache[name][0, READER - 1, GIVER].clone()
        model.pos_embed.W_pos[:, GIVER] = 0.0
        model.embed.W_E[int(tokens[SOURCE]), GIVER] = 2.0
        mlp = model.blocks[2].mlp
        mlp.W_in[:, spare], mlp.W_out[spare] = 0.0, 0.0
        mlp.W_in[GIVER, spare], mlp.W_out[spare, OWN] = 1.0, 10.0
        _, cache = model.run_with_cache(tokens, names_filter=name)
        state = cache[name][0, SOURCE]
        attention.W_K[-1, GIVER, GIVER_DIM] = 0.0
        attention.W_K[-1, MARKER, GIVER_DIM] = 1 / state[MARKER]
        attention.W_V[-1, :, COPY_DIM] = 0.0
        attention.W_V[-1, OWN, COPY_DIM] = copied / state[OWN]

    return planted(*LINKED, n_layers=8, n_texts=10, change=change)


@cache
def copied():
    """What is found where the sink at 36 is a copy of that at 12."""
    return replacement.run(linked(with_sink=1.0, with_mark=0.0))


def outcomes(finding):
    return [verdict.outcome for verdict in finding.verdicts]


def test_sinks_that_are_formed_each_on_its_own_replace_none_and_need_none():
    observed = planted(*three(forming=(3,)), n_layers=6)
    finding = replacement.run(observed)
    assert outcomes(finding) == ["contradicted", "contradicted"]
    table = finding.tables["removed"]
    assert table["removed"].all()
    assert table.loc[table["edit"] == "zero", "rank"].tolist()[:3] == [1, 2, 3]
    assert set(table["edit"]) == {"zero", "mean:twins"}
    assert not table["n_new"].any()
    assert not finding.tables["later"][["sink", "control"]].to_numpy().any()


def test_a_sink_that_is_copied_from_another_ends_with_it():
    finding = copied()
    assert outcomes(finding) == ["contradicted", "supported"]
    assert set(finding.tables["later"]["pos"]) == {READER}


@exhaustive
def test_a_sink_that_another_suppresses_arises_when_that_is_removed():
    """Attention that is freed goes to all tokens; only one of them becomes a sink."""
    finding = replacement.run(linked(with_sink=-0.3, with_mark=0.3))
    assert outcomes(finding) == ["supported", "inconclusive"]
    assert set(finding.tables["removed"]["new_at"]) == {str(READER)}
    assert len(finding.tables["later"]) == 0


def test_a_token_that_only_gets_its_part_of_the_freed_attention_takes_no_place():
    """The token at 40 draws a little less than a sink must; any softmax lifts it above that line.

    Naively it takes the place of the removed sink, and no control shows it: that frees nothing.
    """

    @torch.no_grad()
    def weaken(model):
        for block in model.blocks:
            block.attn.W_K[:, OWN_OF_SECOND, SINK_DIM] -= 3.3

    plants = [Plant(pos=20, forming=(3,)), Plant(pos=40, forming=(3,), read_by=(0, 1, 2, 3))]
    observed = planted(*plants, n_layers=8, n_texts=8, change=weaken)
    assert set(observed.sinks.of_kind("secondary").to_frame()["pos"]) == {20}
    finding = replacement.run(observed)
    assert outcomes(finding)[0] == "contradicted"
    removed = finding.tables["removed"]
    edit = Edit(pos=20, layer=3)
    after = recompute(observed.model, observed.traces[0], edit, watch=[40])
    expected = observed.traces[0].mass_expected[5, 40]
    assert observed.traces[0].mass[5, 40] < 2 * expected < after.mass[5, 0, after.column(40)]
    assert not removed["n_new"].any()


def test_a_later_sink_that_reads_which_token_this_is_does_not_need_the_sink():
    """The MLP that writes the sink at 12 also says which token it is, as it does at its twins.

    A head makes the sink at 36 from that. Zeroed, the MLP ends both; the control, a twin, neither.
    """
    finding = replacement.run(reads_the_token())
    (later,) = [one for one in finding.verdicts if one.claim == replacement.DEPENDS]
    assert later.outcome != "supported"
    table = finding.tables["later"]
    assert table.loc[table["edit"] == "zero", "sink"].all()


@exhaustive
def test_sinks_that_no_mlp_writes_are_not_removed_and_counted():
    copied = [Plant(pos=pos, forming=(pos // 6,), by="attention") for pos in (12, 24)]
    finding = replacement.run(planted(*copied, n_texts=4))
    assert outcomes(finding) == ["inconclusive", "inconclusive"]
    assert "8 not removed by zero, 8 not removed by mean:twins" in finding.verdict.controls


def test_what_is_found_is_what_a_plain_hooked_pass_finds():
    observed = linked(with_sink=1.0, with_mark=0.0)
    trace, model = observed.traces[0], observed.model
    row = copied().tables["removed"].iloc[0]

    def silence(value, hook):
        value[:, row["pos"]] = 0
        return value

    with model.hooks(fwd_hooks=[(f"blocks.{row['l_start']}.hook_mlp_out", silence)]):
        _, cache = model.run_with_cache(trace.tokens)
    found, clean = (
        {sink.pos for sink in table.of_kind("secondary").sinks}
        for table in (detect(cache, trace.tokens), observed.sinks.of_text(trace.text_id))
    )
    assert (row["pos"], clean - found) == (SOURCE, {SOURCE, READER})


def test_the_price_is_two_passes_for_each_sink_and_edit():
    observed = planted(*three(forming=(3,)), n_layers=6, n_texts=2)
    price = replacement.cost(observed)
    assert (price.recomputed, price.tokens) == (24, 24 * 64)


def of_reader(observed, way):
    """Attention mass of the later token in the last block: clean, and with the first one edited."""
    trace = observed.traces[0]
    edit = Edit.of_label(way, pos=SOURCE, layer=2)
    after = recompute(observed.model, trace, edit, watch=[READER])
    return trace.mass[-1, READER], after.mass[-1, 0, after.column(READER)]


def test_a_later_sink_that_keeps_its_attention_does_not_end():
    """It loses norm and direction; by the criterion alone it would end with the first one."""
    observed = linked(with_sink=1.0, with_mark=0.0, by_mark=True)
    assert {sink.pos for sink in observed.sinks.of_kind("secondary").sinks} == {SOURCE, READER}
    without = Edit(pos=SOURCE, layer=2)
    after = recompute(observed.model, observed.traces[0], without, watch=[READER])
    assert after.norm[-1, 0, after.column(READER)] < observed.traces[0].norm[-1, READER] / 2
    clean, edited = of_reader(observed, "zero")
    assert edited > clean
    assert outcomes(replacement.run(observed)) == ["contradicted", "contradicted"]


def test_a_token_that_drew_as_much_before_takes_no_place():
    """Only its norm and direction are new; by the criterion alone it would be made a sink."""
    observed = linked(with_sink=-0.3, with_mark=0.3, by_mark=True)
    assert {sink.pos for sink in observed.sinks.of_kind("secondary").sinks} == {SOURCE}
    clean, edited = of_reader(observed, "zero")
    assert clean > edited / 2
    finding = replacement.run(observed)
    assert finding.tables["removed"]["removed"].all()
    assert outcomes(finding)[0] == "contradicted"
