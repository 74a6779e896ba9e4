"""The hub, played by a server on this machine and asked by the hub's own client."""

import socket
import time

import pytest
import torch
from huggingface_hub import constants

from secondary_sinks import load_model, memory
from secondary_sinks.errors import HubError, ModelError, ModelMemoryError, UnknownModelError
from secondary_sinks.models.identity import provenance_of
from secondary_sinks.models.original import hub
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing.families import save, tiny
from tests.models.original.hub_server import COMMITS, serving
from tools.conformance import model_classes


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two revisions of a model in several shards, with much that nobody needs."""
    place = tmp_path_factory.mktemp("hub")
    for seed, name in enumerate(("main", "v1")):
        tiny("llama", seed).save_pretrained(place / name, max_shard_size="30KB")
        (place / name / "consolidated.safetensors").write_bytes(b"the same again")
        (place / name / "pytorch_model.bin").write_bytes(b"a pickle")
        (place / name / "modeling_odd.py").write_text("raise SystemExit")
        (place / name / "original").mkdir()
        (place / name / "original" / "params.json").write_text("{}")
    return {"main": place / "main", "v1": place / "v1"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a client that asks a given address."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def ask(cache, monkeypatch):
    """Point the client to an address, which also gives the paths that were asked for there."""

    def point(url):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return point


def read(name, revision=None):
    return read_original(resolve(name, revision), torch.float32)


def test_a_model_is_downloaded_once_and_without_what_nobody_needs(folders, cache, ask, capfd):
    with serving(folders) as (url, asked):
        ask(url)
        first = read("owner/model")
        n_asked = len(asked)
        second = read("owner/model")
        again = [path for path in asked[n_asked:] if "/resolve/" in path]
    assert first.source.commit == second.source.commit == COMMITS["main"]
    names = {path.name for path in cache.rglob("snapshots/*/**/*") if path.is_file()}
    assert {name for name in names if name.endswith(".safetensors")} == {
        path.name for path in folders["main"].glob("model-*.safetensors")
    }
    assert not names & {"pytorch_model.bin", "modeling_odd.py", "params.json"}
    assert again == []
    for key, value in tiny("llama").state_dict().items():
        assert torch.equal(first.model.state_dict()[key], value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["owner/model@v1", "owner/model@" + COMMITS["v1"]])
def test_a_revision_is_read_and_its_commit_is_known(name, folders, ask):
    with serving(folders) as (url, _):
        ask(url)
        original = read(name)
    assert original.source.commit == COMMITS["v1"]
    weight = original.model.model.embed_tokens.weight
    assert torch.equal(weight, tiny("llama", seed=1).model.embed_tokens.weight)
    assert original.source.path == "owner/model"


def test_what_was_downloaded_is_read_again_without_a_hub(folders, ask):
    with serving(folders) as (url, _):
        ask(url)
        online = read("owner/model")
    offline = read("owner/model")
    assert offline.source.commit == online.source.commit
    assert torch.equal(offline.model.lm_head.weight, online.model.lm_head.weight)


def test_a_hub_out_of_reach_is_said_with_what_to_do(ask):
    ask("http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot be reached.*hf download owner/model --local-dir"):
        read("owner/model")


def test_a_hub_that_is_silent_is_asked_once_and_not_for_long(ask, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(HubError, match=r"no answer in 0\.3 s"):
            read("owner/model")
        assert time.perf_counter() - start < 2


def test_offline_mode_is_named(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        read("owner/model@v1")


def test_a_download_that_was_cut_is_not_taken_for_the_whole(folders, cache, ask):
    with serving(folders) as (url, _):
        ask(url)
        read("owner/model")
    next(cache.rglob("snapshots/*/model-00002*")).unlink()
    with pytest.raises(ModelError, match=r"not complete in the local cache|lacks 'model-00002"):
        read("owner/model")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("owner/gated", HubError, "gated.*hf auth login"),
        ("owner/Qwen3-14", UnknownModelError, r"no repository.*did you mean qwen3-14b.*private"),
        ("owner/model@v9", UnknownModelError, "no revision 'v9'"),
    ],
)
def test_a_repository_that_is_not_handed_out_is_said(name, kind, said, folders, ask):
    with serving(folders) as (url, _):
        ask(url)
        with pytest.raises(kind, match=said):
            read(name)


def test_a_hub_in_trouble_is_said(folders, ask):
    with serving(folders, status=503) as (url, _):
        ask(url)
        with pytest.raises(HubError, match=r"owner/model.*(503|not complete in the local cache)"):
            read("owner/model")


def test_a_model_too_large_is_not_downloaded(folders, cache, ask, monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: 1000)
    with serving(folders) as (url, _):
        ask(url)
        with pytest.raises(ModelMemoryError, match="owner/model"):
            read("owner/model")
    assert not list(cache.rglob("*.safetensors"))


def test_what_is_refused_by_its_config_is_not_downloaded(folders, cache, ask):
    def refuse(config):
        raise ModelError(f"no {config.model_type} today")

    with serving(folders) as (url, _):
        ask(url)
        with pytest.raises(ModelError, match="no llama today"):
            read_original(resolve("owner/model"), torch.float32, accept=refuse)
    assert not list(cache.rglob("*.safetensors"))


def test_a_repository_without_a_config_is_said(tmp_path, ask):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "model.gguf").write_bytes(b"GGUF")
    with serving({"main": tmp_path / "repo"}) as (url, _):
        ask(url)
        with pytest.raises(ModelError, match=r"no config\.json.*GGUF"):
            read("owner/model")


def test_one_file_without_an_index_is_downloaded(tmp_path, ask):
    save("gpt2", tmp_path / "repo")
    with serving({"main": tmp_path / "repo"}) as (url, _):
        ask(url)
        assert read("owner/model").model.config.model_type == "gpt2"


def test_the_source_of_a_loaded_model_is_that_of_its_weights(folders, cache, ask):
    """Also where the revision stands for another commit by the time it is recorded."""
    with serving(folders) as (url, _):
        ask(url)
        model = load_model("owner/model", revision="main", skip=CHECKS)
    (reference,) = cache.rglob("refs/main")
    reference.write_text(COMMITS["v1"])
    expected = {"kind": "hub", "repository": "owner/model", "revision": "main"}
    assert provenance_of(model) == expected | {"commit": COMMITS["main"]}


@pytest.mark.parametrize("kind", model_classes())
def test_the_source_of_a_local_model_and_of_an_object(kind, folders):
    bridge = kind == "TransformerBridge"
    model = load_model(str(folders["main"]), bridge=bridge, skip=CHECKS)
    local = {"kind": "folder", "repository": None, "revision": None, "commit": None}
    assert provenance_of(model) == provenance_of(load_model(model, skip=CHECKS)) == local
    made = load_model(tiny("llama"), bridge=bridge, skip=CHECKS)
    assert provenance_of(made) == {"kind": "object"}


def test_a_full_disk_is_said(folders, ask, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", full)
    with serving(folders) as (url, _):
        ask(url)
        with pytest.raises(ModelError, match=r"No space left.*HF_HOME"):
            read("owner/model")


def test_a_broken_connection_is_said(folders, ask, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("Data processing error: the stream ended")

    monkeypatch.setattr(hub, "snapshot_download", broken)
    with serving(folders) as (url, _):
        ask(url)
        with pytest.raises(HubError, match=r"the stream ended.*run the same command again"):
            read("owner/model")
