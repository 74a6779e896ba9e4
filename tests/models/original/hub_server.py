"""A hub on this machine: the few answers that the hub's own client asks for."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class Hub(BaseHTTPRequestHandler):
    """Serves `folders`, revision -> folder of files, as the repository owner/model."""

    folders: ClassVar[dict] = {}
    asked: ClassVar[list] = []
    status = 200

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path.strip("/")
        self.asked.append(path)
        if not path:
            return self.answer(b"")
        if self.status != 200:
            return self.answer(b"", status=self.status)
        words = path.removeprefix("api/models/").split("/")
        if words[:2] == ["owner", "gated"]:
            return self.answer(b"", status=403, code="GatedRepo")
        if words[:2] != ["owner", "model"]:
            return self.answer(b"", status=404, code="RepoNotFound")
        verb, revision, *file = words[2:]
        if revision not in {*self.folders, *(COMMITS[name] for name in self.folders)}:
            return self.answer(b"", status=404, code="RevisionNotFound")
        return self.repository(verb, revision, file)

    def repository(self, verb, revision, file):
        commit = COMMITS.get(revision, revision)
        name = next(name for name, hashed in COMMITS.items() if hashed == commit)
        folder = self.folders[name]
        if verb == "revision":
            return self.answer(json.dumps({"id": "owner/model", "sha": commit}).encode())
        if verb == "tree":
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            found = [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                }
                for path in files
            ]
            return self.answer(json.dumps(found).encode())
        return self.answer(folder.joinpath(*file).read_bytes(), commit=commit)

    def answer(self, body, status=200, code=None, commit=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        for header, value in {"X-Error-Code": code, "X-Repo-Commit": commit}.items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing on the error stream."""


@contextmanager
def serving(folders, status=200):
    """A running hub: its address, and the paths it was asked for."""
    handler = type("Handler", (Hub,), {"folders": folders, "status": status, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
