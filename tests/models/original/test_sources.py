"""What a name means: what is on the disk, an alias, or a name on the hub, with its revision."""

import os

import pytest

from secondary_sinks.errors import (
    DamagedModelError,
    ModelError,
    SinkWarning,
    SpecialFileError,
    UnknownModelError,
)
from secondary_sinks.models.original.catalogue import ENTRIES
from secondary_sinks.models.original.sources import resolve
from tests.tiny import save_tiny


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(folder, *files):
    folder.mkdir(parents=True)
    for file in files or ("config.json", "model.safetensors"):
        (folder / file).write_bytes(b"GGUF" if file.endswith(".gguf") else b"{}")
    return folder


@pytest.mark.parametrize("entry", ENTRIES[::7], ids=lambda entry: entry.alias)
def test_an_alias_is_a_repository(entry, place):
    source = resolve(entry.alias.upper())
    assert (source.kind, source.path, source.name) == ("hub", entry.repository, entry.alias)
    assert source.revision is None


@pytest.mark.parametrize("name", ["qwen3-14b", "Qwen/Qwen3-14B"])
def test_a_revision_is_part_of_the_name_or_stands_beside_it(name, place):
    for revision in ("v1.0", "refs/pr/3", "a" * 40):
        beside, within = resolve(name, revision), resolve(f"{name}@{revision}")
        assert beside == within == resolve(f"{name}@{revision}", revision)
        assert (beside.path, beside.revision) == ("Qwen/Qwen3-14B", revision)


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("qwen3-14b@v1", "v2", r"two revisions.*'v1'.*'v2'"),
        ("qwen3-14b@", None, "'' is not a revision"),
        ("qwen3-14b", "../../etc", "not a revision"),
        ("qwen3-14b@a b", None, "not a revision"),
        ("smollm2-135m", "main", "has no revisions"),
        ("mine", "main", r"'mine' has no revisions"),
        ("one.gguf", "main", "has no revisions"),
    ],
)
def test_a_revision_that_makes_no_sense_is_said(name, revision, said, place):
    model(place / "mine")
    (place / "one.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=said):
        resolve(name, revision)


def test_what_is_on_the_disk_is_preferred_to_an_alias(place):
    assert resolve("qwen3-14b").kind == "hub"
    (place / "qwen3-14b").mkdir()
    (place / "qwen3-14b" / "run.json").write_text("{}")
    assert resolve("qwen3-14b").kind == "hub", "a folder of results is no model"
    model(place / "qwq-32b")
    assert resolve("qwq-32b").kind == "folder"
    model(place / "Qwen" / "Qwen3-14B")
    assert resolve("Qwen/Qwen3-14B").kind == "folder"


def test_a_name_with_an_at_that_is_on_the_disk_is_a_path(place):
    model(place / "mine@home")
    assert resolve("mine@home").kind == "folder"


def test_a_folder_with_one_gguf_file_is_that_file(place):
    folder = model(place / "quantised", "tiny-q4.gguf", "README.md")
    source = resolve(str(folder))
    assert (source.kind, source.name) == ("gguf", "tiny-q4")
    assert source.path.endswith("quantised/tiny-q4.gguf")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a.gguf", "b.gguf"), r"2 GGUF files \(a\.gguf, b\.gguf\); give the path of one"),
        (("a.gguf", "model.safetensors"), r"has \*\.safetensors but no config\.json"),
        (("README.md",), r"no config\.json"),
        (("adapter_config.json", "adapter_model.safetensors"), "is an adapter.*merge"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "is an adapter"),
        (
            (
                "config.json",
                "model.safetensors",
                "adapter_config.json",
                "adapter_model.safetensors",
            ),
            r"both a whole model and an adapter \(adapter_model\.safetensors\)",
        ),
        (
            ("config.json", "model.safetensors", "adapter_config.json", "adapter_model.bin"),
            r"both a whole model and an adapter \(adapter_model\.bin\)",
        ),
        (("config.json",), "no weights"),
        (("config.json", "pytorch_model-00001-of-00002.bin"), "only pickled weights.*run code"),
        (("config.json", "consolidated.00.pth"), "only pickled weights.*run code"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_folder_that_is_no_model_is_said(files, said, place):
    with pytest.raises(ModelError, match=said):
        resolve(str(model(place / "folder", *files)))


def test_a_folder_with_pickles_too_uses_its_safetensors(place):
    folder = model(place / "both", "config.json", "model.safetensors", "pytorch_model.bin")
    assert resolve(str(folder)).kind == "folder"


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json"])
def test_a_leftover_config_of_an_adapter_is_said_and_the_model_read(weights, place):
    folder = model(place / "merged", "config.json", weights, "adapter_config.json")
    with pytest.warns(SinkWarning, match=r"adapter_config\.json without the adapter's weights"):
        assert resolve(str(folder)).kind == "folder"


def test_an_empty_file_is_said(place):
    (place / "empty.gguf").write_bytes(b"")
    with pytest.raises(DamagedModelError, match=r"empty\.gguf.*is empty"):
        resolve("empty.gguf")


@pytest.mark.parametrize("name", ["~nobody-of-this-name/model", "a\0b", "x/" * 3000, "@main"])
def test_a_name_that_no_path_can_have_is_unknown(name, place):
    with pytest.raises(UnknownModelError, match="unknown model"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "similar"), [("qwen3-14", "qwen3-14b"), ("mathstral", "mathstral-7b")]
)
def test_similar_names_come_from_the_aliases(name, similar, place):
    with pytest.raises(UnknownModelError, match=rf"did you mean {similar}.*secondary-sinks models"):
        resolve(name)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_pipe_in_a_folder_of_a_model_is_refused_and_not_waited_for(name, tmp_path):
    save_tiny(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SpecialFileError, match=rf"{name}' is a FIFO"):
        resolve(str(tmp_path))
