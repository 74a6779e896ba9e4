"""What the heads of each block read of the sinks of a text, the primary and their controls.

And what each later query pays to the strongest sinks: for a page on which one of them is chosen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.causal.outcome import readers
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.submodules import attention_input
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.activations import ActivationCollector
from secondary_sinks.observation.layers import check_same_states
from secondary_sinks.questions.circuit.heads import LaterAttention, even_share, later_mass, reads
from secondary_sinks.questions.circuit.scores import PARTS, queries_in_place, scores_of
from secondary_sinks.questions.matched_pairs import MatchedPair, TextPairs
from secondary_sinks.types import Thresholds, Trace

MOST_QUERIES = 1000
"""Queries after a sink whose attention is kept one by one."""
MOST_SINKS = 12
"""Sinks whose queries are kept one by one, at most."""
QUERIES = ("text_id", "pos", "layer", "head", "query", "attention", "attention_head")
TOKENS = ("sink", "primary", "control")
MEASURES = (
    *("attention", "score", *(f"score_{part}" for part in PARTS)),
    *("score_position", "score_length", "query_cosine"),
)
PerHead = Float[Tensor, "head"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """What the heads of one block read of a sink, the primary and the control."""

    beyond: Mapping[str, PerHead]
    """Mean attention of later queries minus their even share, by token (`TOKENS`)."""
    reads: Mapping[str, Bool[Tensor, "head"]]
    """Whether each head reads the token."""
    sink: Mapping[str, PerHead]
    """Each of `MEASURES` at the sink."""
    control: Mapping[str, PerHead]
    """The same at the control."""
    top: int
    """The head that pays the sink most attention beyond the even share."""
    paid: Float[Tensor, "2 query"]
    """Attention that each later query pays to the sink: mean over heads, then by the head `top`.
    At most `MOST_QUERIES`."""


ByBlock = dict[int, Read]


def blocks_of(case: MatchedPair, trace: Trace) -> list[int]:
    """The blocks that read a sink and have another token as their primary."""
    known = readers(case.sink.layers, len(trace.mass))
    return [block for block in known if int(trace.reference[block - 1]) != case.sink.pos]


def measure_text(model: HookedModel, text: TextPairs, thresholds: Thresholds) -> dict[int, ByBlock]:
    """What the heads read of each sink of a text, by its position and by block; in one pass.

    Raises `TraceError` for a trace of another model.
    """
    trace, found = text.trace, {case.sink.pos: ByBlock() for case in text.cases}
    blocks = {case.sink.pos: blocks_of(case, text.trace) for case in text.cases}
    own = {pos for case in text.cases for pos in (case.sink.pos, case.control)}
    watch = sorted(own | set(trace.reference.tolist()))
    asked = sorted({block for some in blocks.values() for block in some})
    seen = {block: LaterAttention(len(trace), watch) for block in asked}
    inputs = {block: ActivationCollector(watch) for block in asked}

    def hooks(layer: int) -> list[Hook]:
        return [seen[layer].hook(layer)] if layer in seen else []

    def note(layer: int, part: Tensor) -> None:
        if layer in inputs:  # not in replays of a layer, which come after its pass
            inputs[layer].take("input", part)

    with attention_input(model, asked, note):
        for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
            check_same_states(view, trace)
            if view.layer in seen:
                rows = inputs.pop(view.layer).rows("input")
                assert rows is not None
                block = _Block(view, trace, seen.pop(view.layer), rows, thresholds)
                for case in text.cases:
                    if view.layer in blocks[case.sink.pos]:
                        found[case.sink.pos][view.layer] = block.read(case)
            del view
    return found


class _Block:
    """One block: attention, scores and queries by head, for the watched keys."""

    def __init__(
        self,
        view: LayerView,
        trace: Trace,
        attention: LaterAttention,
        inputs: Float[Tensor, "watch d_model"],
        thresholds: Thresholds,
    ) -> None:
        self.watch, self.primary = attention.watch.tolist(), int(trace.reference[view.layer - 1])
        mass = later_mass(attention.received, view.window)
        self.beyond = mass - even_share(len(trace), view.window)
        self.reads = reads(mass, view.window, thresholds)
        self.paid = attention.paid
        at = self.watch.index(self.primary)
        self.scores = scores_of(view, inputs, attention.watch, at)
        self.queries = queries_in_place(view).cpu().transpose(0, 1)

    def read(self, case: MatchedPair) -> Read:
        """What the heads read of one sink."""
        pos = case.sink.pos
        tokens = dict(zip(TOKENS, (pos, self.primary, case.control), strict=True))
        paid = self.paid[:, pos + 1 : pos + 1 + MOST_QUERIES, self.watch.index(pos)]
        top = int(self.beyond[:, pos].argmax())
        return Read(
            beyond={name: self.beyond[:, pos] for name, pos in tokens.items()},
            reads={name: self.reads[:, pos] for name, pos in tokens.items()},
            sink=self._measures(pos, case.control),
            control=self._measures(case.control, case.control),
            top=top,
            paid=torch.stack([paid.mean(0), paid[top]]),
        )

    def _measures(self, pos: int, control: int) -> dict[str, PerHead]:
        at, other = self.watch.index(pos), self.watch.index(control)
        made = self.scores
        longer = 1 - made.key_norm[other] / made.key_norm[at]
        parts = dict(zip(PARTS, made.parts[:, at], strict=True))
        return {
            "attention": self.beyond[:, pos],
            "score": made.score[at],
            **{f"score_{part}": value for part, value in parts.items()},
            "score_position": made.position[at],
            "score_length": made.score[at] * longer,
            "query_cosine": self._cosine(at, pos),
        }

    def _cosine(self, at: int, pos: int) -> PerHead:
        """Cosine of the queries that read the token with those that read the primary."""
        later = slice(max(pos, self.primary) + 1, None)
        both = self.paid[:, later][..., [at, self.watch.index(self.primary)]]
        towards = torch.einsum("hqt,hqd->thd", both * (1 - both), self.queries[:, later])
        norms = towards.norm(dim=-1)
        cosine = (towards[0] * towards[1]).sum(-1) / (norms[0] * norms[1])
        return cosine.where((norms > 0).all(0), torch.nan)


def strongest_pairs(texts: Iterable[TextPairs]) -> list[MatchedPair]:
    """The pairs whose sinks draw most attention at their peak layer."""
    cases = [case for text in texts for case in text.cases]
    return sorted(cases, key=lambda case: -case.sink.mass_max)[:MOST_SINKS]


def by_query(case: MatchedPair, by_block: ByBlock) -> list[pd.DataFrame]:
    """Attention to one sink, a frame per block that reads it and a row per query after it.

    `attention` is the mean over heads, `attention_head` that of `head`, which reads the sink most.
    """
    pos, frames = case.sink.pos, []
    for block, read in by_block.items():
        mean, head = read.paid.tolist()
        own = {"query": range(pos + 1, pos + 1 + len(mean)), "attention": mean}
        own |= {"attention_head": head, "layer": block, "head": read.top}
        frames.append(pd.DataFrame(own | {"text_id": case.sink.text_id, "pos": pos}))
    return [frame.astype({"attention": "float32", "attention_head": "float32"}) for frame in frames]


def joined_queries(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All frames, one after the other."""
    empty = pd.DataFrame(columns=list(QUERIES))
    return pd.concat(frames, ignore_index=True)[list(QUERIES)] if frames else empty
