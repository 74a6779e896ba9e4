"""The real weights: every number equals one computed from Hugging Face outputs."""

from dataclasses import replace

import pytest
import torch

from secondary_sinks import ablate, detect, observe
from secondary_sinks.measures import mass_from_qk, sink_share, value_drain
from secondary_sinks.models.proof.expected import expect
from secondary_sinks.models.proof.prove import prove
from secondary_sinks.types import Edit, Thresholds
from tests.marks import exhaustive, thinned
from tests.oracles import decoder_layers, edited_runs, keep, original_measures, typical

pytestmark = pytest.mark.real


def close(got, expected):
    """To 1e-4, of each number and of the size of all."""
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(scope="module")
def independent(smollm2_original, real_tokens):
    """Measures from the Hugging Face model, against the first token."""
    return original_measures(smollm2_original, real_tokens, 0)


def test_logits_and_residuals_equal_the_original(smollm2, smollm2_original):
    found = prove(smollm2, expect(smollm2_original))["original"]
    assert max(one.error for one in found.values()) <= 1e-4
    assert max(one.share for one in found.values()) <= 1 / 3


@exhaustive
def test_logits_and_last_residual_equal_the_original_on_a_whole_text(
    smollm2, smollm2_original, real_tokens, real_trace, independent
):
    with torch.no_grad():
        ours, theirs = (model(real_tokens[None]) for model in (smollm2, smollm2_original))
    scale = theirs.logits.abs().max()
    assert float((ours - theirs.logits).abs().max() / scale) <= 1e-4
    torch.testing.assert_close(real_trace.norm, independent["norm"], rtol=1e-4, atol=0)


def test_every_measure_equals_one_from_hugging_face_outputs(real_trace, independent):
    assert real_trace.primary == 0
    for name, value in independent.items():
        got = getattr(real_trace, name)
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def projected(smollm2_original, real_tokens):
    """Queries and keys after Hugging Face's own rotation, and values: `[layer, head, pos, d]`."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    found, handles = {}, []
    for index, layer in enumerate(decoder_layers(smollm2_original)):
        for name in "qkv":
            module = getattr(layer.self_attn, f"{name}_proj")
            handles.append(module.register_forward_hook(keep(found, (name, index))))
    with torch.no_grad():
        smollm2_original(real_tokens[None])
        positions = torch.arange(len(real_tokens))[None]
        turns = smollm2_original.model.rotary_emb(found["q", 0], positions)
    for handle in handles:
        handle.remove()

    def heads(name):
        ones = [found[name, layer].unflatten(-1, (-1, 64)).transpose(0, 1) for layer in range(30)]
        return torch.stack(ones)

    return *apply_rotary_pos_emb(heads("q"), heads("k"), *turns), heads("v")


def test_scores_and_norms_of_keys_and_values_equal_hugging_face(real_trace, projected):
    queries, keys, values = projected
    close(real_trace.key_norm, keys.norm(dim=-1).mean(1))
    close(real_trace.value_norm, values.norm(dim=-1).mean(1))
    n_pos = len(real_trace.tokens)
    seen = torch.ones(n_pos, n_pos, dtype=torch.bool).tril()
    for layer in range(30):
        scores = queries[layer] @ keys[layer].repeat_interleave(3, 0).transpose(1, 2) / 8
        expected = [scores[:, seen[:, k], k].mean() for k in range(n_pos)]
        close(real_trace.score[layer], torch.stack(expected))


def test_masses_from_q_and_k_and_sink_shares_equal_hugging_face(
    smollm2_original, real_tokens, projected
):
    queries, keys, values = projected
    with torch.no_grad():
        attentions = smollm2_original(real_tokens[None], output_attentions=True).attentions
    seen = torch.arange(len(real_tokens), 0, -1)
    alpha = torch.stack([pattern[0].sum(1) / seen for pattern in attentions])
    got = [
        mass_from_qk(q.transpose(0, 1), k.transpose(0, 1), scale=1 / 8)
        for q, k in zip(queries, keys, strict=True)
    ]
    close(torch.stack(got), alpha)
    close(sink_share(torch.stack(got)), (alpha > 0.3).float().mean((0, 1)))
    w_o = decoder_layers(smollm2_original)[5].self_attn.o_proj.weight.detach()
    written = [values[5, head // 3] @ w_o[:, head * 64 : head * 64 + 64].T for head in range(9)]
    drained = value_drain(values[5].transpose(0, 1), w_o.T.unflatten(0, (9, 64)))
    close(drained, torch.stack(written, 1).norm(dim=-1))


def test_what_masses_are_compared_with_equals_loops(real_trace, independent):
    mass, n_pos = independent["mass"], len(real_trace.tokens)
    null = [sum(1 / (i + 1) for i in range(k, n_pos)) / (n_pos - k) for k in range(n_pos)]
    close(real_trace.mass_null, torch.tensor(null).expand(30, n_pos))
    close(real_trace.mass_excess, mass - torch.tensor(null))
    assert real_trace.queries.tolist() == [list(range(n_pos, 0, -1))] * 30
    near = [mass[:, max(0, k - 16) : k + 17].median(1).values for k in range(n_pos)]
    close(real_trace.mass_local, torch.stack(near, 1))
    assert float(real_trace.virtual_mass.abs().max()) < 1e-5


def test_states_that_a_trace_keeps_equal_hugging_face(smollm2_original, real_tokens, real_trace):
    """All but the last layer's, whose hidden state is normed."""
    with torch.no_grad():
        outputs = smollm2_original(real_tokens[None], output_hidden_states=True)
    states = torch.stack(outputs.hidden_states[1:-1])[:, 0]
    middle = torch.stack([typical(state) for state in states])
    close(real_trace.typical[:-1], middle)
    close(real_trace.reference_resid[:-1], states[:, 0])
    close(real_trace.median_norm[:-1], states.norm(dim=-1).median(1).values)
    away = (states - middle[:, None]).norm(dim=-1)
    close(real_trace.median_deviation[:-1], away.median(1).values)
    first = [torch.cosine_similarity(states, states[:, [pos]], dim=-1) for pos in range(4)]
    close(real_trace.alignment_first[:, :-1], torch.stack(first))


def test_weights_are_unprocessed(smollm2, smollm2_original):
    for block, layer in zip(smollm2.blocks, decoder_layers(smollm2_original), strict=True):
        assert torch.equal(block.mlp.W_out.T, layer.mlp.down_proj.weight)
        assert torch.equal(block.ln1.w, layer.input_layernorm.weight)


def test_sinks_equal_those_found_by_a_plain_script(real_trace, independent):
    """The criterion again, written out from the definition, on Hugging Face numbers."""
    limits, n_pos = Thresholds(), len(real_trace.tokens)
    null = [sum(1 / (i + 1) for i in range(k, n_pos)) / (n_pos - k) for k in range(n_pos)]
    layers_of = {}
    for layer in range(30):
        reader = min(layer + 1, 29)

        def stands_out(pos, layer=layer, reader=reader):
            far = independent["deviation_ratio"][layer, pos] >= limits.outlying
            near = independent["mass"][reader, max(0, pos - 16) : pos + 17]
            expected = max(null[pos], float(torch.quantile(near, 0.5, interpolation="lower")))
            drawn = independent["mass"][reader, pos] >= limits.attended * expected
            return bool(far and drawn and n_pos - pos >= limits.min_queries)

        if not stands_out(0):
            continue
        for pos in range(n_pos):
            aligned = independent["alignment_centred"][layer, pos] >= limits.aligned
            if stands_out(pos) and aligned:
                layers_of.setdefault(pos, []).append(layer)
    got = {sink.pos: list(sink.layers) for sink in detect(real_trace).sinks}
    assert got == layers_of
    assert len(got) > 1


@pytest.mark.parametrize("n_each", thinned([1, 3], [1]))
def test_the_ablation_is_reproduced_by_full_forward_passes(n_each, smollm2, real_trace):
    found = detect(real_trace)
    edited = [found.of_kind("secondary").sinks[at] for at in range(n_each)]
    sinks = replace(found, sinks=tuple(edited))
    rows = ablate(smollm2, real_trace, sinks, layers=(0, 2, 5)).rows
    for row in rows[:n_each] + rows[-n_each:]:
        sink = next(sink for sink in sinks.sinks if sink.pos == row.sink_pos)
        own, read = list(sink.layers), [layer + 1 for layer in sink.layers]
        edits = [Edit(pos=row.pos, layer=row.layer)]
        runs = edited_runs(smollm2, real_trace, edits, blocks=read)
        expected = {name: value[:, 0] for name, value in runs.items()}
        assert row.norm_edited == pytest.approx(float(expected["norm"][own].mean()), rel=1e-5)
        aligned = float(expected["alignment"][own].mean())
        assert row.alignment_edited == pytest.approx(aligned, rel=1e-5)
        assert row.mass_edited == pytest.approx(float(expected["mass"][read].mean()), rel=1e-4)


def test_the_first_mlps_make_the_sinks(smollm2, real_trace):
    """Zeroing the MLP of layer 0 ends every secondary sink; those after layer 2 end none.

    (That of layer 10 even prolongs the strongest ones: it is what ends them.)
    """
    frame = ablate(smollm2, real_trace, detect(real_trace)).to_frame()
    sinks = frame[(frame["role"] == "sink") & (frame["kind"] == "secondary")]
    assert (sinks[sinks["layer"] == 0]["lifetime_edited"] == 0).all()
    later = sinks[sinks["layer"] > 2]
    assert (later["lifetime_edited"] >= later["lifetime_clean"]).all()


def test_a_text_without_template_is_fed_as_it_is(smollm2):
    ids = smollm2.tokenizer("The canal was full of leaves. " * 20)["input_ids"]
    trace = observe(smollm2, ids)
    assert trace.token_strings[:3] == ("The", " canal", " was")
