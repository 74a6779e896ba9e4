"""How fast is the engine, compared with plain ways of getting the same numbers?

Each comparison runs ours and a peer in turns, several times, on the same machine and the same
work, compares their outputs, and reports medians. `ratio` is the peer's time over ours.

- state_sweep: what becomes of a token when its MLP output is zeroed, averaged or resampled, for
  every layer and several tokens. Peer: one forward pass with hooks per cell, as
  `transformer_lens.patching` does. It would take hours, so a random sample of 6 cells
  (seed 0) is timed and scaled.
- state_sweep_vs_sdpa: the same against Hugging Face's own model with fused attention, a pass and a
  module hook per cell.
- state_sweep_vs_decode: the same against the strongest plain way: one prefill of that model, then
  all cells of a token as a batch of one decoded token each, from the cached keys and values.
- state_sweep_with_mass_vs_decode: the same with the attention mass of every cell at every layer.
- total_effect: attention masses and losses with all later positions recomputed. Peer: one forward
  pass with hooks per cell.
- streaming_vs_cache: all measures of a text. Peer: `run_with_cache`.
- streaming_vs_sdpa: the same against a forward pass of Hugging Face's model with fused attention,
  which measures nothing.
- run: a whole `run` of a text with two edits, from the loaded model to the report. Peer: one
  forward pass with hooks per cell, without a verdict; sampled as above.

    python -m tools.speed --out results/speed --page docs/speed.md

`limit_s` is the least time that the work could take: one clean pass with fused attention, plus the
edited tokens' own share of such a pass (for total effects, that of all later tokens, and of their
predictions). Passes are timed in turns with ours and the peer; medians, as of these.

Memory is the peak of the process beyond what it held before each run.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from jaxtyping import Float, Int
from torch import Tensor

from experiments.command import start
from secondary_sinks import (
    Edit,
    Trace,
    bundled_corpus,
    detect,
    files,
    load_model,
    observe,
    tokenize,
)
from secondary_sinks import recompute as total_effects
from secondary_sinks import replay as state_effects
from secondary_sinks.causal.donors import resolve_donors
from secondary_sinks.cli import NAMED_PATH, whole
from secondary_sinks.display import count
from secondary_sinks.runs import RunFolder
from tools.speed_compare import Comparison, Differ, Limit, Work, as_markdown, compare, fill_page
from tools.speed_peers import DecodePeer, HookedPeer, SdpaPeer, same_weights
from tools.speed_run import WholeRun

SAMPLE = 6
KINDS = ("zero", "mean", "resample")


def text_of(model: Any, n_pos: int) -> Int[Tensor, "pos"]:
    """The bundled texts one after the other, as often as needed, cut to `n_pos` tokens."""
    parts = [tokenize(text, model.tokenizer).tokens for text in bundled_corpus()]
    tokens = torch.cat(parts)
    return tokens.repeat(-(-n_pos // len(tokens)))[:n_pos]


def tokens_to_edit(model: Any, tokens: Int[Tensor, "pos"], number: int) -> list[int]:
    """Secondary sinks, evenly among all of the text; filled up with tokens at even distances."""
    found = detect(observe(model, tokens)).of_kind("secondary").sinks
    chosen = torch.linspace(0, len(found) - 1, min(number, len(found))).round().long().tolist()
    positions = [found[index].pos for index in chosen]
    even = torch.linspace(0.1, 0.9, number).mul(len(tokens)).long().tolist()
    return sorted([*positions, *[pos for pos in even if pos not in positions]][:number])


def run(
    model: Any, hf_model: Any, *, n_pos: int = 1024, long: int = 2048, runs: int = 3, sinks: int = 8
) -> dict[str, Comparison]:
    """All comparisons. `hf_model` has the same weights, with fused attention."""
    tokens = text_of(model, n_pos)
    trace = observe(model, tokens)
    positions = tokens_to_edit(model, tokens, sinks)
    layers = range(model.cfg.n_layers)
    cells = [
        Edit.of_label(kind, pos=pos, layer=layer)
        for pos in positions
        for layer in layers
        for kind in KINDS
    ]
    drawn = [resolve_donors(trace, (cell,))[0] for cell in cells]
    chance = torch.Generator().manual_seed(0)
    sampled = torch.randperm(len(cells), generator=chance)[:SAMPLE].tolist()
    hooked, sdpa = HookedPeer(model, trace), SdpaPeer(hf_model, trace)
    decode = DecodePeer(hf_model, trace)
    some = [drawn[number] for number in sampled]
    zeroed = [Edit(pos=pos, layer=layer) for pos in positions for layer in _three(len(layers))]
    few = torch.randperm(len(zeroed), generator=chance)[:SAMPLE].tolist()
    long_text = text_of(model, long)
    limits = Limits(hf_model, sdpa, tokens)

    def sweep() -> Float[Tensor, "cell layer"]:
        return state_effects(model, trace, cells, attention=False).norm.T

    def sweep_with_mass() -> Float[Tensor, "cell layer"]:
        return state_effects(model, trace, cells).mass.T

    def of_sample(ours: Tensor, peer: Tensor) -> float:
        return relative(ours[sampled], peer)

    def observed() -> Float[Tensor, "layer pos"]:
        return observe(model, long_text).norm

    def totals() -> Float[Tensor, "cell number"]:
        return _masses_and_losses(total_effects(model, trace, zeroed), zeroed)

    def of_few(ours: Tensor, peer: Tensor) -> float:
        return relative(ours[few], peer)

    states, passed = limits.replays(drawn), partial(seconds, lambda: sdpa.forward(long_text))
    sampled_cells, all_cells = (len(cells), len(some), states), (len(cells), len(cells), states)
    few_cells, text = (len(zeroed), len(few), limits.totals(zeroed)), (long, long, passed)
    zeroed_few = [zeroed[number] for number in few]
    works: dict[str, tuple[Work, Work, Differ, tuple[int, int, Limit]]] = {
        "state_sweep": (sweep, lambda: hooked.states(some), of_sample, sampled_cells),
        "state_sweep_vs_sdpa": (sweep, lambda: sdpa.states(some), of_sample, sampled_cells),
        "state_sweep_vs_decode": (sweep, lambda: decode.states(drawn), relative, all_cells),
        "state_sweep_with_mass_vs_decode": (
            sweep_with_mass,
            lambda: decode.masses(drawn),
            relative,
            all_cells,
        ),
        "total_effect": (totals, lambda: hooked.totals(zeroed_few), of_few, few_cells),
        "streaming_vs_cache": (
            observed,
            lambda: HookedPeer.cached(model, long_text),
            relative,
            text,
        ),
        "streaming_vs_sdpa": (observed, lambda: sdpa.forward(long_text), relative, text),
    }
    found = {
        name: compare(ours, peer, differ, runs, *sizes)
        for name, (ours, peer, differ, sizes) in works.items()
    }
    return found | _of_run(model, trace, limits, runs)


def _of_run(model: Any, trace: Trace, limits: "Limits", runs: int) -> dict[str, Comparison]:
    """The comparison of a whole run; none for a text without sinks."""
    whole = WholeRun(model, trace)
    chance = torch.Generator().manual_seed(0)
    part = torch.randperm(len(whole.edits), generator=chance)[:SAMPLE].tolist()
    if not part:
        return {}
    found = compare(
        whole.norms,
        lambda: whole.plain_norms(part),
        lambda ours, peer: relative(ours[part], peer),
        runs,
        cells=len(whole.edits),
        timed=len(part),
        limit=limits.replays(whole.edits),
        verdicts=whole.n_verdicts,
    )
    return {"run": found}


class Limits:
    """The least time that works could take, as a number of fused passes, timed at each call."""

    def __init__(self, hf_model: Any, sdpa: SdpaPeer, tokens: Tensor) -> None:
        self.n_pos, self.n_layers = len(tokens), len(sdpa.layers)
        head, width = hf_model.get_output_embeddings(), hf_model.config.hidden_size
        states = torch.randn(self.n_pos, width, generator=torch.Generator().manual_seed(0))
        self.one_pass = partial(seconds, lambda: sdpa.forward(tokens))
        self.predictions = partial(seconds, lambda: head(states))

    def replays(self, edits: Sequence[Edit]) -> Limit:
        """A clean pass, and each edited token from its edited layer on."""
        layers = sum(self.n_layers - edit.layers[0] for edit in edits)
        return lambda: self.one_pass() * (1 + layers / (self.n_layers * self.n_pos))

    def totals(self, edits: Sequence[Edit]) -> Limit:
        """A clean pass with predictions, and those of all later tokens from the edited layer on."""
        later = [(self.n_pos - edit.positions[0]) / self.n_pos for edit in edits]
        layers = [(self.n_layers - edit.layers[0]) / self.n_layers for edit in edits]
        rerun = sum(share * deep for share, deep in zip(later, layers, strict=True))
        return lambda: self.one_pass() * (1 + rerun) + self.predictions() * (1 + sum(later))


@torch.no_grad()
def seconds(work: Work) -> float:
    """How long a work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _three(n_layers: int) -> list[int]:
    return sorted({n_layers // 10, n_layers // 2, n_layers * 8 // 10})


def _masses_and_losses(result: Any, edits: list[Edit]) -> Float[Tensor, "cell number"]:
    columns = [result.column(edit.positions[0]) for edit in edits]
    cells = torch.arange(len(edits))
    return torch.cat([result.mass[:, cells, columns].T, result.loss[:, :-1]], dim=1)


def relative(ours: Tensor, peer: Tensor) -> float:
    """Largest difference, relative to the largest number of its row."""
    scale = peer.abs().amax(-1, keepdim=True)
    return float(((ours - peer).abs() / scale).max())


def _per_verdict(found: Mapping[str, Comparison]) -> str:
    if "run" not in found or not found["run"].verdicts:
        return ""
    return f" A verdict of the run costs {found['run'].ours_s / found['run'].verdicts:.2g} s."


def _command(
    out: Annotated[Path, typer.Option(**NAMED_PATH, help="Folder for speed.json.")],
    model: str = "smollm2-135m",
    tokens: Annotated[int, whole("Tokens of the swept text.", least=1)] = 1024,
    long: Annotated[int, whole("Tokens of the streamed text.", least=1)] = 2048,
    runs: Annotated[int, whole("Interleaved runs of each comparison.", least=1)] = 3,
    page: Annotated[
        Path | None, typer.Option(**NAMED_PATH, help="Page whose table is replaced.")
    ] = None,
) -> None:
    """Compare, print the table, write DIR/speed.json and the table of a page."""
    if page is not None:
        fill_page(files.read_text(page), "")  # a page that has no place for it is refused now
    hooked = load_model(model, device="cpu")
    found = run(hooked, same_weights(model), n_pos=tokens, long=long, runs=runs)
    words = (
        f"{model}, {count(tokens, 'token')}, torch {torch.__version__.split('+')[0]}, "
        f"{count(torch.get_num_threads(), 'thread')}, medians of {count(runs, 'interleaved run')}:"
        f"\n\n{as_markdown(found)}\nThe state sweep costs {found['state_sweep'].passes:.1f} hooked "
        f"passes, or {found['state_sweep_vs_sdpa'].passes:.1f} fused ones.{_per_verdict(found)}\n"
    )
    print(words)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(one) for name, one in found.items()}, indent=2)
    RunFolder(out).write_text("speed.json", text + "\n")
    if page is not None:
        page.write_text(fill_page(files.read_text(page), words), "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, "tools.speed", arguments)


if __name__ == "__main__":
    main()
