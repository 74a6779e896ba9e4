"""The converted copy of a GGUF file: made once, whole or not at all."""

import json
import multiprocessing
import re

import pytest
import torch
from filelock import FileLock

from secondary_sinks.errors import DamagedModelError, ModelError, SinkWarning
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.testing.families import tiny
from tests.models.gguf.files import tiny_model, write


@pytest.fixture
def gguf(tmp_path, monkeypatch):
    """A stand-in for a GGUF file; reading it makes a tiny model and counts how often."""
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache, "_read_gguf", read_tiny)
    monkeypatch.setattr(gguf_cache, "read_header", lambda gguf: None)
    monkeypatch.setattr(gguf_cache, "load_tokenizer", lambda folder, trusted: None)
    monkeypatch.setattr(gguf_cache, "refuse_other_ids", lambda tokenizer, rules, gguf: None)
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
    return tiny("llama"), Tokenizer, None


def reads(gguf):
    return len(gguf.with_suffix(".reads").read_text())


def test_a_file_is_converted_once(gguf):
    first = gguf_cache.converted_folder(gguf)
    assert gguf_cache.converted_folder(gguf) == first
    assert reads(gguf) == 1
    assert gguf_cache.find_damage(first) == ""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


SEALED = (gguf_cache.WEIGHTS, "config.json", "tokenizer.json", "generation_config.json")
DAMAGES = {
    "cut": (cut, "has changed"),
    "one bit": (flip, "has changed"),
    "gone": (lambda path: path.unlink(), "is missing"),
    "a folder": (replace_by_folder, "has changed"),
}


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize(("spoil", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_copy_is_said_and_made_again(spoil, said, name, gguf):
    folder = gguf_cache.converted_folder(gguf)
    before = contents(folder)
    spoil(folder / name)
    with pytest.warns(SinkWarning, match=rf"tiny\.gguf.*{re.escape(name)} {said}.*converted again"):
        assert gguf_cache.converted_folder(gguf) == folder
    assert contents(folder) == before
    assert reads(gguf) == 2


@pytest.mark.parametrize("seal", [None, "{", "[]", '{"files": 7}', '{"sha256": "of the weights"}'])
def test_a_copy_without_a_whole_seal_is_made_again(seal, gguf):
    path = gguf_cache.converted_folder(gguf) / gguf_cache.SEAL
    path.unlink() if seal is None else path.write_text(seal)
    with pytest.warns(SinkWarning, match=r"converted\.json is missing or damaged"):
        folder = gguf_cache.converted_folder(gguf)
    assert gguf_cache.find_damage(folder) == ""
    assert reads(gguf) == 2


@pytest.mark.parametrize("name", ["chat_template.jinja", "adapter_config.json", "evil.py"])
def test_a_file_that_the_conversion_did_not_write_is_not_read(name, gguf):
    folder = gguf_cache.converted_folder(gguf)
    (folder / name).write_text("{}")
    with pytest.warns(SinkWarning, match=rf"{re.escape(name)} is not a file of the conversion"):
        assert not (gguf_cache.converted_folder(gguf) / name).exists()


def test_an_interrupted_removal_is_made_again(gguf):
    folder = gguf_cache.converted_folder(gguf)
    for path in folder.iterdir():
        path.unlink()
    with pytest.warns(SinkWarning, match="converted again"):
        assert gguf_cache.find_damage(gguf_cache.converted_folder(gguf)) == ""


def half_made(root, name="other-0123456789abcdef-v3"):
    part = root / f"{name}.part-ab_12xyz"
    part.mkdir(parents=True)
    (part / gguf_cache.WEIGHTS).write_bytes(bytes(100))
    return part


def test_what_a_killed_conversion_left_is_removed_by_the_next_start(gguf):
    part = half_made(gguf_cache.cache_root())
    own = half_made(gguf_cache.cache_root(), gguf_cache.converted_folder(gguf).name)
    gguf_cache.converted_folder(gguf)
    assert not part.exists()
    assert not own.exists()


def hold(path, ready, done):
    with FileLock(path):
        ready.set()
        done.wait(60)


def test_what_another_process_is_making_stays(gguf):
    part = half_made(gguf_cache.cache_root())
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    lock = gguf_cache.cache_root() / "other-0123456789abcdef-v3.lock"
    process = context.Process(target=hold, args=(lock, ready, done))
    process.start()
    assert ready.wait(60)
    gguf_cache.converted_folder(gguf)
    assert part.exists()
    done.set()
    process.join(60)
    gguf_cache.converted_folder(gguf)
    assert not part.exists()


def test_a_finished_copy_or_a_link_that_is_called_like_a_half_is_kept(gguf, tmp_path):
    other = gguf.with_name("model.part-1.gguf")
    other.write_bytes(gguf.read_bytes())
    kept = gguf_cache.converted_folder(other)
    precious = tmp_path / "precious"
    precious.mkdir()
    link = gguf_cache.cache_root() / "other-0123456789abcdef-v3.part-link"
    link.symlink_to(precious)
    gguf_cache.converted_folder(gguf)
    assert gguf_cache.find_damage(kept) == ""
    assert precious.exists()


def test_a_conversion_that_dies_leaves_nothing_in_its_place(gguf, monkeypatch):
    def half(gguf):
        return read_tiny(gguf)[0], None, None

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


def test_a_damaged_file_is_refused_before_all_of_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    file = write(tmp_path / "long.gguf", tiny_model("qwen2"), "qwen2")
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(1 << 40)  # a hole, which costs no disk
    with pytest.raises(DamagedModelError, match=f"{(1 << 40) - size:,} bytes follow its last tens"):
        gguf_cache.converted_folder(file)


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
