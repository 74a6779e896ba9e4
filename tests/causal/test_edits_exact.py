"""Every kind of edit at every site, on every architecture and both classes: equal to full runs."""

from dataclasses import replace

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.causal import Recomputed, recompute, reference_means, replay
from secondary_sinks.causal.donors import resolve_donors
from secondary_sinks.errors import EditError
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing.families import save
from secondary_sinks.types import Edit
from secondary_sinks.types.edit_kinds import KINDS
from secondary_sinks.types.edit_sites import ALL_SITES, OF_TOKEN, RESIDUAL, SITE_OF
from tests.causal import slow
from tests.marks import thinned
from tests.mechanisms import ALTERNATING, CASES, OF_ATTENTION

CHANCE = torch.Generator().manual_seed(3)
TOKENS = torch.randint(3, 24, (40,), generator=CHANCE)
OTHER = torch.randint(3, 24, (24,), generator=CHANCE)
STATES = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm")
POS, LAYER, KEY = 11, 1, 7
OPTIONS = {
    "mean": [{"over": "ordinary"}, {"over": "twins"}, {"over": "reference"}],
    "resample": [{"seed": 5}],
    "patch": [{"donor": 30}, {"donor": 4, "text": "other"}, {"donor": (3, 9), "text": "other"}],
    "scale": [{"value": -1.5}],
    "set_norm": [{"value": 7.0}],
    "rotate": [{"value": 60.0, "seed": 2}],
    "steer": [{"value": 9.0}],
    "knockout": [{"key": KEY}],
    "reweight": [{"key": KEY, "value": 0.3}],
}


TYPICAL = [case for case in ALTERNATING if case[0] in OF_ATTENTION]
N_PARTS = 3
"""`make test` runs one part of all edits on each architecture: every site, and kinds by turns."""


@pytest.fixture(scope="module", params=thinned(CASES, TYPICAL), ids="-".join)
def case(request, tmp_path_factory):
    """The name of a variant, its model, a trace, and the trace of another text."""
    variant, kind = request.param
    folder = save(variant, tmp_path_factory.mktemp(variant))
    model = load_model(folder, device="cpu", bridge=kind == "TransformerBridge", skip=CHECKS)
    other = observe(model, OTHER, text_id="other")
    return variant, model, observe(model, TOKENS), other


def number_of(variant):
    """The place of a variant among those that `make test` runs, by which edits take turns."""
    return OF_ATTENTION.index(variant) if variant in OF_ATTENTION else 0


def layer_of(site):
    return 0 if SITE_OF[site].first else LAYER


def sites_of(model):
    experts = {"post"} if model.cfg.num_experts else set()
    return [site for site in ALL_SITES if site not in experts]


def every_edit(model, trace):
    """Each kind at each site where it is possible, of whole activations and of some units."""
    for site in sites_of(model):
        for kind in KINDS:
            if site not in KINDS[kind].sites:
                continue
            for options in OPTIONS.get(kind, [{}]):
                edit = Edit(pos=POS, layer=layer_of(site), kind=kind, site=site, **options)
                yield edit
                if not (KINDS[kind].of_vectors and site in RESIDUAL):
                    yield replace(edit, units=(1, 0) if SITE_OF[site].unit == "KV head" else (2, 0))


def part_of(edits, number):
    """Every third edit of each site from a number on; one at least."""
    by_site = {edit.site: [one for one in edits if one.site == edit.site] for edit in edits}
    parts = (same[number % min(N_PARTS, len(same)) :: N_PARTS] for same in by_site.values())
    return [edit for part in parts for edit in part]


def near(got, expected, words, *of, least=1e-3):
    """Within 1e-5 of the largest value; cosines, which are of unit vectors, within 1e-6 too.

    `words` has braces for each of `of`: to write out an edit takes longer than to compare it.
    """
    scale = float(expected[expected.isfinite()].abs().max().clamp(min=least))
    told = {"msg": lambda message: f"{words.format(*of)}: {message}"}
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * scale, equal_nan=True, **told)


def expect(result, number, pos, model, trace, cache):
    """States of a token in a result equal those of a full run, where they have a direction."""
    column = (result.column(pos),) if isinstance(result, Recomputed) else ()
    expected = slow.states(model, trace, cache, number, pos)
    pointing = expected["deviation_ratio"] > 1e-3  # the typical token itself points nowhere
    for name, value in expected.items():
        got = getattr(result, name)[(slice(None), number, *column)]
        where = pointing if name == "alignment_centred" else slice(None)
        words = ("{}.{} of {}", type(result).__name__, name, result.cells[number])
        near(got[where], value[where], *words, least=0.1 if "alignment" in name else 1e-3)


@pytest.mark.parametrize("part", thinned(range(N_PARTS), [0]))
def test_every_edit_equals_a_full_run(case, part):
    variant, model, trace, other = case
    edits = part_of(list(every_edit(model, trace)), part + number_of(variant))
    assert {edit.site for edit in edits} == set(sites_of(model))
    there = [site for site in sites_of(model) if site in OF_TOKEN]
    reference = reference_means(model, [trace, other], there)
    kept = {"others": [other], "reference": reference}
    replayed = replay(model, trace, edits, **kept)
    whole = recompute(model, trace, edits, watch=[0, 20], **kept)
    drawn = [resolve_donors(trace, (edit,)) for edit in edits]
    caches = slow.clean_runs(model, trace, other)
    logits, cache = slow.full_runs(model, trace, drawn, caches, reference)
    for number, edit in enumerate(edits):
        expect(replayed, number, POS, model, trace, cache)
        expect(whole, number, POS, model, trace, cache)
        # Later queries of the edited layer are clean, so that its direct mass is the total one.
        total = slow.mass(trace, cache, number, POS)[edit.layer]
        near(replayed.mass[edit.layer, number], total, "direct mass of {}", edit)
        for pos in (0, POS, 20):
            got = whole.mass[:, number, whole.column(pos)]
            near(got, slow.mass(trace, cache, number, pos), "mass at {} of {}", pos, edit)
        expected = slow.losses(trace, logits[number])
        near(whole.loss[number, :-1], expected, "loss of {}", edit)


def test_attention_of_all_later_queries_equals_a_full_run(case):
    _, model, trace, _ = case
    later = tuple(range(KEY + 1, len(TOKENS)))
    where = {"pos": later, "site": "attn_scores", "kind": "knockout"}
    cells = [
        (Edit(**where, layer=(0, 2), key=KEY),),
        (Edit(**where, layer=1, key=KEY, units=(1,)), Edit(**where, layer=1, key=2)),
        (Edit(pos=later, layer=1, site="pattern", kind="reweight", key=KEY, value=2.0),),
        (Edit(pos=9, layer=1), Edit(**where, layer=1, key=KEY), Edit(pos=9, layer=2)),
    ]
    whole = recompute(model, trace, cells, watch=[0, 20])
    logits, cache = slow.full_runs(model, trace, cells)
    for number in range(len(cells)):
        for pos in whole.watch:
            got = whole.mass[:, number, whole.column(pos)]
            near(got, slow.mass(trace, cache, number, pos), f"mass at {pos} of cell {number}")
            expect(whole, number, pos, model, trace, cache)
        near(whole.loss[number, :-1], slow.losses(trace, logits[number]), f"loss {number}")
    with pytest.raises(EditError, match="one token; this cell edits positions 8-39: use recompute"):
        replay(model, trace, cells[:1])


def test_edits_of_several_tokens_and_layers_equal_a_full_run(case):
    _, model, trace, _ = case
    cells = [
        (Edit(pos=(9, 25), layer=(0, 2)), Edit(pos=17, layer=1, kind="scale", value=3.0)),
        (Edit(pos=9, layer=2, site="attn_out"), Edit(pos=9, layer=2, kind="steer", value=5.0)),
        (Edit(pos=12, layer=0), Edit(pos=12, layer=0, kind="steer", value=4.0)),
        (Edit(pos=12, layer=(1, 2), site="k", units=(1,)), Edit(pos=12, layer=1, site="v")),
        (Edit(pos=(7, 12), layer=1, site="v"), Edit(pos=8, layer=1), Edit(pos=9, layer=0)),
        (Edit(pos=(8, 20), layer=(0, 2), units=(5, 1)), Edit(pos=9, layer=1, units=(2,))),
        (
            Edit(pos=(9, 25), layer=0, site="embed", kind="scale", value=-2.0),
            Edit(pos=25, layer=0, site="embed", units=(3,)),
            Edit(pos=25, layer=0, site="resid_pre", kind="steer", value=4.0),
            Edit(pos=(12, 25), layer=(0, 2), site="mlp_in", kind="scale", value=-1.5),
        ),
    ]
    whole, replayed = (
        recompute(model, trace, cells, watch=[0, 9, 30]),
        replay(model, trace, cells[1:4]),
    )
    logits, cache = slow.full_runs(model, trace, cells)
    for number in range(len(cells)):
        for pos in whole.watch:
            got = whole.mass[:, number, whole.column(pos)]
            near(got, slow.mass(trace, cache, number, pos), f"mass at {pos} of cell {number}")
            expect(whole, number, pos, model, trace, cache)
        near(whole.loss[number, :-1], slow.losses(trace, logits[number]), f"loss {number}")
    for name in STATES:
        for number, pos in enumerate((9, 12, 12)):
            got = getattr(whole, name)[:, number + 1, whole.column(pos)]
            near(getattr(replayed, name)[:, number], got, name)


def test_an_edit_that_changes_nothing_leaves_everything_bit_equal(case):
    _, model, trace, _ = case
    cells = [
        Edit(pos=12, layer=1, kind="none"),
        Edit(pos=12, layer=(0, 2), kind="scale", value=1.0, site="attn_out"),
        Edit(pos=12, layer=1, kind="rotate", value=0.0),
        Edit(pos=12, layer=(0, 1), kind="scale", value=1.0, site="k"),
        Edit(pos=12, layer=1, kind="rotate", value=0.0, site="v", units=(1,)),
        Edit(pos=12, layer=(0, 2), kind="scale", value=1.0, site="resid_pre"),
        *(
            Edit(pos=12, layer=layer_of(site), kind="scale", value=1.0, site=site, units=(3, 0))
            for site in RESIDUAL
        ),
        Edit(pos=12, layer=1, kind="reweight", value=1.0, site="pattern", key=5),
    ]
    cells += [
        Edit(pos=30, layer=layer, kind="knockout", site="attn_scores", key=2)
        for layer, seen_by in enumerate(trace.queries[:, 2].tolist())
        if seen_by <= 30 - 2  # the key is outside the window of the query
    ]
    replayed, whole = replay(model, trace, cells), recompute(model, trace, cells)
    for number, pos in enumerate(edit.pos for edit in cells):
        for name in (*STATES, "mass"):
            clean = getattr(trace, name)[:, pos]
            assert torch.equal(getattr(replayed, name)[:, number], clean)
            assert torch.equal(getattr(whole, name)[:, number, whole.column(pos)], clean)
        assert torch.equal(whole.loss[number, :-1], whole.loss_clean[:-1])
        assert (whole.kl[number, :-1] == 0).all()
