"""Weight files: whole, or named."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from secondary_sinks.errors import DamagedModelError
from secondary_sinks.models.original.checkpoint import (
    INDEX,
    SINGLE,
    check_weights,
    read_json,
    weight_names,
)
from secondary_sinks.testing.families import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model in several shards, never changed."""
    folder = tmp_path_factory.mktemp("shards")
    tiny("llama").save_pretrained(folder, max_shard_size="30KB")
    return folder


@pytest.fixture
def shards(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "model")


def test_a_whole_checkpoint_is_counted(whole, tmp_path):
    model = tiny("llama")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert len(weight_names(whole)) > 2
    assert check_weights(whole) == parameters
    model.save_pretrained(tmp_path)
    assert weight_names(tmp_path) == [SINGLE]
    assert check_weights(tmp_path) == parameters


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "cut inside the length": (lambda path: cut(path, 5), "truncated or damaged"),
    "cut inside the header": (lambda path: cut(path, 50), "truncated or damaged"),
    "cut inside the weights": (
        lambda path: cut(path, path.stat().st_size - 1),
        "truncated or damaged",
    ),
    "too long": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "truncated or damaged"),
    "a web page": (lambda path: path.write_bytes(b"<!DOCTYPE html>" * 9), "truncated or damaged"),
    "a pointer": (
        lambda path: path.write_bytes(b"version https://git-lfs/spec/v1\noid sha256:0\nsize 9\n"),
        "Git LFS pointer.*git lfs pull",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_named(damage, said, shards):
    name = weight_names(shards)[1]
    damage(shards / name)
    with pytest.raises(DamagedModelError, match=f"{name}.*{said}"):
        check_weights(shards)


def test_a_flipped_bit_in_a_header_is_noticed_or_is_in_a_name(shards):
    """What a flip can do unnoticed is to rename a tensor or a remark: the index knows the names."""
    path = shards / weight_names(shards)[1]
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    unnoticed = []
    for place in range(0, end, 7):
        damaged = bytearray(content)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            check_weights(shards)
        except DamagedModelError as error:
            said = str(error)
        else:
            unnoticed.append(content[place : place + 1])
            said = path.name
        assert path.name in said
    assert len(unnoticed) < 5
    assert set(unnoticed) <= {bytes([letter]) for letter in b"__metadata__format_pt"}


def test_a_missing_shard_is_named_and_the_rest_counted(shards):
    names = weight_names(shards)
    (shards / names[1]).unlink()
    said = rf"lacks '{names[1]}'.*{len(names) - 1} of {len(names)} files are there"
    with pytest.raises(DamagedModelError, match=said):
        check_weights(shards)
    (shards / names[0]).unlink()
    with pytest.raises(DamagedModelError, match=rf"lacks '{names[0]}' and 1 more"):
        check_weights(shards)


def test_a_shard_of_another_model_is_named(shards):
    name = weight_names(shards)[0]
    save_file({"other": torch.ones(3)}, shards / name)
    with pytest.raises(DamagedModelError, match=f"{name}.*not of one model"):
        check_weights(shards)


def test_a_tensor_in_two_shards_is_named(shards):
    """transformers would read whichever comes last."""
    first, second = weight_names(shards)[:2]
    tensors = load_file(shards / second)
    twice = next(iter(load_file(shards / first)))
    save_file(tensors | {twice: torch.ones(3)}, shards / second)
    with pytest.raises(
        DamagedModelError, match=rf"{second}.* holds '{twice}' too, .* in '{first}'"
    ):
        check_weights(shards)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"weight_map": ', "broken JSON"),
        ("[1]", "holds a list"),
        ("{}", "no 'weight_map'"),
        ('{"weight_map": {}}', "no 'weight_map'"),
        ('{"weight_map": {"a": 1}}', "no 'weight_map'"),
        ('{"weight_map": ["a"]}', "no 'weight_map'"),
        ('{"weight_map": {"a": "../b.safetensors"}}', r"points to '\.\./b"),
        ("[" * 100_000, "broken JSON"),
        (b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_a_broken_index_is_said(content, said, shards):
    (shards / INDEX).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedModelError, match=rf"{INDEX}.*{said}"):
        check_weights(shards)


def test_weights_under_other_names_are_said(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "consolidated.safetensors")
    with pytest.raises(DamagedModelError, match=f"neither {SINGLE} nor {INDEX}"):
        check_weights(tmp_path)


def test_of_one_file_and_an_index_the_one_file_counts(shards):
    tensors = {}
    for name in weight_names(shards):
        tensors |= load_file(shards / name)
    save_file({"a": torch.ones(2, 3)}, shards / SINGLE)
    assert check_weights(shards) == 6
    assert json.loads((shards / INDEX).read_text())["weight_map"].keys() == tensors.keys()


def test_json_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(DamagedModelError, match=r"nothing\.json.*No such file"):
        read_json(tmp_path / "nothing.json")


def test_a_file_larger_than_the_memory_is_counted_from_its_header(tmp_path):
    """256 GB without a block on the disk: what follows is said by the check of memory."""
    rows = 64 * 10**9
    header = {"w": {"dtype": "F32", "shape": [rows], "data_offsets": [0, 4 * rows]}}
    words = json.dumps(header).encode()
    with (tmp_path / SINGLE).open("wb") as file:
        file.write(len(words).to_bytes(8, "little") + words)
        file.truncate(8 + len(words) + 4 * rows)
    assert check_weights(tmp_path) == rows
