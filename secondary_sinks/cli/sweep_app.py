"""The commands of sweeps: ablate, patch, scale, and those for their folders."""

from pathlib import Path
from typing import Annotated

import typer

from secondary_sinks.cli.options import (
    Bridge,
    Device,
    Dtype,
    Revision,
    SkipCheck,
    TrustRemoteCode,
    app,
    sharing,
    whole,
)
from secondary_sinks.errors import SweepError

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="One or more models: an alias from `models`, a folder, a GGUF file or a hub name.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the sweep. The same command resumes it."),
]
Config = Annotated[
    Path | None,
    typer.Option(help="YAML or TOML file with these options; command-line options override it."),
]
TextFiles = Annotated[
    list[Path] | None,
    typer.Option(
        help="JSON Lines or .txt file, hf:NAME:split:column, bundled:introduction (default) or "
        "bundled:claims. Repeatable."
    ),
]
Layers = Annotated[
    str | None, typer.Option(metavar="RANGES", help="Layers, such as 0-11,20. Default: all.")
]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        help="Where layers are edited; `secondary-sinks edits` lists the sites. Repeatable. "
        "Default: mlp_out."
    ),
]
SweepFeed = Annotated[
    str | None,
    typer.Option(
        help="How texts become tokens, as for `run`: auto (default), chat, chat:NAME=VALUE, raw, "
        "chat:lossy or raw:lossy."
    ),
]
Ordinary = Annotated[
    int | None,
    whole("Ordinary tokens edited for each sink, in addition to its control. Default: 0."),
]
ThresholdsGiven = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=NUMBER", help="Detection threshold, such as outlying=4. Repeatable."
    ),
]
NDevices = Annotated[
    int | None,
    whole("Number of GPUs to spread one model over. Default: 1.", least=1),
]
NoTrace = Annotated[
    bool,
    typer.Option(
        "--no-trace", help="Do not write trace.parquet. It is large, but reports need it."
    ),
]
SweepSeed = Annotated[
    int | None,
    whole("Recorded in run.json. Random edits carry their own seed, as in resample:3."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and an estimate of its time; load nothing."),
]
LogFormat = Annotated[
    str,
    typer.Option(help="text: progress bars; json: one line per event on standard error."),
]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", help="local (default), or ray for several devices.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster. Default: RAY_ADDRESS, else a local cluster is started."
    ),
]
SweepForce = Annotated[
    bool,
    typer.Option("--force", help="Replace a finished sweep of other inputs."),
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of a run, a sweep, or experiments.")
]


def _shared(
    models: Models = None,
    out: Out = None,
    config: Config = None,
    texts: TextFiles = None,
    layers: Layers = None,
    site: Sites = None,
    feed: SweepFeed = None,
    ordinary: Ordinary = None,
    threshold: ThresholdsGiven = None,
    no_trace: NoTrace = False,
    device: Device = None,
    dtype: Dtype = None,
    n_devices: NDevices = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    bridge: Bridge = False,
    skip_check: SkipCheck = None,
    seed: SweepSeed = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    dry_run: DryRun = False,
    log_format: LogFormat = "text",
    force: SweepForce = False,
) -> None:
    """Options shared by `ablate`, `patch` and `scale`, in the order of their help."""


@app.command(epilog="Example: secondary-sinks ablate model.gguf --texts my.txt --edit mean --out a")
@sharing(_shared, "texts")
def ablate(
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="zero; twins (the mean over the same token elsewhere, where it is not a sink); "
            "mean (over ordinary tokens); resample:SEED; others that `secondary-sinks edits` "
            "lists. Repeatable. Default: zero and twins."
        ),
    ] = None,
    **shared: object,
) -> None:
    """Find the sinks, then ablate each layer at each of them; write effects.parquet.

    With --edit twins, also find the roles of the MLPs; write roles.parquet.
    """
    _sweep("ablate", list(edit or ()), **shared)


@app.command(epilog="Example: secondary-sinks patch smollm2-135m --donor twin --out runs/patched")
@sharing(_shared, "texts")
def patch(
    donor: Annotated[
        list[str] | None,
        typer.Option(
            help="Where activations come from: twin (the nearest same token that is not a sink); "
            "sink (patch each control from its sink); or a position. Repeatable. Default: twin."
        ),
    ] = None,
    **shared: object,
) -> None:
    """Find the sinks, then patch each layer at each of them from another token."""
    donors = donor or ([] if shared["config"] else ["twin"])
    _sweep("patch", [f"patch:{one}" for one in donors], **shared)


@app.command(epilog="Example: secondary-sinks scale smollm2-135m --by 0,0.5,2 --out runs/scaled")
@sharing(_shared, "texts")
def scale(
    by: Annotated[
        str | None, typer.Option(metavar="FACTORS", help="Factors, such as 0,0.5,2.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="NORMS", help="Norms to set, such as 10,100.")
    ] = None,
    **shared: object,
) -> None:
    """Find the sinks, then scale what each layer writes at each of them, or set its norm."""
    edits = [f"scale:{one}" for one in _numbers("--by", by)]
    edits += [f"set_norm:{one}" for one in _numbers("--norm", norm)]
    if not edits and shared["config"] is None:
        raise typer.BadParameter("give --by, such as 0,0.5,2, or --norm, such as 100")
    _sweep("scale", edits, **shared)


def _numbers(option: str, words: str | None) -> list[str]:
    """Split a list at commas. Raises `SweepError` for an empty or repeated item."""
    from secondary_sinks.types.lists import split_words

    return [] if words is None else split_words(option, words, SweepError)


@app.command(epilog="Example: secondary-sinks status runs/mine")
def status(folder: Folder) -> None:
    """Say what of a run or a sweep is done, what is missing and what was skipped."""
    from secondary_sinks.cli.folders import show_status

    show_status(folder)


@app.command(epilog="Example: secondary-sinks verify runs/mine")
def verify(folder: Folder) -> None:
    """Check every file of a run or a sweep by its SHA-256; exit code 3 where one is damaged."""
    from secondary_sinks.cli.folders import show_verified

    show_verified(folder)


@app.command(epilog="Example: secondary-sinks merge runs/one runs/two --out runs/both")
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of sweeps.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged sweep; must be new or empty.")],
) -> None:
    """Merge several sweeps into one; equal cells are kept once."""
    from secondary_sinks.cli.folders import show_merged

    show_merged(folders, out)


@app.command(epilog="Example: secondary-sinks export runs/mine --format csv")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run or sweep.")],
    format: Annotated[str, typer.Option(help="csv, parquet or jsonl.")] = "csv",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: DIR/export.")
    ] = None,
) -> None:
    """Export the tables of a finished run, with a schema.json."""
    from secondary_sinks.cli.folders import show_exported

    show_exported(folder, format, out)


def _sweep(command: str, edits: list[str], **options: object) -> None:
    from secondary_sinks.cli.sweeping import Asked, work

    work(Asked(command=command, edits=edits, options=options))
