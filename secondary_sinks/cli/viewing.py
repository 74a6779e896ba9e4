"""`view`: serve the pages of finished runs until it is interrupted."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import typer

from secondary_sinks.cli.output import say
from secondary_sinks.report import serve


def show_runs(folders: Sequence[Path], port: int, *, browser: bool) -> None:
    """Serve the runs on 127.0.0.1, print the address, and open it unless told otherwise."""
    server = serve(folders, port)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    with server, contextlib.suppress(KeyboardInterrupt):
        say(f"{address} shows the runs; end with Ctrl-C")
        if browser:
            typer.launch(address)
        server.serve_forever()
