"""The commands. Heavy imports happen inside them, so that `--help` is fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from secondary_sinks.cli import flags
from secondary_sinks.cli.flags import shared as _shared
from secondary_sinks.cli.options import NAMED_PATH, app, named_path, number, sharing, whole


@app.command(epilog="Example: secondary-sinks run Qwen/Qwen3-4B --texts my.jsonl --out runs/qwen3")
@sharing(_shared, "feed")
def run(
    layers: flags.Layers = None,
    site: flags.Sites = None,
    edit: flags.Edits = None,
    ask: flags.Ask = None,
    **shared: object,
) -> None:
    """Find the sinks, ablate every MLP there, write report.html."""
    own = {"layers": layers, "site": site, "edit": edit, "ask": ask}
    _work("run", edit or [], {**shared, **own})


@app.command(epilog="Example: secondary-sinks circuit ./my-model --texts my.jsonl --out runs/mine")
@sharing(_shared, "feed")
def circuit(
    layers: flags.Layers = None,
    site: flags.Sites = None,
    edit: flags.Edits = None,
    **shared: object,
) -> None:
    """Find what triggers, writes and reads each sink.

    Also asks what sinks are for. The same as `run --ask circuit`.
    """
    own = {"layers": layers, "site": site, "edit": edit, "ask": "circuit"}
    _work("run", edit or [], {**shared, **own})


@app.command(epilog="Example: secondary-sinks detect ./my-model --texts my.jsonl --out runs/mine")
@sharing(_shared, "feed")
def detect(criterion: flags.Criterion = None, **shared: object) -> None:
    """Find the sinks of each text, primary and secondary."""
    _work("detect", [], {**shared, "criterion": criterion})


def _work(command: str, edits: Sequence[str], options: Mapping[str, object]) -> None:
    """Show what the folder holds if nothing has changed, or compute what it lacks."""
    from secondary_sinks.cli.again import show_again

    if show_again(command, options):
        return
    from secondary_sinks.cli.resolve import Asked, split_edits
    from secondary_sinks.cli.work import work

    work(Asked(command, split_edits(edits), options))


@app.command(epilog="Example: secondary-sinks report runs/demo")
def report(
    folder: Annotated[
        Path,
        typer.Argument(**named_path(), help="The folder of a finished run."),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model to report, if the sweep has several.")
    ] = None,
) -> None:
    """Write report.html for a finished run."""
    from secondary_sinks.cli.output import say
    from secondary_sinks.report import write_report
    from secondary_sinks.runs import RunFolder

    say(write_report(RunFolder(folder), model))


@app.command(epilog="Example: secondary-sinks compare runs/a runs/b --out compare.html")
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(**named_path(), help="Folders of finished runs."),
    ],
    out: Annotated[Path, typer.Option(**NAMED_PATH, help="The page to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file at --out.")] = False,
) -> None:
    """Compare the models of several runs on one page."""
    from secondary_sinks.cli.output import say
    from secondary_sinks.report import write_comparison
    from secondary_sinks.runs import RunFolder

    say(write_comparison([RunFolder(path) for path in folders], out, force=force))


@app.command(epilog="Example: secondary-sinks view runs")
def view(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of finished runs, or folders of those."),
    ],
    port: Annotated[int, whole("Port of 127.0.0.1. Default: a free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Show finished runs in a browser.

    Only this machine can reach the server.
    """
    from secondary_sinks.cli.viewing import show_runs

    show_runs(folders, port, browser=browser)


@app.command(epilog="Example: secondary-sinks levels sink_detection.jsonl --layers 48")
def levels(
    file: Annotated[
        Path,
        typer.Argument(
            **named_path(),
            help="JSON Lines released by the paper's authors, or sinks.parquet of a run.",
        ),
    ],
    layers: Annotated[
        int | None,
        whole(
            "Number of layers of the model; relabels the authors' detections by their rule.",
            least=1,
        ),
    ] = None,
    as_json: flags.AsJson = False,
    seed: Annotated[int, whole("Random seed for resampling texts.")] = 0,
) -> None:
    """Group secondary sinks into levels, with their stability.

    A level has sinks of similar creation layer and lifetime.
    """
    from secondary_sinks.cli.levels import show_levels

    show_levels(file, layers, as_json=as_json, seed=seed)


@app.command(
    epilog="Example: secondary-sinks generate smollm2-135m --prompts p.jsonl --out long.jsonl"
)
def generate(
    model: flags.Model,
    prompts: Annotated[
        Path,
        typer.Option(
            **NAMED_PATH,
            help="JSON Lines file with 'prompt', 'text' or 'messages' in each line; a .txt file; "
            "or bundled:prompts, 26 prompts that ask for long answers.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            **NAMED_PATH,
            help="JSON Lines file to write, for --texts; resumes if it exists.",
        ),
    ],
    max_new_tokens: Annotated[
        int, whole("Maximum length of an answer, in tokens.", least=1)
    ] = 2048,
    temperature: Annotated[
        float, number("Sampling temperature; 0 takes the likeliest token.")
    ] = 0.0,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    revision: flags.Revision = None,
    trust_remote_code: flags.TrustRemoteCode = False,
    bridge: flags.Bridge = False,
    skip_check: flags.SkipCheck = None,
    limit: Annotated[
        int | None, whole("Answer the first prompts only. Default: all.", least=1)
    ] = None,
    seed: Annotated[int, whole("Random seed for sampling.")] = 0,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only where the answers are.")
    ] = False,
) -> None:
    """Generate long answers to prompts, to look for sinks in them."""
    from secondary_sinks.cli.output import say
    from secondary_sinks.models import load_model
    from secondary_sinks.runs.generate import Sampling, check_place, read_prompts
    from secondary_sinks.runs.generate import generate as answer

    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    texts = read_prompts(prompts)[:limit]
    check_place(out)
    loaded = load_model(
        model,
        device,
        dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        bridge=bridge or None,
        skip=tuple(skip_check or ()),
    )
    answer(loaded, texts, out, sampling, (lambda line: None) if quiet else say)
    say(out)


@app.command(epilog="Example: secondary-sinks models --family qwen3")
def models(
    family: Annotated[str | None, typer.Option(help="Only this family, such as qwen3.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with sizes in bytes.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """List the paper's models, and which of them fit this machine."""
    from secondary_sinks.cli.models import show_json, show_markdown, show_models

    if json and markdown:
        raise typer.BadParameter("got both --json and --markdown; give one of them")
    show = show_json if json else show_markdown if markdown else show_models
    show(family)


@app.command(epilog="Example: secondary-sinks questions")
def questions(json: flags.AsJson = False) -> None:
    """List the causal questions that --ask takes, and what each asks."""
    from secondary_sinks.cli.folders import show_questions

    show_questions(as_json=json)


@app.command(epilog="Example: secondary-sinks edits")
def edits(json: flags.AsJson = False) -> None:
    """List the kinds of edit for --edit, and the sites for --site."""
    from secondary_sinks.cli.folders import show_edits

    show_edits(as_json=json)
