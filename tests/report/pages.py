"""Records and pages of small runs, and a reader of their HTML."""

import functools
from dataclasses import asdict
from html.parser import HTMLParser

import pandas as pd
import torch

from secondary_sinks.detection import compare_with_paper
from secondary_sinks.questions import Answer
from secondary_sinks.questions.circuit import by_level, edges_frame
from secondary_sinks.report import render
from secondary_sinks.types import SinkTable, Thresholds, Verdict
from tests.plots import frames

VOID = {"meta", "link", "br", "img"}


def verdict(**changes):
    """A verdict as run.json has it; another claim names no layer, unless that is given."""
    of_layer = {"general": "secondary sinks need the MLP of one layer", "layer": 0}
    changes = {"general": "", "layer": None} | changes if "claim" in changes else changes
    return (
        of_layer
        | {
            "claim": "secondary sinks need the MLP of layer 0",
            "outcome": "supported",
            "why": "zeroing it takes nearly all",
            "statistic": "share of mass lost beyond controls",
            "unit": "share",
            "value": 0.95,
            "low": 0.9,
            "high": 0.99,
            "confidence": 0.95,
            "controls": "same edit at token twins",
            "n_sinks": 7,
            "n_texts": 3,
        }
        | changes
    )


def attended(text_id=frames.PLAIN, pos=1):
    """An answer to `reader_heads` that holds what each query pays to one sink at two layers."""
    later = range(pos + 1, frames.POSITIONS)
    own = {"text_id": text_id, "pos": pos, "query": later}
    table = pd.concat(
        [
            pd.DataFrame(own | {"layer": layer, "head": 1}).assign(
                attention=[share / query for query in later],
                attention_head=[2 * share / query for query in later],
            )
            for layer, share in ((2, 0.4), (3, 1.0))
        ]
    )
    few = Verdict(**verdict(outcome="inconclusive"))
    empty = edges_frame([])
    return {
        "reader_heads": Answer(
            question="reader_heads",
            cells=empty,
            effects=by_level(empty),
            verdicts=(few,),
            tables={"queries": table},
        )
    }


def layer_effect(layer, lost):
    shares = {"lost": lost, "low": lost - 0.05, "high": lost + 0.05, "removed": 1.0}
    shares |= {"removed_low": 0.6, "removed_high": 1.0}
    shares |= {"sinks_lost": lost, "controls_lost": 0.0, "prolonged": 0.0}
    return {"layer": layer, **shares, "n_sinks": 2, "n_unmatched": 0, "n_texts": 2}


def record(*text_ids, **changes):
    """What run.json says of texts of twelve tokens."""
    text_ids = text_ids or (frames.PLAIN,)
    return {
        "key": "k" * 64,
        "commit": None,
        "model": {
            "name": "tiny",
            "architecture": "LlamaForCausalLM",
            "n_layers": frames.LAYERS,
            "d_model": 16,
            "n_heads": 2,
            "weights_sha256": "0123456789abcdef",
        },
        "device": "cpu",
        "dtype": "float32",
        "seed": 0,
        "edit": "zero",
        "thresholds": {"aligned": 0.9, "min_queries": 8},
        "versions": {"torch": "2.0", "secondary-sinks": None},
        "texts": [
            {"text_id": text_id, "feed": "raw", "n_tokens": frames.POSITIONS, "fed": "…"}
            for text_id in text_ids
        ],
        "primaries": dict.fromkeys(text_ids, 0),
        "verdicts": [verdict()],
        "layer_effects": [layer_effect(0, 0.95), layer_effect(1, 0.0)],
        "timings_s": {"observe": 1.25},
    } | changes


def page(**changes):
    """A page of one text with a sink, unless told otherwise."""
    return _page(**changes) if changes else _typical()


@functools.cache
def _typical():
    return _page()


def _page(**changes):
    parts = {
        "record": record(),
        "sinks": frames.sinks(),
        "trace": frames.trace(),
        "effects": frames.effects(),
    } | changes
    told = phenomenon_of(parts["record"], parts["sinks"])
    return render(**parts | {"record": told | parts["record"]})


def phenomenon_of(of_run, sinks):
    """What run.json says of these sinks, none of which the paper's rule finds.

    Nothing for a part of a table, without the primary.
    """
    if len(sinks) and "primary" not in set(sinks["kind"]):
        return {}
    tokens = {text["text_id"]: torch.arange(text["n_tokens"]) for text in of_run["texts"]}
    ours, theirs = SinkTable.from_frame(sinks, Thresholds()), SinkTable(sinks=())
    n_layers = of_run["model"]["n_layers"]
    told = compare_with_paper(ours, theirs, tokens, n_layers=n_layers)
    return {"phenomenon": asdict(told)}


class Html(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.comments, self._open = [], [], [], []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def handle_comment(self, data):
        self.comments.append(data)

    def of(self, tag):
        """Attributes of all elements of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        """What a reader sees."""
        seen = (data for tag, data in self.texts if tag not in {"script", "style"})
        return " ".join(" ".join(seen).split())

    def scripts(self):
        """(attributes, content) of the scripts."""
        contents = [data for tag, data in self.texts if tag == "script"]
        return list(zip(self.of("script"), contents, strict=True))
