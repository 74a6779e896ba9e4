"""The questions once more, slowly: one whole pass with plain hooks per cell, and for loops.

Nothing of `secondary_sinks.causal` or `.questions` is used; traces say what the clean text is.
"""

import json
import math

import torch

from secondary_sinks.types import Edit
from tests.causal import slow


class PlainText:
    """One text of a model, whose clean run is kept."""

    def __init__(self, model, trace, limits):
        self.model, self.trace, self.limits = model, trace, limits
        self.logits, self.clean = self.run([])

    def run(self, edits):
        """Logits and cache of one whole pass with the edits."""
        edits = [self.drawn(edit, pos) for edit in edits for pos in edit.positions]
        clean = {"": getattr(self, "clean", None)}
        logits, cache = slow.full_runs(self.model, self.trace, [edits], clean)
        return logits[0], cache

    def drawn(self, edit, pos):
        """One token's part of an edit; resampling as the patch that it comes down to."""
        given = {**edit.to_dict(), "pos": pos}
        if edit.kind == "resample":
            norm, n_layers = self.trace.norm, len(self.trace.norm)
            medians = [norm[layer].median() for layer in range(n_layers)]
            able = [
                one
                for one in range(norm.shape[1])
                if one not in edit.positions
                and all(norm[layer, one] <= 2 * medians[layer] for layer in range(n_layers))
            ]
            chance = torch.Generator().manual_seed(edit.seed * 1_000_003 + pos)
            donor = able[int(torch.randint(len(able), (1,), generator=chance))]
            given = {**given, "kind": "patch", "donor": donor, "seed": 0}
        return Edit.from_dict(given)

    def outcome(self, cell, sink_layers):
        """Of the edited token: lifetime, mean mass over the blocks that read the sink, drawn."""
        edits = [Edit.from_dict(one) for one in json.loads(cell)]
        pos = edits[0].positions[0]
        _, cache = self.run(edits)
        n_layers = len(self.trace.norm)
        mass = [self.mass(cache, layer, pos) for layer in range(n_layers)]
        alive, hidden = [], []
        for layer in range(n_layers):
            resid = cache[f"blocks.{layer}.hook_resid_post"][0, pos]
            stands, aligned, primary = self.tests(layer, pos, resid, mass)
            alive.append(stands and aligned and primary)
            hidden.append(stands and not primary)
        alive[-1] = alive[-1] and alive[-2]
        beyond = [mass[layer] - self.usual(layer, pos) for layer in range(n_layers)]
        lifetime = sum(alive) if self.lasts(alive, hidden, beyond) else 0
        return lifetime, mean_read(mass, sink_layers), mean_read(beyond, sink_layers)

    def drawn_clean(self, pos, sink_layers):
        """Attention beyond the usual that a sink draws in the clean run."""
        mass = self.trace.mass[:, pos].tolist()
        beyond = [one - self.usual(layer, pos) for layer, one in enumerate(mass)]
        return mean_read(beyond, sink_layers)

    def tests(self, layer, pos, resid, mass):
        """The joint criterion, written out: stands out and attended, aligned, primary active."""
        trace, limits = self.trace, self.limits
        away, primary = resid - trace.typical[layer], trace.reference_resid[layer]
        aligned = slow.cosine(away, primary - trace.typical[layer]) >= limits.aligned
        outlying = away.norm() / trace.median_deviation[layer] >= limits.outlying
        reader = min(layer + 1, len(mass) - 1)
        stands = bool(outlying) and self.attended(reader, pos, mass[reader])
        return stands, bool(aligned), self.primary_stands(layer, reader)

    def lasts(self, alive, hidden, beyond):
        """Whether it is a sink for enough layers in a row, up to the last, and draws enough."""
        n_layers, wanted = len(alive), math.ceil(self.limits.persists)
        for start in range(n_layers - 1):
            layers = range(start, min(start + wanted, n_layers))
            whole = all(alive[layer] or hidden[layer] for layer in layers)
            enough = mean_read(beyond, layers) >= self.limits.draws
            if whole and enough and any(alive[layer] for layer in layers):
                return True
        return False

    def primary_stands(self, layer, reader):
        at = int(self.trace.reference[layer])
        far = self.trace.deviation_ratio[layer, at] >= self.limits.outlying
        return bool(far and self.attended(reader, at, float(self.trace.mass[reader, at])))

    def attended(self, reader, pos, mass):
        enough = len(self.trace.tokens) - pos >= self.limits.min_queries
        return enough and mass >= self.limits.attended * self.usual(reader, pos)

    def usual(self, reader, pos):
        """What a token at this place draws: an even share, or the median nearby if that is more."""
        n_pos = len(self.trace.tokens)
        even = sum(1 / (query + 1) for query in range(pos, n_pos)) / (n_pos - pos)
        near = sorted(self.trace.mass[reader, max(0, pos - 16) : pos + 17].tolist())
        return max(even, near[(len(near) - 1) // 2])

    def mass(self, edited, layer, pos):
        """Attention to the edited token, with the queries of later tokens as in the clean run."""
        q, k = (self.heads(self.clean, layer, one).clone() for one in "qk")
        q[pos], k[pos] = self.heads(edited, layer, "q")[pos], self.heads(edited, layer, "k")[pos]
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        total = 0.0
        for head in range(q.shape[1]):
            scores = q[:, head] @ k[:, head].T / q.shape[2] ** 0.5
            hidden = torch.ones_like(scores).triu(1).bool()
            total += float(scores.masked_fill(hidden, -math.inf).softmax(-1)[pos:, pos].mean())
        return total / q.shape[1]

    def heads(self, cache, layer, kind):
        rotated = f"blocks.{layer}.attn.hook_rot_{kind}"
        return cache[rotated if rotated in cache else f"blocks.{layer}.attn.hook_{kind}"][0]

    def attention(self, cache, block):
        """Attention that each token gets in a block: summed over queries, mean over heads."""
        return cache[f"blocks.{block}.attn.hook_pattern"][0].mean(0).sum(0).double()


def mean_read(values, layers):
    """Mean over the blocks that read some layers."""
    read = [values[layer + 1] for layer in layers if layer + 1 < len(values)]
    return sum(read) / len(read)


def verdict(values, line=0.5, n_claims=1, median=False):
    """Mean or median, interval and outcome of numbers by text: {text: [number, ...]}."""
    means = sorted(sum(numbers) / len(numbers) for numbers in values.values())
    n, tail = len(means), 0.025 / n_claims
    value = (means[n // 2] + means[(n - 1) // 2]) / 2 if median else sum(means) / n
    if n < 2:
        return value, math.nan, math.nan, "inconclusive"
    if median:
        out = sum(half_of(n, k) <= tail for k in range(n))
        low, high = (means[out - 1], means[n - out]) if out else (math.nan, math.nan)
    else:
        low = least_mean(sum(means), n, tail)
        high = 1 - least_mean(n - sum(means), n, tail)
    few = 0.5**n > tail or sum(map(len, values.values())) < 5
    outcome = "supported" if low > line else "contradicted" if high < line else "inconclusive"
    return value, low, high, "inconclusive" if few else outcome


def half_of(n, k):
    """Chance of at most k heads."""
    return sum(math.comb(n, one) for one in range(k + 1)) / 2**n


def least_mean(total, n, tail):
    """By halving: the mean at which texts add up to so much as rarely as the tail says."""
    low, high = 0.0, 1.0
    for _ in range(60):
        mean = (low + high) / 2
        bounds = [
            sum(
                (k - h) * math.comb(n, k) * mean**k * (1 - mean) ** (n - k) for k in range(h, n + 1)
            )
            / (total - h)
            for h in range(n)
            if h < total
        ]
        low, high = (low, mean) if min([1.0, *bounds]) > tail else (mean, high)
    return low if total else 0.0
