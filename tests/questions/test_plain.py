"""Every question's numbers and verdicts, from whole passes with plain hooks."""

import json
import math

import pytest

from secondary_sinks import (
    detect,
    forming_mlps,
    harm,
    necessity,
    norm_dose,
    observe,
    redistribution,
    sparsity,
    sufficiency,
)
from secondary_sinks.testing.planted import Plant
from secondary_sinks.types import Edit
from tests.causal import slow
from tests.marks import exhaustive
from tests.questions.gardens import Garden
from tests.questions.plain import PlainText, verdict

PLANTED = [Plant(pos=12, forming=(3,)), Plant(pos=30, forming=(2, 4), strength=24.0, dies=7)]
FACTORS = [2.0**step for step in range(-6, 6)]
EDITS = ("zero", "mean", "resample:4")


class Asked:
    """A model, its traces and sinks, and their plain twins."""

    def __init__(self, model, traces, sinks, most):
        self.model, self.traces, self.sinks = model, traces, sinks
        self.most = most
        """Check so many cells of a table, evenly spread; None: all."""
        self.plain = {trace.text_id: PlainText(model, trace, sinks.thresholds) for trace in traces}
        self.layers = {(sink.text_id, sink.pos): sink.layers for sink in sinks.sinks}
        self.forming = forming_mlps(model, traces, sinks)
        self.held = self._held()

    def _held(self):
        """By sink, the group that formed most sinks of its creation layer in earlier texts."""
        held, seen = {}, {}
        for trace in self.traces:
            own = [one for one in self.forming if one.text_id == trace.text_id]
            starts = {one.pos: self.layers[one.text_id, one.pos][0] for one in own}
            for one in own:
                groups = seen.get(starts[one.pos], [])
                most = max(groups, key=groups.count) if groups else (starts[one.pos],)
                held[one.text_id, one.pos] = most
            for one in own:
                if one.how != "none":
                    seen.setdefault(starts[one.pos], []).append(one.layers)
        return held

    def check(self, cells, edits=None):
        """Lifetimes and masses of cells, and whether they draw, are those of whole passes."""
        every = 1 if self.most is None else -(-len(cells) // self.most)
        for row in cells.iloc[::every].to_dict("records"):
            cell = row["edits"] if edits is None else edits(row)
            layers = self.layers[row["text_id"], row["sink_pos"]]
            plain = self.plain[row["text_id"]]
            lifetime, mass, drawn = plain.outcome(cell, layers)
            assert row["lifetime_edited"] == lifetime, row
            assert row["mass_edited"] == pytest.approx(mass, rel=2e-4, abs=1e-7), row
            if "draws" in row:
                assert row["drawn_edited"] == pytest.approx(drawn, rel=2e-4, abs=1e-6), row
                half = plain.drawn_clean(row["sink_pos"], layers) / 2
                assert row["draws"] == (drawn >= half), row


@pytest.fixture(scope="module")
def garden():
    planted = Garden(*PLANTED, n_texts=4, content_queries=True, n_kv_heads=2)
    return Asked(*planted.asked, most=None)


@pytest.fixture(scope="module")
def real(smollm2, real_tokens):
    """The first tokens of a real text, with two secondary sinks."""
    trace = observe(smollm2, real_tokens[:136], text_id="short")
    return Asked(smollm2, [trace], detect(trace), most=6)


@pytest.fixture(params=["garden", pytest.param("real", marks=[pytest.mark.real, exhaustive])])
def asked(request):
    return request.getfixturevalue(request.param)


def question(asked, ask, **options):
    return ask(asked.model, asked.traces, asked.sinks, forming=asked.forming, **options)


def same(got, values):
    """A verdict is what for loops make of the same shares."""
    value, low, high, outcome = verdict(values, n_claims=got.n_claims)
    assert got.outcome == outcome
    assert got.value == pytest.approx(value, rel=1e-3, abs=1e-6)
    for one, other in ((got.low, low), (got.high, high)):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6, nan_ok=True)


def pairs(rows, column, own, control, alive, of=None):
    """By text: share that end (or stay) in one kind of cell and not in another, per sink.

    What is no sink but draws half of the attention has not ended, and is none that was made. Where
    no control was possible, nothing is taken off.
    """
    by_sink = {}
    for row in rows:
        stays = row[of] if of else row["is_sink"] or row["draws"]
        if alive and row[column] == own:
            stays = row["is_sink"]
        value = float(stays) if alive else 1 - float(stays)
        key = row["text_id"], row["sink_pos"]
        by_sink.setdefault(key, {}).setdefault(row[column], []).append(value)
    values = {}
    for (text, _), found in by_sink.items():
        one = sum(found[own]) / len(found[own])
        other = 0.0
        if control in found:
            other = sum(found[control]) / len(found[control])
        values.setdefault(text, []).append(one * (1 - other))
    return values


def test_forming_mlps(asked):
    for one in asked.forming:
        plain, layers = asked.plain[one.text_id], asked.layers[one.text_id, one.pos]
        ending = []
        for layer in range(layers[0] + 1):
            cell = f'[{{"pos": {one.pos}, "layer": {layer}}}]'
            lifetime, *_ = plain.outcome(cell, layers)
            if lifetime == 0:
                ending.append(layer)
        assert one.layers == tuple(ending)
        assert one.how == ("one" if len(ending) == 1 else "each")


@exhaustive
def test_necessity(asked):
    answer = question(asked, necessity, edits=EDITS, layers=[0, 2, 4])

    def edits(row):
        edit = Edit.of_label(row["edit"], pos=row["pos"], layer=row["layer"])
        return f"[{edit.to_json()}]"

    asked.check(answer.cells, edits)
    asked.check(answer.tables["formed"])
    cells = answer.tables["formed"].to_dict("records")
    found = []
    for way in ("mean", "resample:4"):
        rows = [row for row in cells if row["edit"] == way]
        values = pairs(rows, "where", "forming", "other", alive=False)
        found.append((verdict(values)[0], values))
    same(answer.verdicts[-1], min(found, key=lambda one: one[0])[1])
    sinks = answer.cells[answer.cells["role"] == "sink"].to_dict("records")
    for row in answer.effects.to_dict("records"):
        ended = {}
        for cell in sinks:
            created = asked.layers[cell["text_id"], cell["pos"]][0]
            asked_for = (cell["layer"], cell["edit"].partition(":")[0])
            if (
                asked_for == (row["layer"], row["edit"]) and cell["layer"] <= created
            ):  # a later layer could not have ended it
                ended.setdefault(cell["text_id"], []).append(float(cell["lifetime_edited"] == 0))
        if ended:
            assert row["removed"] == pytest.approx(verdict(ended)[0])
        else:
            assert math.isnan(row["removed"])


@exhaustive
def test_sufficiency(asked):
    answer = question(asked, sufficiency, layers=[1], seeds=2)
    asked.check(answer.cells)
    rows = [row for row in answer.cells.to_dict("records") if row["where"] != "layer"]
    made = [row for row in rows if row["patch"] == "denoising" and row["where"] == "creation"]
    same(answer.verdicts[0], pairs(made, "donor", "sink", "ordinary", alive=True))
    ended = [row for row in rows if row["patch"] == "noising"]
    same(answer.verdicts[1], pairs(ended, "where", "forming", "other", alive=False))


@exhaustive
def test_norm_dose(asked):
    answer = question(asked, norm_dose, factors=FACTORS, seeds=1)
    asked.check(answer.cells)
    rows = answer.cells.to_dict("records")
    turned = [row for row in rows if row["test"] == "turned" and row["factor"] == 1.0]
    least = [row for row in rows if row["test"] == "least"]
    for got, part in zip(answer.verdicts[2:], (turned, least), strict=True):
        same(got, pairs(part, "role", "sink", "other", alive=False, of="draws"))


@exhaustive
def test_sparsity(asked):
    answer = question(asked, sparsity, seeds=1)
    asked.check(answer.cells)
    for got, test in zip(answer.verdicts, ("without", "only"), strict=True):
        by_edit = {}
        for row in answer.cells.to_dict("records"):
            if row["few"] and row["test"] == test and row["neurons"] != "control":
                by_edit.setdefault(row["edit"], []).append(row)
        assert "zero" in by_edit
        assert set(by_edit) <= {"zero", "mean:twins"}, "without twins, zero alone"
        alike = [
            pairs(rows, "neurons", "top", "random", alive=test == "only")
            for rows in by_edit.values()
        ]
        found = [verdict(values, n_claims=got.n_claims) for values in alike]
        outcomes = {one[-1] for one in found}
        assert len(found) == 2 or outcomes != {"supported"} or got.outcome == "inconclusive"
        assert len(found) == 1 or got.outcome == (
            outcomes.pop() if len(outcomes) == 1 else "inconclusive"
        )
        assert got.value == pytest.approx(min(one[0] for one in found), rel=1e-3, abs=1e-6)


def test_the_order_of_neurons(asked):
    """By what each writes along the primary's direction, from the clean run."""
    answer = question(asked, sparsity, seeds=1)
    one = asked.forming[-1]
    plain, layers = asked.plain[one.text_id], asked.layers[one.text_id, one.pos]
    trace, found = plain.trace, []
    towards = trace.reference_resid[layers[0]] - trace.typical[layers[0]]
    for layer in asked.held[one.text_id, one.pos]:
        post = plain.clean[f"blocks.{layer}.mlp.hook_post"][0, one.pos]
        weights = asked.model.blocks[layer].mlp.W_out.detach()
        along = post * (weights @ (towards / towards.norm()))
        found += [(amount, layer, index) for index, amount in enumerate(along.tolist())]
    top = sorted(found, reverse=True)[:2]
    cells = answer.cells[
        (answer.cells["sink_pos"] == one.pos)
        & (answer.cells["text_id"] == one.text_id)
        & (answer.cells["test"] == "without")
        & (answer.cells["neurons"] == "top")
        & (answer.cells["k"] == 2)
    ]
    edited = {
        (edit["layer"], unit)
        for cell in cells["edits"]
        for edit in json.loads(cell)
        for unit in edit["units"]
    }
    assert edited == {(layer, index) for _, layer, index in top}


@exhaustive
def test_redistribution(asked):
    edits = EDITS[: 3 if asked.most is None else 1]
    answer = question(asked, redistribution, edits=edits)
    layers = asked.held
    for row in answer.cells.to_dict("records"):
        plain, key = asked.plain[row["text_id"]], (row["text_id"], row["sink_pos"])
        _, cache = plain.run([Edit.of_label(row["edit"], pos=row["pos"], layer=layers[key])])
        moved = moved_attention(asked, plain, cache, key, row["pos"])
        for name, value in moved.items():
            assert row[name] == pytest.approx(value, rel=1e-3, abs=2e-3), (name, row)
    sums = {}
    for row in answer.cells.to_dict("records"):
        if row["edit"] == "zero":
            total = sums.setdefault(row["text_id"], [0.0] * 4)
            sign = 1 if row["role"] == "sink" else -1
            for place, name in enumerate(("primary", "freed", "primary_direct", "freed_direct")):
                total[place] += sign * row[name]
    beyond = {text: [one[0] / one[1] - one[2] / one[3]] for text, one in sums.items()}
    assert answer.verdicts[0].value == pytest.approx(verdict(beyond, median=True)[0])
    assert answer.verdicts[0].outcome == "inconclusive"  # too few texts


def test_proportional_shares(asked):
    """The edited key in the clean run's softmax, row by row; all else as it was."""
    answer = question(asked, redistribution, edits=["zero"])
    layers = asked.held
    for row in answer.cells.iloc[:4].to_dict("records"):
        plain, key = asked.plain[row["text_id"]], (row["text_id"], row["sink_pos"])
        _, cache = plain.run([Edit(pos=row["pos"], layer=layers[key])])
        swapped = {
            f"blocks.{layer + 1}.attn.hook_pattern": swap(plain, cache, layer + 1, row["pos"])
            for layer in asked.layers[key]
            if layer + 1 < len(plain.trace.norm)
        }
        moved = moved_attention(asked, plain, swapped, key, row["pos"])
        for name, value in moved.items():
            assert row[f"{name}_direct"] == pytest.approx(value, rel=1e-3, abs=2e-3), (name, row)


def swap(plain, cache, block, pos):
    """The clean pattern, renormalised for what each later query pays to the edited key."""
    name = f"blocks.{block}.attn.hook_pattern"
    clean, edited = plain.clean[name].double(), cache[name].double()
    q, old = (plain.heads(plain.clean, block, one).double() for one in "qk")
    new = plain.heads(cache, block, "k").double()
    pattern = clean.clone()
    for head in range(q.shape[1]):
        group = head // (q.shape[1] // new.shape[1])
        for query in range(pos + 1, len(q)):
            change = float(q[query, head] @ (new[pos, group] - old[pos, group])) / q.shape[2] ** 0.5
            row = pattern[0, head, query]
            row[pos] *= math.exp(change)
            row /= row.sum()
    pattern[0, :, pos] = edited[0, :, pos]
    return pattern


def moved_attention(asked, plain, cache, key, pos):
    """What the edited token loses and who gains it, from two attention patterns."""
    moved = dict.fromkeys(("freed", "primary", "others", "rest"), 0.0)
    others = {other for text, other in asked.layers if text == key[0]}
    for layer in asked.layers[key]:
        if layer + 1 == len(plain.trace.norm):
            continue
        gained = plain.attention(cache, layer + 1) - plain.attention(plain.clean, layer + 1)
        primary = int(plain.trace.reference[layer])
        for token, gain in enumerate(gained.tolist()):
            if token == pos:
                moved["freed"] -= gain
            elif token == primary:
                moved["primary"] += gain
            else:
                moved["others" if token in others else "rest"] += gain
    return moved


@exhaustive
def test_harm(asked):
    edits = EDITS[: 3 if asked.most is None else 1]
    answer = question(asked, harm, edits=edits, draws=2)
    rises = {}
    for row in answer.cells.to_dict("records"):
        if row["role"] == "controls":
            continue
        plain = asked.plain[row["text_id"]]
        sinks = [one for one in asked.forming if one.text_id == row["text_id"]]
        edited = [
            Edit.of_label(row["edit"], pos=one.pos, layer=asked.held[row["text_id"], one.pos])
            for one in sinks
        ]
        assert row["n_edited"] == len(sinks)
        logits, _ = plain.run(edited)
        # Ordinary tokens that were drawn are left out of the mean; which, is read off the count.
        whole = slow.losses(plain.trace, logits) - slow.losses(plain.trace, plain.logits)
        start = min(one.pos for one in sinks)
        assert row["n_counted"] >= len(whole) - start - 3 * len(sinks)
        drawn = drawn_tokens(asked, row["text_id"], sinks)
        counted = [
            at
            for at in range(min(start, *drawn), len(whole))
            if at not in drawn and at not in {one.pos for one in sinks}
        ]
        assert row["n_counted"] == len(counted)
        rise = float(sum(whole[at] for at in counted)) / len(counted)
        assert row["loss_edited"] - row["loss_clean"] == pytest.approx(rise, rel=1e-3, abs=2e-6)
        if row["edit"] == "zero":
            rises[row["text_id"]] = row["loss_edited"] / row["loss_clean"] - 1
    beyond = {}
    for text, rise in rises.items():
        rows = answer.cells[(answer.cells["text_id"] == text) & (answer.cells["edit"] == "zero")]
        controls = [
            row["loss_edited"] / row["loss_clean"] - 1
            for row in rows.to_dict("records")
            if row["role"] == "controls"
        ]
        beyond[text] = [rise - sum(controls) / len(controls)]
    value, low, high, _ = verdict(beyond, median=True)
    got = answer.verdicts[0]
    assert got.value == pytest.approx(value)
    assert got.low == pytest.approx(low, nan_ok=True)
    assert got.high == pytest.approx(high, nan_ok=True)
    if math.isnan(low):
        assert got.outcome == "inconclusive"


def drawn_tokens(asked, text_id, sinks):
    """Tokens that stand in for the sinks: no chance is taken anew, the same draw is asked for."""
    from secondary_sinks.questions.matched_pairs import matched_draw

    trace = asked.plain[text_id].trace
    targets = [sink for sink in asked.sinks.of_text(text_id).sinks if sink.kind == "secondary"]
    return {
        pos for seed in range(2) for pos in matched_draw(trace, asked.sinks, targets, seed).values()
    }
