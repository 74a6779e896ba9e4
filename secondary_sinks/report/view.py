"""Finished runs in a browser, from a small server that only this machine can reach.

The pages are those of `write_report` and `write_comparison`, made when they are asked for. The
server answers only to the addresses of its own list: no path of a request is ever opened.
"""

from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError, SinkError
from secondary_sinks.report.compare import comparison_page
from secondary_sinks.report.page import assets, report_page, template
from secondary_sinks.report.words import MISSING
from secondary_sinks.runs import RunFolder, whole_records
from secondary_sinks.runs.folder import RECORD

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Hosts that a request may name; a page of another site that resolves to this machine names its
own."""
DEPTH = 2
"""How many folders below a given one runs are looked for."""
HTML, BYTES = "text/html; charset=utf-8", "application/octet-stream"
Content = tuple[str, bytes]
"""(media type, body)."""


def find_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """The finished runs in some folders: each itself, or those up to two levels below it.

    Raises `RunFolderError` for a folder without one.
    """
    found: dict[Path, RunFolder] = {}
    for folder in folders:
        patterns = [f"{'*/' * depth}{RECORD}" for depth in range(DEPTH + 1)]
        here = [record.parent for pattern in patterns for record in sorted(folder.glob(pattern))]
        if not here:
            raise RunFolderError(
                f"{str(folder)!r} holds no finished run (no {RECORD} in it or below)",
                "expected the folder of a run, or one that holds such folders",
            )
        found |= {path.resolve(): RunFolder(path) for path in here}
    return list(found.values())


class Viewer:
    """The pages of some runs, by address."""

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        """List the runs and read their records; a broken one is listed with what is wrong."""
        self.runs = list(runs)
        self.pages: dict[str, Callable[[], Content]] = {"/": self._overview}
        self._rows = [self._row(number, run) for number, run in enumerate(self.runs)]
        sound = [run for run, row in zip(self.runs, self._rows, strict=True) if not row["broken"]]
        if len(sound) > 1:
            self.pages["/compare"] = lambda: _html(comparison_page(sound))

    def _row(self, number: int, run: RunFolder) -> dict[str, Any]:
        """What the overview says about one run; its pages get their addresses."""
        row: dict[str, Any] = {"path": str(run.path), "models": [], "files": [], "broken": ""}
        try:
            records = whole_records(run)
        except SinkError as error:
            return row | {"broken": str(error)}
        for record in records:
            name = str(record.get("label", record["model"]["name"]))
            address = f"/{number}/{quote(name, safe='')}"
            self.pages[address] = partial(_report, run, name)
            row["models"].append(_model(address, name, record))
        for path in sorted(run.path.glob("*.parquet")):
            address = f"/{number}/files/{quote(path.name)}"
            self.pages[address] = partial(_file, path)
            row["files"].append((address, path.name))
        return row

    def _overview(self) -> Content:
        page = template("view.html").render(
            runs=self._rows, compared="/compare" in self.pages, **assets()
        )
        return _html(page)

    def content(self, address: str) -> Content:
        """What is at an address. Raises `KeyError` for an unknown one, `SinkError` if broken."""
        return self.pages[address]()


def _model(address: str, name: str, record: dict[str, Any]) -> dict[str, Any]:
    texts, found = record["texts"], record.get("phenomenon", {})
    return {
        "address": address,
        "name": name,
        "texts": len(texts),
        "tokens": sum(text["n_tokens"] for text in texts),
        "sinks": found.get("n_distinct", MISSING),
        "answer": found.get("answer", MISSING),
        "asked": [answer["question"] for answer in record.get("answers", ())],
    }


def _html(page: str) -> Content:
    return HTML, page.encode("utf-8", errors="backslashreplace")


def _report(run: RunFolder, model: str) -> Content:
    return _html(report_page(run, model))


def _file(path: Path) -> Content:
    return BYTES, files.read_bytes(path)


def serve(folders: Sequence[Path], port: int = 0) -> ThreadingHTTPServer:
    """A server of the runs in some folders, not started yet: call its `serve_forever`.

    It listens on 127.0.0.1 only; port 0 takes a free one. Raises `RunFolderError` for a folder
    without a run and for a port that is taken.
    """
    viewer = Viewer(find_runs(folders))
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, viewer))
    except (OSError, OverflowError) as error:
        raise RunFolderError(
            f"port {port} of {HOST} cannot be used: {error}", "leave --port out to take a free one"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with what the viewer has at an address."""

    def __init__(self, viewer: Viewer, *args: Any) -> None:
        self.viewer = viewer
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get("Host", "").rpartition(":")[0] not in NAMES:
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 only")
            return
        try:
            kind, content = self.viewer.content(self.path.partition("?")[0])
        except KeyError:
            self.send_error(HTTPStatus.NOT_FOUND, "no such page; begin at /")
            return
        except (SinkError, OSError) as error:
            page = template("broken.html").render(problem=str(error), **assets())
            kind, content = _html(page)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for each request."""
