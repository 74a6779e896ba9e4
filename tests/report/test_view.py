"""The server of runs: the pages of the report, for this machine only, and nothing else."""

import http.client
import threading
from contextlib import contextmanager

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.errors import RunFolderError
from secondary_sinks.report import serve, write_report
from secondary_sinks.runs import RunFolder
from tests.plots import frames
from tests.plots.frames import HOSTILE
from tests.report.pages import Html, record


def a_run(path, name):
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_table("sinks", frames.sinks())
    folder.write_table("trace", frames.trace())
    told = record() | {"edit": None}
    told["model"]["name"] = name
    folder.write_record(told)
    return folder


@contextmanager
def served(*folders):
    """A function that fetches an address: (status, body)."""
    server = serve(list(folders))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_address[1]

    def get(address, host=None, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, address, headers={"Host": host or f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    try:
        yield get
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def links(body):
    page = Html(body.decode())
    return [attrs["href"] for tag, attrs in page.elements if tag == "a"]


def test_the_overview_leads_to_the_report_and_to_the_tables(tmp_path):
    folder = a_run(tmp_path / "runs" / "one", "tiny <b>")
    with served(tmp_path / "runs") as get:
        status, body = get("/")
        assert status == 200
        report, *tables = links(body)
        page = write_report(folder).read_bytes()
        assert get(report) == (200, page)
        assert [get(one)[1] for one in tables] == [
            (folder.path / name).read_bytes() for name in ("sinks.parquet", "trace.parquet")
        ]
        assert get("/", method="HEAD") == (200, b"")


def test_several_runs_are_compared(tmp_path):
    a_run(tmp_path / "one", "one")
    a_run(tmp_path / "two", "two")
    with served(tmp_path / "one", tmp_path / "two", tmp_path) as get:
        found = links(get("/")[1])
        assert len([address for address in found if address.count("/") == 2]) == 2, "each run once"
        words = Html(get(found[0])[1].decode()).words
    assert found[0] == "/compare"
    assert "one" in words
    assert "two" in words


def test_only_listed_addresses_are_answered_and_only_to_this_machine(tmp_path):
    a_run(tmp_path / "one", "one")
    (tmp_path / "secret.txt").write_text("mine")
    with served(tmp_path / "one") as get:
        for address in ("/../secret.txt", "/0/files/../../secret.txt", "/0/files/run.json", "/1/x"):
            assert get(address)[0] == 404
        assert get("/", host="evil.example")[0] == 403
        assert get("/", host="evil.example:80")[0] == 403
        assert get("/", method="POST")[0] == 501


def test_a_broken_run_is_listed_with_what_is_wrong(tmp_path):
    a_run(tmp_path / "one", "one")
    broken = a_run(tmp_path / "two", "two")
    late = a_run(tmp_path / "three", "three")
    (broken.path / "run.json").write_text("{")
    with served(tmp_path) as get:
        body = get("/")[1]
        page = Html(body.decode())
        assert "is damaged" in page.words
        (late.path / "trace.parquet").unlink()
        (own,) = [address for address in links(body) if address.endswith("/three")]
        status, said = get(own)
        assert status == 200
        assert "has no trace.parquet" in Html(said.decode()).words


@pytest.mark.parametrize("text", HOSTILE[:2])
def test_hostile_names_are_inert(text, tmp_path):
    a_run(tmp_path / "one", text)
    with served(tmp_path) as get:
        body = get("/")[1]
        assert get(links(body)[0])[0] == 200
    assert {tag for tag, _ in Html(body.decode()).elements} <= {
        *("html", "head", "meta", "title", "link", "style", "body", "main", "header", "section"),
        *("h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "a"),
    }


def test_what_holds_no_run_and_a_port_that_is_taken_are_refused(tmp_path, capsys):
    with pytest.raises(RunFolderError, match="holds no finished run"):
        serve([tmp_path])
    a_run(tmp_path / "one", "one")
    with serve([tmp_path]) as taken:
        port = str(taken.server_address[1])
        assert run(["view", str(tmp_path), "--port", port, "--no-browser"]) == 2
    assert run(["view", str(tmp_path), "--port", "70000", "--no-browser"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["error", "error"]
    assert f"port {port} of 127.0.0.1 cannot be used" in said[0]
