"""The authors' rule, against their definition written out in loops."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secondary_sinks import detect, observe
from secondary_sinks.detection import clip, paper_label, paper_tests
from secondary_sinks.errors import DetectionError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Thresholds
from tests.detection.traces import trace_of
from tests.marks import exhaustive

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
NORMS = st.lists(st.integers(0, 50), min_size=3, max_size=12)


def clip_by_steps(norms):
    """Largest rise, then the first largest fall, step by step; the last state has norm 0."""
    states = [*norms[:-1], 0]
    steps = [after - before for before, after in pairwise(states)]
    start = steps.index(max(steps)) + 1
    if start == len(steps):
        return start, start
    return start, steps.index(min(steps[start:]), start) + 1


@given(NORMS)
def test_the_clip_is_that_of_the_definition(norms):
    assert clip(torch.tensor(norms, dtype=torch.float32)) == clip_by_steps(norms)


def test_the_clip_sees_only_the_larger_of_two_episodes():
    assert clip(torch.tensor([5.0, 800, 800, 150, 150, 25_000, 25_000, 100, 90])) == (5, 7)


def test_a_primary_that_lives_to_the_end_is_clipped_at_the_last_state():
    """As in the authors' states, of which the last is after the final norm."""
    assert clip(torch.tensor([5.0, 800, 810, 805, 820, 830])) == (1, 5)


@pytest.mark.parametrize(("norms", "expected"), [([7.0], (0, 0)), ([7.0, 9.0], (1, 1))])
def test_too_few_layers_have_an_empty_clip(norms, expected):
    assert clip(torch.tensor(norms)) == expected


@pytest.mark.parametrize("first", [2, 3])
def test_the_rule_equals_loops_over_random_states(first):
    """Random walks with one direction in common, so that many cosines pass."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        resid = rng.normal(size=(9, 12, 4)).cumsum(0) + rng.normal(size=4) * 9
        resid[3:6, rng.integers(0, 3)] *= 20
        trace = trace_of(torch.tensor(resid, dtype=torch.float32), first=4)
        table = detect(trace, Thresholds(paper_first=first), criterion="paper")
        assert {s.pos: s.layers for s in table.sinks} == rule_by_loops(resid, first)


def rule_by_loops(resid, first):
    norms = np.linalg.norm(resid, axis=-1)
    means = [norms[:-1, pos].mean() for pos in range(first)]
    primary = means.index(max(means))
    start, end = clip_by_steps(norms[:, primary].tolist())
    found = {primary: tuple(range(start, end))} if end > start else {}
    for layer in range(start, end):
        for pos in range(primary + 1, resid.shape[1]):
            product = resid[layer, pos] @ resid[layer, primary]
            if abs(product) / (norms[layer, pos] * norms[layer, primary]) > 0.9:
                found[pos] = (*found.get(pos, ()), layer)
    return found


def test_an_anti_aligned_token_is_one_by_the_unsigned_rule():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,), strength=-60.0)])
    trace = observe(planted.model, planted.tokens)
    assert [s.pos for s in detect(trace, criterion="paper").sinks] == [0, 20]
    assert [s.pos for s in detect(trace).sinks] == [0]


@pytest.mark.parametrize(
    ("n_layers", "labels"),
    [
        (48, {1: "noise", 4: "noise", 5: "secondary", 32: "secondary", 33: "bos_sink"}),
        (20, {4: "noise", 5: "bos_sink"}),
        (12, {1: "bos_sink"}),
    ],
)
def test_labels(n_layers, labels):
    assert {lifetime: paper_label(lifetime, n_layers) for lifetime in labels} == labels


def test_labels_and_kinds_in_the_table():
    plants = [PRIMARY, Plant(pos=20, forming=(3,), dies=12), Plant(pos=30, forming=(2,), dies=4)]
    plants.append(Plant(pos=40, forming=(2,), strength=150.0))
    planted = plant(plants, n_layers=26)
    table = detect(observe(planted.model, planted.tokens), criterion="paper")
    got = [(s.pos, s.kind, s.label, s.l_start, s.lifetime, s.criterion) for s in table.sinks]
    assert got == [
        (0, "primary", "bos_sink", 1, 24, "paper"),
        (20, "secondary", "secondary", 3, 9, "paper"),
        (30, "noise", "noise", 2, 2, "paper"),
        (40, "primary_like", "bos_sink", 2, 23, "paper"),
    ]


def test_nearly_every_token_is_a_sink_of_an_anisotropic_model_by_the_paper_and_none_by_joint():
    plants = [replace(PRIMARY, strength=300.0)]
    plants += [Plant(pos=20, forming=(3,), dies=6, strength=120.0)]
    plants += [Plant(pos=30, forming=(2,), strength=150.0)]
    planted = plant(plants, anisotropy=800.0)
    trace = observe(planted.model, planted.tokens)
    joint = {(s.pos, s.l_start, s.lifetime) for s in detect(trace).sinks}
    assert joint == {(p.pos, p.l_start, p.lifetime(8)) for p in plants}
    assert len(detect(trace, criterion="paper").sinks) > 0.9 * len(planted.tokens)


def test_a_sink_of_the_first_episode_is_found_by_joint_and_missed_by_the_paper():
    episodes = [Plant(pos=0, forming=(1,), dies=4, strength=300.0)]
    episodes += [Plant(pos=0, forming=(6,), strength=900.0)]
    planted = plant([*episodes, Plant(pos=20, forming=(2,), dies=4)], n_layers=10)
    trace = observe(planted.model, planted.tokens)
    assert [(s.pos, s.segments) for s in detect(trace).sinks] == [(0, "1-3, 6-9"), (20, "2-3")]
    assert [(s.pos, s.segments) for s in detect(trace, criterion="paper").sinks] == [(0, "6-8")]


def test_the_papers_primary_need_not_be_the_traces():
    """Most attended is position 9, which the rule never looks at."""
    planted = plant([Plant(pos=9, forming=(1,)), Plant(pos=30, forming=(2,))], anisotropy=90.0)
    trace = observe(planted.model, planted.tokens)
    tests = paper_tests(trace, Thresholds())
    assert (trace.primary, tests.primary < 3) == (9, True)
    table = detect(trace, criterion="paper")
    primary = table.of_kind("primary").sinks[0]
    assert primary.alignment_max == pytest.approx(1)
    assert primary.alignment_centred_max != primary.alignment_centred_max
    with pytest.raises(DetectionError, match="only has alignments with position 9"):
        detect(replace(trace, alignment_first=None), criterion="paper")


def test_alignments_with_the_first_positions_are_cosines_of_residuals():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    assert trace.alignment_first.shape == (4, 8, 64)
    for layer in (0, 5):
        resid = cache[f"blocks.{layer}.hook_resid_post"][0]
        for pos in range(4):
            expected = torch.cosine_similarity(resid, resid[pos : pos + 1], dim=-1)
            torch.testing.assert_close(trace.alignment_first[pos, layer], expected)


def test_an_unknown_criterion_is_refused():
    with pytest.raises(DetectionError, match="'cosine'; expected joint or paper"):
        detect([], criterion="cosine")


@pytest.mark.real
@exhaustive
def test_the_rule_on_real_weights_equals_one_from_hugging_face_outputs(
    smollm2_original, real_tokens, real_trace
):
    """To the letter, final norm included; and what the clip hides, joint finds."""
    with torch.no_grad():
        out = smollm2_original(real_tokens[None], output_hidden_states=True)
    states = torch.stack(out.hidden_states[1:])[:, 0]
    norms = states.norm(dim=-1)
    primary = int(norms[:, :3].mean(0).argmax())
    steps = norms[1:, primary] - norms[:-1, primary]
    start = int(steps.argmax()) + 1
    end = start + int(steps[start:].argmin()) + 1
    expected = {primary: list(range(start, end))}
    for layer in range(start, end):
        later = states[layer, primary + 1 :]
        cosines = torch.cosine_similarity(later, states[layer, primary], dim=-1)
        for pos in ((cosines.abs() > 0.9).nonzero()[:, 0] + primary + 1).tolist():
            expected.setdefault(pos, []).append(layer)
    got = {s.pos: list(s.layers) for s in detect(real_trace, criterion="paper").sinks}
    assert got == expected
    early = [s for s in detect(real_trace).of_kind("secondary").sinks if s.l_end < start]
    assert early
    assert not {s.pos for s in early} & got.keys()
