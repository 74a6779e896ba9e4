"""The commands of sweeps: ablate, patch, scale, and what is done with their folders."""

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
    number_of_layers,
    whole_number,
)

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="One or more models: what `models` lists, a folder, a GGUF file or a hub name.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the sweep. The same command again goes on with it."),
]
Config = Annotated[
    Path | None,
    typer.Option(help="A .yaml or .toml file that says the same as the options, which win."),
]
TextFiles = Annotated[
    list[Path] | None,
    typer.Option(help="JSON lines or a .txt file; again for more. Without: the bundled texts."),
]
Layers = Annotated[
    str | None, typer.Option(metavar="RANGES", help="Layers such as 0-11,20; by default all.")
]
Sites = Annotated[
    list[str] | None,
    typer.Option(help="mlp_out (default), attn_out, resid_post, z or post; again for more."),
]
SweepFeed = Annotated[
    str | None,
    typer.Option(
        help="auto (default), chat (the model's template), chat:NAME=VALUE, raw, chat:lossy or "
        "raw:lossy, as for `run`."
    ),
]
Ordinary = Annotated[
    int | None,
    typer.Option(
        parser=whole_number,
        metavar="INT",
        help="Ordinary tokens tried per sink beside its control; by default 0.",
    ),
]
ThresholdsGiven = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=NUMBER", help="As outlying=4, of what a sink is; again for more."),
]
NDevices = Annotated[
    int | None,
    typer.Option(
        parser=number_of_layers,
        metavar="INT",
        help="GPUs that one model is spread over; default 1.",
    ),
]
NoTrace = Annotated[
    bool,
    typer.Option("--no-trace", help="Leave out trace.parquet: it is large, and reports need it."),
]
SweepSeed = Annotated[
    int | None,
    typer.Option(
        parser=whole_number,
        metavar="INT",
        help="Recorded; what is drawn is drawn with the seed in an edit, as in resample:3.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what there is to do and how long it takes; load nothing."),
]
LogFormat = Annotated[
    str,
    typer.Option(help="text: bars on a terminal; json: a line per event on the standard error."),
]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", help="local (default), or ray for many devices.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a Ray cluster; else RAY_ADDRESS, else one is started here.")
]
SweepForce = Annotated[
    bool,
    typer.Option("--force", help="Replace the tables of a finished sweep of other inputs."),
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of a run, a sweep, or experiments.")
]


@app.command(epilog="Example: secondary-sinks ablate model.gguf --texts my.txt --edit mean --out a")
def ablate(
    models: Models = None,
    out: Out = None,
    config: Config = None,
    texts: TextFiles = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="zero: the layer writes nothing; twins: its mean at the same token elsewhere, "
            "where it is no sink (both by default); mean: over ordinary tokens; resample:SEED and "
            "others of docs/sweeps.md; again for more."
        ),
    ] = None,
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
    """Find the sinks, then edit every layer at each of them, one at a time; effects.parquet.

    With twins, also the roles of the MLPs, roles.parquet.
    """
    _sweep("ablate", list(edit or ()), **_given(locals()))


@app.command(epilog="Example: secondary-sinks patch smollm2-135m --donor twin --out runs/patched")
def patch(
    models: Models = None,
    out: Out = None,
    config: Config = None,
    texts: TextFiles = None,
    donor: Annotated[
        list[str] | None,
        typer.Option(
            help="twin (default): the nearest token with the same id that is no sink; sink: into "
            "each control what its sink has; or a position; again for more."
        ),
    ] = None,
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
    """Find the sinks, then put another token's activation in the place of theirs, by layer."""
    donors = donor or ([] if config else ["twin"])
    _sweep("patch", [f"patch:{one}" for one in donors], **_given(locals()))


@app.command(epilog="Example: secondary-sinks scale smollm2-135m --by 0,0.5,2 --out runs/scaled")
def scale(
    models: Models = None,
    out: Out = None,
    config: Config = None,
    texts: TextFiles = None,
    by: Annotated[
        str | None, typer.Option(metavar="FACTORS", help="Factors such as 0,0.5,2.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="NORMS", help="Set the norm to each of these, as 10,100.")
    ] = None,
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
    """Find the sinks, then multiply what a layer writes at each, or set its norm."""
    edits = [f"scale:{one}" for one in _numbers("--by", by)]
    edits += [f"set_norm:{one}" for one in _numbers("--norm", norm)]
    if not edits and config is None:
        raise typer.BadParameter("give --by, such as 0,0.5,2, or --norm, such as 100")
    _sweep("scale", edits, **_given(locals()))


def _numbers(option: str, words: str | None) -> list[str]:
    """The words between commas; raises what typer turns into a usage error for an empty one."""
    found = [one.strip() for one in words.split(",")] if words is not None else []
    if "" in found:
        raise typer.BadParameter(f"{option} {words!r} lacks a number; expected like 0,0.5,2")
    return found


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
    out: Annotated[Path, typer.Option(help="Folder for all their cells; must be new or empty.")],
) -> None:
    """Put the cells of several sweeps together; cells that are the same are there once."""
    from secondary_sinks.cli.folders import show_merged

    show_merged(folders, out)


@app.command(epilog="Example: secondary-sinks export runs/mine --format csv")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of any run.")],
    format: Annotated[str, typer.Option(help="csv, parquet or jsonl.")] = "csv",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; by default DIR/export.")
    ] = None,
) -> None:
    """Write the tables of a finished run for other programs, with a schema.json beside them."""
    from secondary_sinks.cli.folders import show_exported

    show_exported(folder, format, out)


_OPTIONS = (
    *("models", "out", "config", "texts", "layers", "site", "feed", "ordinary", "threshold"),
    *(
        "no_trace",
        "device",
        "dtype",
        "n_devices",
        "revision",
        "trust_remote_code",
        "bridge",
        "skip_check",
        "seed",
    ),
    *("executor", "ray_address", "dry_run", "log_format", "force"),
)


def _given(values: dict[str, object]) -> dict[str, object]:
    """What the options that all sweeps share were given as."""
    return {name: values[name] for name in _OPTIONS}


def _sweep(command: str, edits: list[str], **options: object) -> None:
    from secondary_sinks.cli.sweeping import Asked, work

    work(Asked(command=command, edits=edits, options=options))
