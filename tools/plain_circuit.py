"""The circuit of one sink twice: as the package reports it, and in the most obvious slow way.

    python -m tools.plain_circuit smollm2-135m --text counting-rolls --pos 5 --out page.md

runs `detect` and `circuit` on one text. Then a plain Hugging Face model runs the whole text again
for each edit (`tools.plain_model`), and every token is judged by the criterion as the documentation
states it (`tools.plain_rule`). No engine is shared: from the package come only the token ids, and
the numbers to compare with. On the page are a table by layer and a row for each number.

Not repeated are controls: they rest on random draws.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from experiments.command import start
from secondary_sinks import Trace, circuit, detect, files, load_model, observe
from secondary_sinks.cli import NAMED_PATH, say, whole
from secondary_sinks.display import count, markdown_table
from secondary_sinks.errors import TextError
from secondary_sinks.models.gguf.cache import embedded_gguf
from secondary_sinks.models.original.read import quiet_transformers
from secondary_sinks.questions import Answer
from secondary_sinks.runs import RunFolder
from secondary_sinks.texts import read_texts
from secondary_sinks.types import LASTING, Sink
from tools.plain_model import PlainModel, read_plain
from tools.plain_parts import Judged, Row, trigger_rows, writer_rows
from tools.plain_reads import function_rows, reader_rows

PARTS = ("trigger", "writer", "reader_heads", "function")
LAYER_COLUMNS = ("layer", "sink", "norm", "alignment", "mass in the next block")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ours:
    """What the package says about one sink of one text."""

    trace: Trace
    sink: Sink
    answers: Mapping[str, Answer]
    """By name of the question (`PARTS`)."""


def ask_package(hooked: Any, text: Any, pos: int) -> Ours:
    """Detection of one text and the circuit of its sinks, of which one is compared.

    Raises `TextError` if there is no sink to ask about at the position.
    """
    trace = observe(hooked, text)
    sinks = detect(trace)
    able = {one.pos: one for one in sinks.of_kind(*LASTING).sinks}
    if pos not in able:
        places = ", ".join(map(str, able)) or "nowhere"
        raise TextError(f"no sink to ask about at position {pos}", f"there are some at: {places}")
    found = circuit(hooked, trace, sinks, parts=PARTS)
    return Ours(trace=trace, sink=able[pos], answers=found.answers)


def only_of(frame: pd.DataFrame, pos: int) -> pd.DataFrame:
    """The rows of one sink of the only text."""
    return frame[frame["pos"] == pos]


def layer_rows(ours: Ours, judged: Judged) -> list[list[str]]:
    """Detection by layer, around the sink's life: the package's number, then the plain one."""
    pos, known, sink = judged.pos, judged.rule.measured, ours.sink
    aligned = judged.rule.cosines(judged.clean.states[:, pos], judged.rule.directions)
    mine, theirs = set(sink.layers), set(judged.rule.layers[pos])
    rows = []
    for layer in range(max(0, sink.l_start - 2), min(len(known.norm), sink.l_end + 3)):
        masses = [one[layer + 1, pos] if layer + 1 < len(one) else torch.nan
                  for one in (ours.trace.mass, known.mass)]  # fmt: skip
        rows.append([
            str(layer),
            f"{_yes(layer in mine)}, {_yes(layer in theirs)}",
            f"{ours.trace.norm[layer, pos]:.2f}, {known.norm[layer, pos]:.2f}",
            f"{ours.trace.alignment_centred[layer, pos]:.4f}, {aligned[layer]:.4f}",
            f"{masses[0]:.5f}, {masses[1]:.5f}",
        ])  # fmt: skip
    return rows


def detection_rows(ours: Ours, judged: Judged) -> list[Row]:
    """Detection in numbers: the largest difference over layers stands in the place of each one."""
    pos, sink, rule, trace = judged.pos, ours.sink, judged.rule, ours.trace
    layers, known = rule.layers[pos], rule.measured
    aligned = rule.cosines(judged.clean.states[:, pos], rule.directions)
    twins = only_of(ours.answers["trigger"].tables["triggers"], pos)["n_donors"]
    pairs: dict[str, tuple[Any, Any]] = {
        "position of the primary": (trace.primary, rule.primary),
        "creation layer": (sink.l_start, layers[0] if layers else -1),
        "layers as a sink": (sink.lifetime, len(layers)),
        f"is {sink.kind}": (1, rule.kind(pos) == sink.kind),
        "twins": (int(twins.iloc[0]), len(judged.twins)),
    }
    for name, mine, theirs in (
        ("norm", trace.norm[:, pos], known.norm[:, pos]),
        ("alignment", trace.alignment_centred[:, pos], aligned),
        ("mass", trace.mass[:, pos], known.mass[:, pos]),
    ):
        where = int(((mine - theirs).abs() / theirs.abs().amax()).argmax())
        pairs[f"{name} at layer {where}, where they differ most"] = (mine[where], theirs[where])
    return [
        Row(part="detection", measure=name, ours=float(mine), plain=float(theirs))
        for name, (mine, theirs) in pairs.items()
    ]


def compare(ours: Ours, plain: PlainModel, most: int = 8) -> tuple[Judged, list[Row]]:
    """All parts of the circuit of one sink; `most` of the edges whose cut does not end it."""
    answers, pos = ours.answers, ours.sink.pos
    judged = Judged(plain, pos)
    edges = {name: only_of(answers[name].cells, pos) for name in PARTS}
    roles = only_of(answers["writer"].tables["roles"], pos)
    control = only_of(answers["reader_heads"].tables["sinks"], pos)["control_pos"]
    rows = detection_rows(ours, judged)
    if judged.twins:
        rows += trigger_rows(judged, edges["trigger"], most)
        rows += writer_rows(judged, roles, edges["writer"])
    if len(control):
        rows += reader_rows(judged, edges["reader_heads"], int(control.iloc[0]))
        rows += function_rows(judged, edges["function"])
    return judged, rows


def as_markdown(rows: Sequence[Row]) -> str:
    """One row for each number."""
    head = ["part", "edited or read", "measure", "ours", "plain", "difference", "afresh"]
    body = [
        [one.part, one.edited, one.measure, _number(one.ours), _number(one.plain),
         f"{one.difference:.0e}" if one.difference else "0",
         _number(one.afresh) if one.judged else ""]
        for one in rows
    ]  # fmt: skip
    return "\n".join(markdown_table(head, body))


def _yes(whether: bool) -> str:
    return "yes" if whether else "no"


def _number(value: float) -> str:
    if math.isnan(value):
        return "none"
    return f"{value:.0f}" if value == round(value) else f"{value:.4g}"


def fill(page: str, name: str, words: str) -> str:
    """A page with the part between the two marks of this name replaced, or put at its end.

    >>> page = fill("# A page", "one", "old")
    >>> fill(page, "one", "new") == fill("# A page", "one", "new")
    True
    """
    mark = f"<!-- measured: {name} -->"
    before, *inside = page.split(mark)
    after = inside[1] if len(inside) > 1 else "\n"
    return f"{before.rstrip()}\n\n{mark}\n\n{words.strip()}\n\n{mark}{after}"


def _weights(model: str) -> Path:
    """The file or folder that a plain Hugging Face model is read from."""
    return embedded_gguf() if model == "smollm2-135m" else Path(model)


def _command(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a GGUF file or a folder.")],
    text: Annotated[str, typer.Option(help="Id of the text.")],
    pos: Annotated[int, whole("Position of the sink.")],
    out: Annotated[
        Path, typer.Option(**NAMED_PATH, help="Page whose part about this sink is written.")
    ],
    texts: Annotated[str, typer.Option(help="File of texts.")] = "bundled:claims",
    max_tokens: Annotated[int, whole("Tokens of the text, from the first.", least=2)] = 200,
    most: Annotated[int, whole("Edges of attention to cut whose cut does not end the sink.")] = 8,
) -> None:
    """Compare the circuit of one sink with whole passes of a plain model, and write a page."""
    chosen = {one.text_id: one for one in read_texts(texts)}
    if text not in chosen:
        raise TextError(f"no text has the id {text!r}", f"expected one of {', '.join(chosen)}")
    begin = time.perf_counter()
    hooked = load_model(model, device="cpu")
    ours = ask_package(hooked, replace(chosen[text], first=max_tokens), pos)
    del hooked
    say(f"ours: {time.perf_counter() - begin:.0f} s")
    with quiet_transformers():
        hf_model = read_plain(_weights(model))
    begin = time.perf_counter()
    judged, rows = compare(ours, PlainModel(hf_model, ours.trace.tokens), most)
    took = f"{judged.plain.n_passes} whole passes, {time.perf_counter() - begin:.0f} s"
    say(f"plain: {took}")
    words = in_words(ours, judged, rows, Path(model).stem, took)
    page = fill(files.read_text(out) if out.exists() else "", f"{text} {pos}", words)
    RunFolder(out.parent).write_text(out.name, page)


def in_words(ours: Ours, judged: Judged, rows: Sequence[Row], model: str, took: str) -> str:
    """The tables, and what they say in short."""
    sink, shares = ours.sink, [one for one in rows if one.judged]
    differ, other = (
        sum(value != one.ours for value, one in zip(values, shares, strict=True))
        for values in ([one.plain for one in shares], [one.afresh for one in shares])
    )
    largest = max(abs(one.difference) for one in rows if not one.judged)
    short = (
        f"{model}: {sink.token!r} at {sink.pos} of {sink.text_id}, "
        f"{count(len(ours.trace.tokens), 'token')}, a sink at layers {sink.segments}. {took}, "
        f"{count(torch.get_num_threads(), 'thread')}. Of {count(len(shares), 'outcome')} of edits, "
        f"{differ} differ; judged afresh, {other}. The largest difference of the other numbers is "
        f"{largest:.0e}."
    )
    layers = "\n".join(markdown_table(LAYER_COLUMNS, layer_rows(ours, judged)))
    return f"{short}\n\nBy layer, ours and plain:\n\n{layers}\n\n{as_markdown(rows)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. Exits with 0, or 2 for bad input."""
    start(_command, "tools.plain_circuit", arguments)


if __name__ == "__main__":
    main()
