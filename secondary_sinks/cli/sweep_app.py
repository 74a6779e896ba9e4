"""The commands of sweeps: ablate, patch, scale, and those for their folders."""

import re
from pathlib import Path
from typing import Annotated

import typer

from secondary_sinks.cli import complete, flags
from secondary_sinks.cli.app import app  # its commands come first in the help
from secondary_sinks.cli.options import NAMED_PATH, named_path, sharing, whole
from secondary_sinks.errors import SweepError

Ordinary = Annotated[
    int | None,
    whole("Ordinary tokens edited for each sink, in addition to its control. Default: 0."),
]
NoTrace = Annotated[
    bool,
    typer.Option(
        "--no-trace", help="Do not write trace.parquet. It is large, but reports need it."
    ),
]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="local (default), or ray for several devices.",
        autocompletion=complete.words(complete.EXECUTORS),
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster. Default: RAY_ADDRESS, else a local cluster is started."
    ),
]
Folder = Annotated[
    Path,
    typer.Argument(**named_path("DIR"), help="The folder of a run, a sweep, or experiments."),
]


@sharing(flags.shared, "feed")
def _shared(
    layers: flags.Layers = None,
    site: flags.Sites = None,
    ordinary: Ordinary = None,
    no_trace: NoTrace = False,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    **shared: object,
) -> None:
    """Options shared by `ablate`, `patch` and `scale`, in the order of their help."""


@app.command(epilog="Example: secondary-sinks ablate model.gguf --texts my.txt --edit mean --out a")
@sharing(_shared, "feed")
def ablate(
    edit: flags.Edits = None,
    **shared: object,
) -> None:
    """Find the sinks, then ablate each layer at each of them.

    Writes effects.parquet. With --edit twins, also finds the roles of the MLPs: roles.parquet.
    """
    from secondary_sinks.cli.resolve import split_edits

    _sweep("ablate", split_edits(edit or ()), **shared)


@app.command(epilog="Example: secondary-sinks patch smollm2-135m --donor twin --out runs/patched")
@sharing(_shared, "feed")
def patch(
    donor: Annotated[
        list[str] | None,
        typer.Option(
            help="Where activations come from: twin (the nearest same token that is not a sink); "
            "sink (patch each control from its sink); or a position, from 0 on. Repeatable. "
            "Default: twin.",
            autocompletion=complete.words(complete.DONORS),
        ),
    ] = None,
    **shared: object,
) -> None:
    """Find the sinks, then patch each layer from another token."""
    donors = donor or ([] if shared["config"] else ["twin"])
    _sweep("patch", [f"patch:{_donor(one)}" for one in donors], **shared)


@app.command(epilog="Example: secondary-sinks scale smollm2-135m --by 0,0.5,2 --out runs/scaled")
@sharing(_shared, "feed")
def scale(
    by: Annotated[
        str | None, typer.Option(metavar="FACTORS", help="Factors, such as 0,0.5,2.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="NORMS", help="Norms to set, such as 10,100.")
    ] = None,
    **shared: object,
) -> None:
    """Find the sinks, then scale what each layer writes there.

    With --norm, its norm is set instead.
    """
    edits = [f"scale:{one}" for one in _numbers("--by", by)]
    edits += [f"set_norm:{one}" for one in _numbers("--norm", norm)]
    if not edits and shared["config"] is None:
        raise typer.BadParameter("give --by, such as 0,0.5,2, or --norm, such as 100")
    _sweep("scale", edits, **shared)


def _numbers(option: str, words: str | None) -> list[str]:
    """Split a list at commas. Raises `SweepError` for an empty or repeated item."""
    from secondary_sinks.types.lists import split_words

    return [] if words is None else split_words(option, words, SweepError)


def _donor(word: str) -> str:
    """The donor, unchanged. Raises `SweepError` for a word that is neither twin, sink nor place."""
    place = word.rpartition("@")[2]
    if word not in complete.DONORS and not re.fullmatch(r"[0-9]+(\+[0-9]+)*", place):
        raise SweepError(
            f"--donor is {word!r:.60}", "expected twin, sink, or a position from 0 on, such as 12"
        )
    return word


@app.command(epilog="Example: secondary-sinks status runs/mine")
def status(folder: Folder, json: flags.AsJson = False) -> None:
    """Say what is done and what is missing in a run or a sweep.

    Also what was skipped.
    """
    from secondary_sinks.cli.folders import show_status

    show_status(folder, as_json=json)


@app.command(epilog="Example: secondary-sinks verify runs/mine")
def verify(folder: Folder, json: flags.AsJson = False) -> None:
    """Check every file of a run or a sweep by its SHA-256.

    The exit code is 3 where one is damaged.
    """
    from secondary_sinks.cli.folders import show_verified

    show_verified(folder, as_json=json)


@app.command(epilog="Example: secondary-sinks merge runs/one runs/two --out runs/both")
def merge(
    folders: Annotated[
        list[Path], typer.Argument(**named_path("DIR..."), help="Folders of sweeps.")
    ],
    out: Annotated[
        Path, typer.Option(**NAMED_PATH, help="Folder of the merged sweep; must be new or empty.")
    ],
) -> None:
    """Merge several sweeps into one; equal cells are kept once."""
    from secondary_sinks.cli.folders import show_merged

    show_merged(folders, out)


@app.command(epilog="Example: secondary-sinks export runs/mine --format csv")
def export(
    folder: Annotated[Path, typer.Argument(**named_path("DIR"), help="Folder of a run or sweep.")],
    format: Annotated[
        str,
        typer.Option(
            help="csv, parquet or jsonl.", autocompletion=complete.words(complete.FORMATS)
        ),
    ] = "csv",
    out: Annotated[
        Path | None, typer.Option(**NAMED_PATH, help="Folder for the files. Default: DIR/export.")
    ] = None,
) -> None:
    """Export the tables of a finished run, with a schema.json."""
    from secondary_sinks.cli.folders import show_exported

    show_exported(folder, format, out)


def _sweep(command: str, edits: list[str], **options: object) -> None:
    from secondary_sinks.cli.resolve import Asked
    from secondary_sinks.cli.work import work

    work(Asked(command=command, edits=edits, options=options))
