"""The real weights: every number equals one computed from Hugging Face outputs."""

import pytest
import torch

from secondary_sinks import ablate, detect, observe
from secondary_sinks.models.expected import expect
from secondary_sinks.models.proof import prove
from secondary_sinks.types import Edit, Thresholds
from tests.oracles import decoder_layers, edited_run, original_measures

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def independent(smollm2_original, real_tokens):
    """Measures from the Hugging Face model, against the first token."""
    return original_measures(smollm2_original, real_tokens, 0)


def test_logits_and_residuals_equal_the_original(smollm2, smollm2_original):
    assert max(prove(smollm2, expect(smollm2_original)).values()) <= 1e-4


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


def test_the_ablation_is_reproduced_by_full_forward_passes(smollm2, real_trace):
    sinks = detect(real_trace)
    layers = (0, 2, 5)
    rows = ablate(smollm2, real_trace, sinks, layers=layers).rows
    for row in rows[:3] + rows[-3:]:
        expected = edited_run(smollm2, real_trace, Edit(pos=row.pos, layer=row.layer))
        sink = next(sink for sink in sinks.sinks if sink.pos == row.sink_pos)
        own, read = list(sink.layers), [layer + 1 for layer in sink.layers]
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
