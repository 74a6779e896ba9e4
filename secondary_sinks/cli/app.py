"""The commands. Heavy imports happen inside them, so that `--help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="secondary-sinks",
    help="Find secondary attention sinks in a language model, and test which MLPs make them.",
    epilog="Example: secondary-sinks run smollm2-135m --out runs/demo",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _whole_number(value: str | int) -> int:
    if not str(value).isdecimal():
        raise typer.BadParameter(f"{value!r} is not a whole number of at least 0")
    return int(value)


Model = Annotated[
    str,
    typer.Argument(
        help="smollm2-135m, an alias that `models` lists, a local folder in Hugging Face format, a "
        "GGUF file, or a hub name; for the hub also NAME@REVISION."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results; must be new or empty.")]
Texts = Annotated[
    Path | None,
    typer.Option(
        help="JSON lines with 'text', or 'prompt' and 'output', or 'messages'; or a .txt file. "
        "Without it, the texts that come with the package."
    ),
]
Feed = Annotated[
    str,
    typer.Option(help="chat (the model's template), raw, or auto: chat for conversations."),
]
EditKind = Annotated[
    str,
    typer.Option(help="zero: the MLP writes nothing; mean: its mean over ordinary tokens."),
]
Ask = Annotated[
    str,
    typer.Option(
        help="Causal questions to answer too, with commas between them: necessity, sufficiency, "
        "norm_dose, redistribution, sparsity, harm; or all. What they cost is printed first."
    ),
]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; by default the fastest.")]
Dtype = Annotated[str | None, typer.Option(help="float32 (default), bfloat16 or float16.")]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a model on the hub; recorded.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that the model brings; read it first."),
]
Bridge = Annotated[
    bool, typer.Option("--bridge", help="Load a TransformerBridge (4.x of TransformerLens always).")
]
SkipCheck = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A check at load to leave out: original, patterns, causality or chunks; again for "
        "more.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        parser=_whole_number,
        metavar="INT",
        help="Recorded in run.json; today nothing in a run is left to chance.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the run that --out holds.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"secondary-sinks {installed('secondary-sinks')}")
        raise typer.Exit()


@app.command(epilog="Example: secondary-sinks run Qwen/Qwen3-4B --texts my.jsonl --out runs/qwen3")
def run(
    model: Model,
    out: Out,
    texts: Texts = None,
    feed: Feed = "auto",
    edit: EditKind = "zero",
    ask: Ask = "none",
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    bridge: Bridge = False,
    skip_check: SkipCheck = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Do everything: find the sinks, ablate every MLP at each of them, write report.html."""
    from secondary_sinks.cli.work import Request, work
    from secondary_sinks.runs import parse_questions

    work(
        Request(
            *(model, out, texts, feed, edit, device, dtype, seed, force),
            report=True,
            revision=revision,
            trust_remote_code=trust_remote_code,
            bridge=bridge,
            skip=tuple(skip_check or ()),
            asked=parse_questions(ask),
        )
    )


@app.command(epilog="Example: secondary-sinks detect ./my-model --texts my.jsonl --out runs/mine")
def detect(
    model: Model,
    out: Out,
    texts: Texts = None,
    feed: Feed = "auto",
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    bridge: Bridge = False,
    skip_check: SkipCheck = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Find the primary and secondary sinks of each text; write sinks.parquet."""
    from secondary_sinks.cli.work import Request, work

    work(
        Request(
            *(model, out, texts, feed, None, device, dtype, seed, force),
            report=False,
            revision=revision,
            trust_remote_code=trust_remote_code,
            bridge=bridge,
            skip=tuple(skip_check or ()),
        )
    )


@app.command(epilog="Example: secondary-sinks ablate model.gguf --texts my.txt --edit mean --out a")
def ablate(
    model: Model,
    out: Out,
    texts: Texts = None,
    feed: Feed = "auto",
    edit: EditKind = "zero",
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    bridge: Bridge = False,
    skip_check: SkipCheck = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Find the sinks, then ablate every layer's MLP at each; write effects.parquet too."""
    from secondary_sinks.cli.work import Request, work

    work(
        Request(
            *(model, out, texts, feed, edit, device, dtype, seed, force),
            report=False,
            revision=revision,
            trust_remote_code=trust_remote_code,
            bridge=bridge,
            skip=tuple(skip_check or ()),
        )
    )


@app.command(epilog="Example: secondary-sinks report runs/demo")
def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
) -> None:
    """Write report.html of a finished run (again)."""
    from secondary_sinks.report import write_report
    from secondary_sinks.runs import RunFolder

    typer.echo(write_report(RunFolder(folder)))


@app.command(epilog="Example: secondary-sinks levels sink_detection.jsonl --layers 48")
def levels(
    file: Annotated[
        Path,
        typer.Argument(
            help="Detections in the JSON lines of the paper's authors, or a run's sinks.parquet."
        ),
    ],
    layers: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="INT",
            help="Layers of the model: label the authors' detections anew by their rule.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[
        int,
        typer.Option(parser=_whole_number, metavar="INT", help="Seed of the resampling of texts."),
    ] = 0,
) -> None:
    """Group secondary sinks into levels of (creation layer, lifetime); say how sure that is."""
    from secondary_sinks.cli.levels import show_levels

    show_levels(file, layers, as_json=as_json, seed=seed)


@app.command(epilog="Example: secondary-sinks models --family qwen3")
def models(
    family: Annotated[str | None, typer.Option(help="One family only, such as qwen3.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For machines: sizes in bytes.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a document.")] = False,
) -> None:
    """List what MODEL can be: the paper's models, their sizes, and which fit this machine."""
    from secondary_sinks.cli.models import show_json, show_markdown, show_models

    show = show_json if json else show_markdown if markdown else show_models
    show(family)
