"""A mask that hides what comes before a place in the text, and the sinks that arise under it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import pad

from experiments.shared import Observed
from secondary_sinks import SinkTable, Thresholds, Trace
from secondary_sinks.detection import Tests, is_attended, joint_tests, lasting_sinks
from secondary_sinks.measures import centred_alignment, local_mass, norms
from secondary_sinks.models import HookedModel
from secondary_sinks.observation import LayerView, iter_layers

Hooks = list[tuple[str, Callable[..., Tensor]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """From the query at `pos` on, no query sees the keys in `hidden`; positions stay as they are.

    >>> Mask.before(2, n_pos=4, kept=1).hidden.tolist()
    [True, False, False, False]
    """

    pos: int
    hidden: Bool[Tensor, "key"]

    @staticmethod
    def before(pos: int, n_pos: int, kept: int | None = None) -> "Mask":
        """Hide all tokens before `pos`, or all but the one at `kept`."""
        hidden = torch.arange(n_pos) < pos
        if kept is not None:
            hidden[kept] = False
        return Mask(pos=pos, hidden=hidden)

    def hooks(self, layer: int) -> Hooks:
        """A hook that hides the keys before the softmax, for a layer that is run in chunks."""
        done = 0

        def hook(scores: Tensor, hook: Any) -> Tensor:
            nonlocal done
            n_queries, n_keys = scores.shape[-2:]
            late = torch.arange(done, done + n_queries) >= self.pos
            done += n_queries
            unseen = late[:, None] & self.hidden[:n_keys]
            return scores.masked_fill(unseen.to(scores.device), -torch.inf)

        return [(f"blocks.{layer}.attn.hook_attn_scores", hook)]

    def even(self, window: int | None) -> tuple[Int[Tensor, "key"], Float[Tensor, "key"]]:
        """Queries that see each key, and its mass if each query spread its attention evenly.

        >>> queries, mass = Mask.before(2, n_pos=4).even(None)
        >>> queries.tolist(), mass.tolist()
        ([2, 1, 2, 1], [0.75, 0.5, 0.75, 0.5])
        """
        n_pos = len(self.hidden)
        place, reach = torch.arange(n_pos), window or n_pos
        first, end = (place - reach + 1).clamp(min=0), (place + reach).clamp(max=n_pos)
        n_hidden = pad(self.hidden.cumsum(0), (1, 0))
        unseen = (n_hidden[place + 1] - n_hidden[first]).where(place >= self.pos, 0)
        shares = pad((1 / (place + 1 - first - unseen).double()).cumsum(0), (1, 0))
        end = end.where(~self.hidden, end.clamp(max=self.pos))
        return end - place, ((shares[end] - shares[place]) / (end - place)).float()


def sinks_under(
    model: HookedModel, trace: Trace, limits: Thresholds, mask: Mask
) -> Bool[Tensor, "pos"]:
    """Which tokens from the mask on are lasting sinks; no token before it counts.

    Judged as the joint criterion does: along the primary of the text as it is, with its typical
    token and medians, and by attention beyond what an even spread under the mask would give.
    """
    measure = partial(_measure, trace=trace, mask=mask)
    layers = list(map(measure, iter_layers(model, trace.tokens, hooks=mask.hooks)))
    of = {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}
    tests = Tests(
        aligned=of["alignment"] >= limits.aligned,
        outlying=of["deviation"] >= limits.outlying,
        attended=is_attended(of["mass"], of["expected"], of["queries"], limits),
        primary_active=joint_tests(trace, limits).primary_active,
    )
    found = lasting_sinks(tests, of["mass"] - of["expected"], limits).any(0)
    return found & (torch.arange(len(found)) >= mask.pos)


def _measure(view: LayerView, trace: Trace, mask: Mask) -> dict[str, Tensor]:
    """The measures of one layer that the criterion needs."""
    states, typical = view.resid_post.float().cpu(), trace.typical[view.layer]
    queries, even = mask.even(view.window)
    mass = view.received.cpu() / queries
    local = torch.cat([local_mass(part) for part in (mass[: mask.pos], mass[mask.pos :])])
    return {
        "alignment": centred_alignment(states, trace.reference_resid[view.layer], typical),
        "deviation": norms(states - typical) / trace.median_deviation[view.layer],
        "mass": mass,
        "expected": torch.maximum(even, local),
        "queries": queries,
    }


def draw_place(trace: Trace, sinks: SinkTable, chance: Generator) -> tuple[int, int] | None:
    """A random token of the middle half and a random one before it, not the first; neither a sink.

    None if a text is too short to have them, or has no primary.
    """
    n_pos, taken = len(trace.tokens), {sink.pos for sink in sinks.of_text(trace.text_id).sinks}
    free = [pos for pos in range(1, n_pos) if pos not in taken]
    last = n_pos - max(n_pos // 4, sinks.thresholds.min_queries)
    able = [pos for pos in free if max(n_pos // 4, free[0] + 1) <= pos <= last]
    if not able or not bool(joint_tests(trace, sinks.thresholds).primary_active.any()):
        return None
    pos = able[int(torch.randint(len(able), (1,), generator=chance))]
    before = [one for one in free if one < pos]
    return pos, before[int(torch.randint(len(before), (1,), generator=chance))]


def masked_texts(observed: Observed) -> list[dict[str, Any]]:
    """One row per text with a place for the mask: the sinks from there on, by what is hidden."""
    chance, limits = Generator().manual_seed(observed.seed), observed.sinks.thresholds
    rows = []
    for trace in observed.traces:
        place = draw_place(trace, observed.sinks, chance)
        if place is None:
            continue
        pos, kept = place
        n_pos = len(trace.tokens)
        masks = [Mask.before(pos, n_pos), Mask.before(pos, n_pos, kept)]
        tests = joint_tests(trace, limits)
        plain = lasting_sinks(tests, trace.mass - trace.mass_expected, limits).any(0)
        under = [sinks_under(observed.model, trace, limits, mask) for mask in masks]
        found = [one[pos:].tolist() for one in (plain, *under)]
        rows.append({"text_id": trace.text_id, "pos": pos, "sinks": found})
    return rows
