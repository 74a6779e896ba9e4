"""A sweep on a local Ray cluster: the same bytes, whoever is killed on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from secondary_sinks.errors import ModelMismatchError, SinkWarning, SweepError
from secondary_sinks.sweeps import ModelSpec, SweepConfig, executors, ray_cluster, sweep
from secondary_sinks.sweeps.executors import InProcess
from secondary_sinks.sweeps.on_ray import QUEUED, OnRay
from secondary_sinks.types import Thresholds
from tests.marks import exhaustive
from tests.sweeps import at_workers, children
from tests.tiny import save_tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray, at its start
CORES, GPUS = 2, 4
KILLS = 2
TABLES = ("sinks", "effects", "trace")


@pytest.fixture(scope="module")
def cluster():
    """Two cores of this machine, which says that it has four GPUs."""
    root = str(Path(__file__).parents[2])
    more = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    more["runtime_env"] = {"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}}
    # Workers are niced by default, and would wait for all other processes that run tests.
    more["_system_config"] = {"worker_niceness": 0}
    ray.init(num_cpus=CORES, num_gpus=GPUS, log_to_driver=False, logging_level="error", **more)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts, and `here`, a sweep of them in this process."""
    place = tmp_path_factory.mktemp("ray")
    children.write_texts(place / "texts.jsonl")
    run(place, "here", InProcess(lambda spec: children.PLANTED.model))
    return place


def run(place, name, executor, texts="texts.jsonl"):
    """A sweep of planted models by name, which is nothing that could be found on a disk."""
    config = SweepConfig(
        models=(ModelSpec(name="planted", device="cpu"),),
        texts=(str(place / texts),),
        edits=children.EDITS,
    )
    return sweep(config, place / name, executor=executor, models={"planted": None})


class Counting(OnRay):
    """Knows how many tasks it was given whose outcome is still out."""

    def __init__(self, **options):
        super().__init__(**options)
        self.out, self.most, self.tasks = 0, 0, []

    def run(self, tasks):
        for outcome in super().run(map(self._given, tasks)):
            self.out -= 1
            yield outcome

    def _given(self, task):
        self.tasks.append(task)
        self.out += 1
        self.most = max(self.most, self.out)
        return task


def kill_workers(killed, over):
    """Kill actors while they compute, no two at once."""
    while not over.is_set() and len(killed) < KILLS:
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if words.startswith("ray::Worker.compute") and process.pid not in killed:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                break
        over.wait(0.4)


@exhaustive
def test_workers_killed_while_they_work_change_no_byte(cluster, place):
    executor, killed, over = Counting(loader=at_workers.slow), [], threading.Event()
    killer = threading.Thread(target=kill_workers, args=(killed, over))
    killer.start()
    try:
        summary = run(place, "there", executor)
    finally:
        over.set()
        killer.join()
        executor.close()
    assert len(killed) == KILLS
    assert (summary.complete, summary.n_computed) == (True, 72)
    for name in TABLES:
        here, there = (place / where / f"{name}.parquet" for where in ("here", "there"))
        assert here.read_bytes() == there.read_bytes(), name
    assert CORES < executor.most <= CORES * QUEUED, "no more is asked for than there is room for"


class Alone(Counting):
    """Has one actor at a time."""

    def _places(self, spec):
        return 1


@exhaustive
def test_a_sweep_on_ray_gives_the_same_bytes(cluster, place):
    executor = Alone(loader=at_workers.as_it_is)
    try:
        summary = run(place, "alone", executor)
        assert (summary.complete, summary.n_computed) == (True, 72)
        for name in TABLES:
            here, there = (place / where / f"{name}.parquet" for where in ("here", "alone"))
            assert here.read_bytes() == there.read_bytes(), name
        other = replace(executor.tasks[0], weights_sha256="0" * 64)
        with pytest.raises(ModelMismatchError, match="'planted' has other weights here"):
            next(executor.run([other]))
    finally:
        executor.close()


@exhaustive
def test_a_text_that_ends_its_worker_is_skipped_and_said(cluster, place):
    # One try more: what the text before it gave may not have left the worker when it died.
    executor = Alone(loader=at_workers.deadly, retries=1)
    try:
        summary = run(place, "deadly", executor)
        (failed,) = summary.failed
        assert (failed["text_id"], failed["kind"]) == ("t4", "LostWorker")
        assert "its worker died 2 times" in failed["message"]
        assert (summary.complete, summary.n_computed) == (False, 60), "the other texts are done"
    finally:
        executor.close()


@exhaustive
def test_a_worker_has_as_many_gpus_as_its_model_needs(cluster):
    executor = OnRay(loader=at_workers.counting_gpus)
    spec = ModelSpec(name="planted", device="cuda", n_devices=2)
    try:
        found = executor.prepare(spec, [], "raw", Thresholds())
    finally:
        executor.close()
    gpus = found.model["name"].removeprefix("on GPUs ").split(",")
    assert len(set(gpus)) == 2
    places = [executor._most_actors(replace(spec, n_devices=n)) for n in (1, 2, 3, 4)]
    assert places == [CORES, GPUS // 2, 1, 1]


@exhaustive
def test_an_interrupt_is_heard_though_ray_has_handlers_of_its_own(cluster, tmp_path):
    """The sweep of a process of its own, on the cluster that is there; its model has a short name.

    Of the two signals the one that Ray takes for itself.
    """
    save_tiny(tmp_path / "tiny")
    lines = [json.dumps({"text": f"{n} " + "one more fox " * 9}) for n in range(4000)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    words = ["ablate", "tiny", "--texts", "texts.jsonl", "--out", "out", "--executor", "ray"]
    words += ["--ray-address", ray.get_runtime_context().gcs_address, "--log-format", "json"]
    said = tmp_path / "said"
    with said.open("w") as heard:
        child = subprocess.Popen(
            [sys.executable, "-m", "secondary_sinks", *words, "--device", "cpu"],
            cwd=tmp_path,
            stderr=heard,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
    while '"task"' not in said.read_text():
        assert child.poll() is None, said.read_text()
        time.sleep(0.05)
    begin = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 143
    assert time.monotonic() - begin < 2.0
    last = json.loads(said.read_text().splitlines()[-1])
    assert last["event"] == "interrupted"
    assert "rerun the same command to resume: out keeps the work" in last["message"]


def test_an_address_where_nobody_listens_is_said_at_once():
    executor, begin = executors.executor_named("ray", "127.0.0.1:1"), time.monotonic()
    with pytest.raises(SweepError, match=r"no Ray cluster at '127\.0\.0\.1:1': .*refused"):
        executor.prepare(ModelSpec(name="m"), [], "raw", Thresholds())
    assert time.monotonic() - begin < 6


@pytest.mark.parametrize(
    ("asked", "around", "used", "said"),
    [
        (None, None, "local", False),
        (None, "", "local", False),
        (None, "ray.example:6379", "ray.example:6379", True),
        ("auto", "ray.example:6379", "ray.example:6379", True),
        ("auto", None, "auto", False),
        ("other.example:1", "ray.example:6379", "other.example:1", False),
        ("local", "ray.example:6379", "local", False),
    ],
)
def test_the_address_of_the_environment_is_honoured_and_said(
    asked, around, used, said, monkeypatch, recwarn
):
    """As given to Ray; limits of the memory are only for a cluster that is started here."""
    given = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if around is not None:
        monkeypatch.setenv("RAY_ADDRESS", around)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr(ray_cluster, "_refuse_unreachable", lambda address: None)
    OnRay(asked)._connect()
    assert given["address"] == used
    assert ("object_store_memory" in given) == (used == "local")
    words = [str(one.message) for one in recwarn if one.category is SinkWarning]
    assert words == ([] if not said else words[:1])
    assert not said or "using the Ray cluster of RAY_ADDRESS: 'ray.example:6379'" in words[0]


def test_an_empty_address_is_refused():
    with pytest.raises(SweepError, match="--ray-address is ' '; expected HOST:PORT"):
        OnRay(" ")._connect()


def test_a_wrong_address_of_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.warns(SinkWarning, match="RAY_ADDRESS"),
        pytest.raises(SweepError, match=r"no Ray cluster at '127\.0\.0\.1:1' \(of RAY_ADDRESS\)"),
    ):
        executors.executor_named("ray").prepare(ModelSpec(name="m"), [], "raw", Thresholds())


def test_an_address_where_no_cluster_is_said(place, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    executor = executors.executor_named("ray", "no port at all")
    with pytest.raises(SweepError, match=r"no Ray cluster at 'no port at all'.*ray start --head"):
        run(place, "nowhere", executor)
    executor.close()  # there is nothing to close


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(SweepError, match=r"secondary-sinks\[ray\]"):
        executors.executor_named("ray")
