"""The authors' steering rule: what it touches, what it does, and when it misleads."""

import pandas as pd
import pytest
import torch

from experiments import prices, steered, steered_verdicts, their_steering
from experiments.steered import EXEMPT, TAU, found_rows, rescale, targets_of
from secondary_sinks import observe
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import exhaustive
from tests.questions.gardens import three

LAYER = 3
PRIMARY = Plant(pos=0, forming=(1, LAYER), strength=800.0)
"""A primary at which the MLP of layer 3 still writes along the sink direction."""
WEAK = [Plant(pos=pos, forming=(LAYER,), strength=12.0) for pos in (8, 16, 20, 28, 32, 40)]
"""Tokens that are no sinks, at which this MLP writes along the same direction."""
GARDENS = {
    "only sinks": lambda: planted(*three(forming=(LAYER,)), primary=PRIMARY, n_layers=6),
    "others too": lambda: planted(*three(forming=(LAYER,)), *WEAK, primary=PRIMARY, n_layers=6),
    "primary silent": lambda: planted(*three(forming=(LAYER,)), n_layers=6),
    "exempt": lambda: planted(
        *(Plant(pos=pos, forming=(LAYER,)) for pos in (2, 24)),
        primary=PRIMARY,
        n_layers=6,
        n_texts=2,
    ),
}


@pytest.fixture(scope="module")
def run():
    """Run the experiment on a garden with two lengths, once for all tests."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steered, "DOSES", {"0": 0.0, "2x": 2.0})

        def ask(name):
            if name not in made:
                observed = GARDENS[name]()
                made[name] = observed, their_steering.run(observed)
            return made[name]

        yield ask


def outcomes(finding):
    return dict(
        zip(
            ("covers", "loses", "more", "harms"), (v.outcome for v in finding.verdicts), strict=True
        )
    )


@exhaustive
def test_a_rule_that_touches_the_sinks_alone_does_what_exact_edits_do(run):
    _, finding = run("only sinks")
    found = outcomes(finding)
    assert found["covers"] == found["loses"] == "supported"
    assert found["more"] == "contradicted"
    assert set(finding.tables["tokens"]["found"]) == {"both"}
    kept = finding.frame[finding.frame["measure"] == "kept"].set_index(["arm", "dose"])["value"]
    assert kept["rule", "0"] < 0.1 < 0.9 < kept["matched", "0"]
    assert kept["alone", "0"] < 0.1


def test_tokens_that_share_the_direction_mislead_the_rule_and_not_exact_edits(run):
    """Sinks do vanish under the rule, as if it were exact; most tokens it touches are no sinks."""
    _, finding = run("others too")
    found = outcomes(finding)
    assert found["loses"] == "supported", "the naive reading"
    assert found["covers"] == "contradicted"
    assert found["more"] == "supported"
    tokens = finding.tables["tokens"]
    assert set(tokens[tokens["found"] == "rule"]["pos"]) == {one.pos for one in WEAK}
    assert "other tokens, and misses 0 sinks: no sink (48)" in finding.verdict.why


def test_rescaled_to_the_length_of_a_sink_they_become_sinks(run):
    found = run("others too")[1].tables["found"]
    for _, part in found.groupby("criterion"):
        by_dose = part.groupby("dose")[["n_sinks", "n_of_clean", "n_new", "n_new_touched"]].sum()
        assert by_dose.loc["clean"].tolist() == [24, 24, 0, 0]
        assert by_dose.loc["0"].tolist() == [0, 0, 0, 0]
        assert by_dose.loc["2x"].tolist() == [72, 24, 48, 48]


@exhaustive
def test_without_a_primary_that_writes_there_the_rule_touches_nothing(run):
    observed, finding = run("primary silent")
    assert outcomes(finding) | {"covers": ""} == {
        "covers": "",
        **dict.fromkeys(("loses", "more", "harms"), "inconclusive"),
    }
    assert finding.verdict.outcome == "contradicted"
    assert set(finding.tables["tokens"]["reason"]) == {f"cosine of {TAU:g} or less"}
    (touched, *_) = targets_of(observed, LAYER, TAU, residual=True)
    assert touched.touched == (12, 24, 36), "the primary's residual has the direction"


def test_the_first_positions_are_exempt_even_if_a_sink_stands_there(run):
    _, finding = run("exempt")
    tokens = finding.tables["tokens"].set_index("pos")
    assert set(tokens.loc[2, "reason"]) == {"exempt position"}
    assert set(tokens.loc[24, "found"]) == {"both"}
    sinks = finding.tables["sinks"]
    left = sinks[(sinks["pos"] == 2) & (sinks["dose"] == "0")].set_index("arm")
    assert (left.loc["rule", "lost"] < 0.1).all()
    assert (left.loc["alone", "lost"] > 0.9).all(), "an exact edit needs no rule"


def test_the_rule_is_that_of_a_hook_which_looks_for_the_direction_itself(run):
    """The authors' way: a mask by cosine inside the forward pass."""
    observed, _ = run("others too")
    targets, *_ = targets_of(observed, LAYER, TAU, residual=False)
    direction = steered._direction(observed, LAYER, False)
    name = f"blocks.{LAYER}.hook_mlp_out"

    def by_mask(written, hook):
        mask = torch.cosine_similarity(written[0], direction[None], dim=-1) > TAU
        mask[:EXEMPT] = False
        written[0, mask] *= 5.0 / written[0, mask].norm(dim=-1, keepdim=True)
        return written

    seen = {}

    def last(resid, hook):
        seen["norm"] = resid[0].norm(dim=-1)

    hooks = [(name, by_mask), ("blocks.5.hook_resid_post", last)]
    observed.model.run_with_hooks(targets.trace.tokens[None], fwd_hooks=hooks)
    hook = (name, rescale(targets.touched, 5.0))
    ours = observe(observed.model, targets.trace.tokens, hooks=[hook])
    torch.testing.assert_close(ours.norm[5], seen["norm"], rtol=1e-4, atol=1e-4)
    lengths = ours.mlp_norm[LAYER, list(targets.touched)]
    torch.testing.assert_close(lengths, torch.full((9,), 5.0), rtol=1e-5, atol=0)


def test_detection_after_a_whole_pass_agrees_with_the_recomputed_cells(run):
    observed, finding = run("others too")
    sinks = finding.tables["sinks"]
    rule = sinks[(sinks["arm"] == "rule") & (sinks["text_id"] == "t0")]
    targets, *_ = targets_of(observed, LAYER, TAU, residual=False)
    for dose, factor in {"0": 0.0, "2x": 2.0}.items():
        hook = rescale(targets.touched, factor * 60.0)
        trace = observe(
            observed.model,
            targets.trace.tokens,
            hooks=[(f"blocks.{LAYER}.hook_mlp_out", hook)],
        )
        for row in rule[rule["dose"] == dose].to_dict("records"):
            assert float(trace.mass[LAYER + 1 :, row["pos"]].mean()) == pytest.approx(
                row["mass_edited"], rel=1e-3, abs=1e-6
            )
            assert row["lifetime_edited"] == (0 if dose == "0" else 3)
    assert found_rows(observed, targets, LAYER, {"0": 0.0})[1]["n_of_clean"] == 0


def test_it_is_priced_before_it_starts(run):
    observed, finding = run("only sinks")
    line, _ = prices.prices({"their_steering": {}}, observed)
    assert line.startswith("to come: their_steering, ")
    doses = len(steered.DOSES) + 1
    n_recomputed = their_steering.cost(observed).recomputed
    assert n_recomputed == len(observed.traces) * doses * (3 + 3)
    assert len(finding.tables["damage"]) == len(observed.traces) * doses * (2 + 3)


def test_without_sinks_nothing_is_claimed():
    finding = their_steering.run(planted())
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink" in finding.verdict.why


def damage(matched, rises, of="t"):
    """At norm 0: rises of the loss by the rule at 25 tokens, and at `matched` tokens."""
    numbers = {"rule": 25, "matched": matched}
    rows = [
        {"text_id": f"{of}{number}", "arm": arm, "dose": "0", "n_edited": numbers[arm]}
        | {"loss_clean": 2.0, "loss_edited": 2.0 * (1 + rise)}
        for number in range(8)
        for arm, rise in rises.items()
        if numbers[arm]
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("matched", [4, 0])
def test_many_edited_tokens_are_not_compared_with_few(matched):
    """Every edited token costs the same: 25 cost more than 4, whichever they are."""
    few = damage(matched, {"rule": 0.25, "matched": 0.01 * matched})
    verdict = steered_verdicts.harms(few)
    assert verdict.outcome == "inconclusive"
    assert verdict.n_sinks == 0
    assert "200 in texts with fewer matched tokens than the rule edits" in verdict.controls
    enough = damage(25, {"rule": 0.25, "matched": 0.25}, of="u")
    both = pd.concat([few, enough])
    assert steered_verdicts.harms(both).outcome == "contradicted", "as many cost as much"
    assert steered_verdicts.harms(both).n_sinks == 200


def test_attention_lost_by_many_at_once_is_not_compared_with_few():
    observed = planted()
    sinks = pd.DataFrame(
        [
            {"text_id": f"t{n}", "pos": 5, "arm": arm, "dose": "0", "touched": True, "lost": lost}
            for n in range(8)
            for arm, lost in {"rule": 0.9, "matched": 0.0, "alone": 0.1}.items()
        ]
    )
    few, enough = (damage(number, {"rule": 0.0, "matched": 0.0}) for number in (4, 25))
    assert steered_verdicts.loses(sinks, enough, observed).outcome == "supported"
    left = steered_verdicts.loses(sinks, few, observed)
    assert left.outcome == "inconclusive"
    assert "8 in texts with fewer matched tokens than the rule edits" in left.controls
