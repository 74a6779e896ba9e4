"""The converted copy of a GGUF file: made once, whole or not at all."""

import json
import multiprocessing

import pytest
import torch

from secondary_sinks.errors import ModelError
from secondary_sinks.models import gguf_cache
from secondary_sinks.testing.families import tiny


@pytest.fixture
def gguf(tmp_path, monkeypatch):
    """A stand-in for a GGUF file; reading it makes a tiny model and counts how often."""
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache, "_read_gguf", read_tiny)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    return file


class Tokenizer:
    """Something that can be saved."""

    @staticmethod
    def save_pretrained(folder):
        (folder / "tokenizer.json").write_text("{}")


def read_tiny(gguf):
    with gguf.with_suffix(".reads").open("a") as reads:
        reads.write("x")
    return tiny("llama"), Tokenizer


def reads(gguf):
    return len(gguf.with_suffix(".reads").read_text())


def test_a_file_is_converted_once(gguf):
    first = gguf_cache.converted_folder(gguf)
    assert gguf_cache.converted_folder(gguf) == first
    assert reads(gguf) == 1
    assert gguf_cache.is_whole(first)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no seal", "broken seal", "no weights"])
def test_a_damaged_copy_is_noticed_and_made_again(gguf, damage):
    folder = gguf_cache.converted_folder(gguf)
    weights, seal = folder / gguf_cache.WEIGHTS, folder / gguf_cache.SEAL
    content = bytearray(weights.read_bytes())
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "no seal":
        seal.unlink()
    elif damage == "broken seal":
        seal.write_text("{")
    else:
        weights.unlink()
    assert gguf_cache.is_whole(gguf_cache.converted_folder(gguf))
    assert reads(gguf) == 2


def test_a_conversion_that_dies_leaves_nothing_in_its_place(gguf, monkeypatch):
    def half(gguf):
        return read_tiny(gguf)[0], None

    monkeypatch.setattr(gguf_cache, "_read_gguf", half)
    with pytest.raises(AttributeError, match="save_pretrained"):
        gguf_cache.converted_folder(gguf)
    left = [path.name for path in gguf_cache.cache_root().iterdir() if path.is_dir()]
    assert left == []


def test_another_file_of_the_same_name_is_another_model(gguf):
    first = gguf_cache.converted_folder(gguf)
    gguf.write_bytes(b"GGUF" + bytes(101))
    assert gguf_cache.converted_folder(gguf) != first


def test_two_processes_at_once_convert_once(gguf):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=gguf_cache.converted_folder, args=(gguf,)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert reads(gguf) == 1


def test_a_cache_that_cannot_be_written_is_said(gguf, monkeypatch, tmp_path):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(blocked / "cache"))
    with pytest.raises(ModelError, match=gguf_cache.CACHE_VARIABLE):
        gguf_cache.converted_folder(gguf)


@pytest.mark.real
def test_a_truncated_gguf_file_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    file = tmp_path / "cut.gguf"
    with gguf_cache.embedded_gguf().open("rb") as source:
        file.write_bytes(source.read(1 << 16))
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        gguf_cache.converted_folder(file)


@pytest.mark.real
def test_the_embedded_copy_is_dense_float32_and_sealed():
    folder = gguf_cache.converted_folder(gguf_cache.embedded_gguf())
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["num_hidden_layers"] == 30
    assert torch.float32 == getattr(torch, config["dtype"])
