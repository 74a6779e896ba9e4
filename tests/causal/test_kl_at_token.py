"""What an edit does to the prediction at its token equals that of a whole pass with plain hooks."""

import pytest
import torch

from secondary_sinks import ablate, detect, load_model, observe, recompute, replay
from secondary_sinks.causal.losses import divergence
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing.families import save
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit
from tests.causal import slow
from tests.marks import needs_old
from tools.conformance import model_classes

TOKENS = torch.randint(3, 24, (40,), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=model_classes())
def tiny(request, tmp_path_factory):
    folder = save("qwen3", tmp_path_factory.mktemp("qwen3"))
    bridge = request.param == "TransformerBridge"
    model = load_model(folder, device="cpu", bridge=bridge, skip=CHECKS)
    return model, observe(model, TOKENS)


def expected_kl(clean, edited):
    """The sum over words of p log(p / q), written out in double precision."""
    p, q = clean.double().log_softmax(-1), edited.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def test_kl_at_the_token_is_that_of_a_whole_pass(tiny):
    model, trace = tiny
    n_layers = len(trace.norm)
    cells = [(Edit(pos=pos, layer=layer),) for pos in (9, 20) for layer in range(n_layers)]
    cells += [(Edit(pos=39, layer=0, kind="scale", value=-9.0),)]  # predicts nothing that is known
    cells += [(Edit(pos=9, layer=0, kind="steer", value=30.0), Edit(pos=9, layer=1))]
    logits, _ = slow.full_runs(model, trace, cells)
    with torch.no_grad():
        clean = model(trace.tokens[None])[0]
    got = replay(model, trace, cells, kl=True)
    for number, pos in enumerate(got.positions):
        wanted = expected_kl(clean[pos], logits[number, pos])
        assert float(got.kl[number]) == pytest.approx(wanted, rel=1e-3, abs=1e-5), cells[number]
    assert float(got.kl.max()) > 0.01


def test_a_vocabulary_and_cells_in_many_parts_give_the_same(tiny, monkeypatch):
    import secondary_sinks.causal.losses as module
    import secondary_sinks.layerwise.chunks as chunks

    model, trace = tiny
    edits = [Edit(pos=pos, layer=layer) for layer in (0, 1) for pos in (30, 9, 20)]
    whole = replay(model, trace, edits, kl=True).kl
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", model.cfg.d_vocab + 1)  # one row at a time
    monkeypatch.setattr(chunks, "LOGITS", 7)
    torch.testing.assert_close(replay(model, trace, edits, kl=True).kl, whole, rtol=1e-4, atol=1e-5)


def test_cells_are_compared_with_their_own_row(tiny):
    model, _ = tiny
    states = torch.randn(3, model.cfg.d_model, generator=torch.Generator().manual_seed(1))
    passage = layerwise_forward(model, TOKENS[:1])
    kl = divergence(passage, states, states[[2, 0, 1, 0]], torch.tensor([2, 0, 1, 1]))
    assert kl[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert float(kl[3]) > 0.01


def test_what_changes_nothing_is_zero_and_what_is_not_asked_is_missing(tiny):
    model, trace = tiny
    edits = [Edit(pos=9, layer=0, kind="none"), Edit(pos=9, layer=0)]
    asked, not_asked = replay(model, trace, edits, kl=True), replay(model, trace, edits)
    assert float(asked.kl[0]) == 0.0 < float(asked.kl[1])
    assert not_asked.kl.isnan().all()
    assert torch.equal(asked.norm, not_asked.norm)


def test_replay_and_recompute_agree_on_the_edited_token(tiny):
    model, trace = tiny
    edits = [Edit(pos=9, layer=0), Edit(pos=20, layer=1, kind="scale", value=3.0)]
    total = recompute(model, trace, edits)
    kl = replay(model, trace, edits, kl=True).kl
    for cell, pos in enumerate((9, 20)):
        assert float(kl[cell]) == pytest.approx(float(total.kl[cell, pos]), rel=1e-3, abs=1e-5)
        later = (total.loss[cell] - total.loss_clean)[pos + 1 : -1]
        assert total.loss_later(cell, pos) == pytest.approx(float(later.mean()), abs=1e-6)


@needs_old
def test_effects_tell_it_for_every_cell_unless_it_is_left_out():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    frame = ablate(planted.model, trace, sinks).to_frame()
    edits = [
        Edit(pos=int(pos), layer=int(layer))
        for pos, layer in zip(frame["pos"], frame["layer"], strict=True)
    ]
    whole = replay(planted.model, trace, edits, kl=True).kl
    assert frame["kl_at_token"].tolist() == pytest.approx(whole.tolist(), rel=1e-3, abs=1e-5)
    assert ablate(planted.model, trace, sinks, kl=False).to_frame()["kl_at_token"].isna().all()
