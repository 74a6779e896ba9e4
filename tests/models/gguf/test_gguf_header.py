"""GGUF files: read as what they say, or refused."""

import random
import struct

import numpy as np
import pytest
import torch

from secondary_sinks import load_model, memory
from secondary_sinks.errors import (
    DamagedModelError,
    ModelError,
    ModelMemoryError,
    UnsupportedModelError,
)
from secondary_sinks.models import architecture
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.models.gguf.compare import refuse_other_model
from secondary_sinks.models.gguf.header import read_header
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from tests.models.gguf.files import THETA, tiny_model, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    """A whole file, never changed."""
    model = tiny_model("qwen2")
    return write(tmp_path_factory.mktemp("gguf") / "tiny-qwen2.gguf", model, "qwen2")


def read(path):
    return read_original(resolve(str(path)), torch.float32)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_file_gives_the_weights_the_rope_and_the_tokens_that_it_holds(architecture, tmp_path):
    model = tiny_model(architecture)
    path = write(tmp_path / "tiny.gguf", model, architecture)
    header = read_header(path)
    assert (header.architecture, header.parameters) == (architecture, model.num_parameters())
    original = read(path)
    for key, value in model.state_dict().items():
        assert torch.equal(original.model.state_dict()[key], value), key
    assert original.model.config.rope_parameters["rope_theta"] == THETA
    assert original.tokenizer.convert_tokens_to_ids("AB") == 96
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(original.model(ids).logits, model(ids).logits)


def test_a_folder_with_one_file_is_loaded_hooked(qwen2):
    assert architecture(load_model(qwen2.parent)) == "Qwen2ForCausalLM"


def test_a_tied_model_stores_its_embedding_once(tmp_path):
    model = tiny_model("llama", tie_word_embeddings=True)
    path = write(tmp_path / "tied.gguf", model, "llama", without=("output.weight",))
    found = read(path).model
    assert found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()
    assert torch.equal(found.lm_head.weight, model.lm_head.weight)


def test_a_file_cut_anywhere_is_said(qwen2, tmp_path):
    content, path = qwen2.read_bytes(), tmp_path / "cut.gguf"
    sizes = [*range(1, 5000, 173), *range(5000, len(content), 4999), len(content) - 1]
    for size in sizes:
        path.write_bytes(content[:size])
        said = rf"cut\.gguf' \({size} bytes\) is truncated or damaged"
        with pytest.raises(DamagedModelError, match=said):
            read_header(path)
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        read(path)


def test_a_damaged_header_is_said_or_harmless_and_never_takes_long(qwen2, tmp_path):
    """What no check can see is another letter in a word, or another number in the metadata."""
    content, path, noticed = qwen2.read_bytes(), tmp_path / "flipped.gguf", 0
    generator = random.Random(0)
    places = generator.sample(range(6000), 400)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            read_header(path)
        except DamagedModelError:
            noticed += 1
    assert noticed > len(places) // 3


@pytest.mark.parametrize(
    ("at", "put", "said"),
    [
        (4, b"\x09", "version 9"),
        (8, b"\xff" * 8, "states 18446744073709551615 tensors; expected at most"),
        (8, struct.pack("<Q", 10**9), "states 1000000000 tensors; expected at most"),
        (16, struct.pack("<Q", 10**9), "states 1000000000 metadata entries; expected at most"),
        (24, b"\xff" * 7 + b"\x7f", "ends inside its header"),
    ],
    ids=["version", "most tensors", "tensors", "metadata", "length of a name"],
)
def test_counts_beyond_the_file_are_noticed_at_once(at, put, said, qwen2, tmp_path):
    damaged = bytearray(qwen2.read_bytes())
    damaged[at : at + len(put)] = put
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    with pytest.raises(DamagedModelError, match=said):
        read_header(path)


def test_a_list_longer_than_any_is_noticed_at_once(qwen2, tmp_path):
    """In a file with room for it: the hole costs no disk."""
    damaged = bytearray(qwen2.read_bytes())
    at = damaged.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    damaged[at : at + 8] = struct.pack("<Q", 10**9)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    with path.open("r+b") as file:
        file.truncate(1 << 34)
    with pytest.raises(DamagedModelError, match="states 1000000000 values in a list; expected at"):
        read_header(path)


def test_metadata_that_are_stated_twice_are_refused(qwen2, tmp_path):
    content = qwen2.read_bytes()
    n_metadata = int.from_bytes(content[16:24], "little")
    key = b"qwen2.rope.freq_base"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<If", 6, 10_000.0)
    path = tmp_path / "twice.gguf"
    path.write_bytes(content[:16] + struct.pack("<Q", n_metadata + 1) + entry + content[24:])
    with pytest.raises(DamagedModelError, match=r"states 'qwen2\.rope\.freq_base' twice"):
        read_header(path)


SIZES = ("block_count", "embedding_length", "feed_forward_length", "context_length")
SIZES += ("attention.head_count", "attention.head_count_kv", "attention.key_length")
SIZES += ("rope.dimension_count", "expert_count", "expert_used_count", "vocab_size")


@pytest.mark.parametrize("key", SIZES)
def test_a_size_that_no_model_has_is_said_before_it_is_read(key, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gguf_cache, "_read_with_transformers", lambda path: pytest.fail("it was read")
    )
    path = write(tmp_path / "huge.gguf", tiny_model("llama"), "llama")
    header = read_header(path)
    header.metadata[f"llama.{key}"] = 10**9
    monkeypatch.setattr(gguf_cache, "read_header", lambda path: header)
    with pytest.raises(
        DamagedModelError, match=rf"huge\.gguf.*llama\.{key} is 1000000000; expected"
    ):
        read(path)


def test_a_missing_tensor_is_said(tmp_path):
    name = "blk.1.ffn_up.weight"
    path = write(tmp_path / "tiny.gguf", tiny_model("qwen2"), "qwen2", without=(name,))
    with pytest.raises(DamagedModelError, match=r"weights are missing: .*layers\.1\.mlp\.up_proj"):
        read(path)


def test_one_of_several_files_is_said(tmp_path, qwen2, monkeypatch):
    header = read_header(qwen2)
    header.metadata["split.count"] = 3
    monkeypatch.setattr(gguf_cache, "read_header", lambda path: header)
    with pytest.raises(UnsupportedModelError, match=r"one of 3 files.*gguf-split --merge"):
        read(qwen2)


def divisors(factor, width=8, low=1.0, high=4.0, length=8192):
    """Llama 3.1's rule: long waves are divided by `factor`, short ones not, others between."""
    waves = 2 * np.pi * THETA ** (np.arange(0, width, 2) / width)
    blend = np.clip((length / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / factor + blend)).astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_ropes_of_llama_3_are_taken_over(factor, tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": THETA, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = tiny_model("llama", rope_parameters=rope)
    extra = {"rope_freqs.weight": divisors(factor)}
    assert len(np.unique(extra["rope_freqs.weight"])) > 1
    found = read(write(tmp_path / "llama3.gguf", model, "llama", extra=extra)).model
    assert found.config.rope_parameters == rope
    torch.testing.assert_close(found.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


FACTORS = {"rope_freqs.weight": np.linspace(1, 8, 4, dtype=np.float32)}
OTHERS = {
    "scaled rope": ({"extra": FACTORS}, r"rope_freqs\.weight"),
    "yarn": ({"metadata": {"rope.scaling.type": "yarn"}}, r"rope\.scaling\.type is yarn"),
    "linear": ({"metadata": {"rope.scale_linear": 4.0}}, r"rope\.scale_linear is 4"),
    "window": (
        {"metadata": {"attention.sliding_window": 8}},
        r"attention\.sliding_window is 8, sliding_window became 0",
    ),
    "soft cap": ({"metadata": {"final_logit_softcapping": 30.0}}, "final_logit_softcapping is 30"),
    "scale": ({"metadata": {"logit_scale": 0.5}}, r"logit_scale is 0\.5"),
}


@pytest.mark.parametrize(("change", "said"), OTHERS.values(), ids=OTHERS)
def test_what_the_reader_would_leave_out_is_refused(change, said, tmp_path, cache):
    path = write(tmp_path / "other.gguf", tiny_model("llama"), "llama", **change)
    with pytest.raises(UnsupportedModelError, match=rf"other\.gguf.*{said}.*another model"):
        read(path)
    assert not [folder for folder in cache.iterdir() if folder.is_dir()], "nothing was kept"


def test_a_rotary_width_that_the_reader_would_leave_out_is_refused(tmp_path):
    metadata = {"rope.dimension_count": 4}
    path = write(tmp_path / "other.gguf", tiny_model("qwen2"), "qwen2", metadata=metadata)
    with pytest.raises(UnsupportedModelError, match=r"dimension_count is 4, and became 8"):
        read(path)


def test_a_size_that_does_not_fit_the_tensors_is_said(tmp_path):
    metadata = {"rope.dimension_count": 4}  # of a Llama, the width of its heads
    path = write(tmp_path / "other.gguf", tiny_model("llama"), "llama", metadata=metadata)
    with pytest.raises(DamagedModelError, match=r"proj\.weight is \[32, 32\], not \[.*16"):
        read(path)


@pytest.mark.parametrize(
    "metadata", [{"rope.scaling.type": "none"}, {"attention.sliding_window": 0}, {"logit_scale": 1}]
)
def test_what_is_said_to_be_off_is_accepted(metadata, tmp_path):
    path = write(tmp_path / "tiny.gguf", tiny_model("llama"), "llama", metadata=metadata)
    assert read(path).model.num_parameters() == tiny_model("llama").num_parameters()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_attention_heads", 8, "head_count is 4, num_attention_heads became 8"),
        ("rms_norm_eps", 1e-5, "rms_norm_eps became 1e-05"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e4}, r"freq_base is 50000"),
    ],
)
def test_a_config_that_says_other_than_the_file_is_refused(field, value, said, qwen2):
    model = tiny_model("qwen2")
    refuse_other_model(read_header(qwen2), model.config, model.num_parameters(), qwen2)
    setattr(model.config, field, value)
    with pytest.raises(UnsupportedModelError, match=said):
        refuse_other_model(read_header(qwen2), model.config, model.num_parameters(), qwen2)


def test_a_file_too_large_for_memory_or_disk_is_not_read(qwen2, monkeypatch):
    def too_early(path):
        pytest.fail("the file was read")

    monkeypatch.setattr(gguf_cache, "_read_with_transformers", too_early)
    with monkeypatch.context() as little:
        little.setattr(memory, "free_ram", lambda: 1000)
        with pytest.raises(ModelMemoryError, match=r"tiny-qwen2\.gguf"):
            read(qwen2)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(gguf_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"takes 119 kB of disk, and 1 kB are free"):
        read(qwen2)


@pytest.mark.real
def test_the_embedded_file_is_what_its_converted_copy_says():
    header = read_header(gguf_cache.embedded_gguf())
    assert (header.architecture, header.parameters) == ("llama", 134_515_008)
