"""A folder of inputs for the command line: a tiny model, and many things that are none."""

import gzip
import json
import shutil

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from secondary_sinks.cli.entry import run
from tests.tiny import REFUSING, save_tiny

BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
STRANGE = {
    "no-layers": {"num_hidden_layers": 0},
    "minus-layers": {"num_hidden_layers": -1},
    "word-width": {"hidden_size": "wide"},
    "minus-context": {"max_position_embeddings": -1},
    "no-heads": {"num_attention_heads": 0},
    "odd-heads": {"num_attention_heads": 3},
    "huge-layers": {"num_hidden_layers": 10**6},
    "named-by-object": {"architectures": {"a": "LlamaForCausalLM"}},
    "odd-activation": {"hidden_act": "sorcery"},
    "odd-rope": {"rope_parameters": {"rope_type": "sisal", "rope_theta": 1e4}},
    "no-type": {"model_type": None},
    "type-a-list": {"model_type": ["llama"]},
    "two-minds": {"model_type": "mistral"},
    "large-vocabulary": {"vocab_size": 400},
}
"""Changes of a tiny Llama's config that make it one of nobody."""
WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="session")
def _inputs(tmp_path_factory):
    place = tmp_path_factory.mktemp("inputs")
    save_tiny(place / "tiny")
    save_tiny(place / "no-tokenizer", tokenizer=False)
    save_tiny(place / "no-template", template=None)
    save_tiny(place / "refusing", template=REFUSING)
    _break_folders(place)
    _break_weights(place)
    _write_texts(place)
    (place / "a-file").write_text("mine")
    (place / "full").mkdir()
    (place / "full" / "notes.txt").write_text("mine")
    return place


@pytest.fixture
def place(_inputs, tmp_path, monkeypatch):
    """The folder of inputs as working directory; it must be the same after every test."""
    monkeypatch.chdir(_inputs)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SECONDARY_SINKS_CACHE", str(tmp_path / "cache"))
    before = {path: path.lstat().st_mtime_ns for path in _inputs.rglob("*")}
    yield _inputs
    assert {path: path.lstat().st_mtime_ns for path in _inputs.rglob("*")} == before


def _copy(place, name):
    return shutil.copytree(place / "tiny", place / name)


def _break_folders(place):
    (_copy(place, "no-config") / "config.json").unlink()
    (place / "nothing-in-it").mkdir()
    pickle = _copy(place, "pickled")
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    for name, content in {"broken": '{"model_type": ', "list": "[]", "empty": "{}"}.items():
        (_copy(place, f"{name}-config") / "config.json").write_text(content)
    _declare(_copy(place, "strange") / "config.json", model_type="odd", architectures=["OddLM"])
    bloom = hf.BloomConfig(vocab_size=258, hidden_size=32, n_layer=2, n_head=4)
    hf.BloomForCausalLM(bloom).save_pretrained(_copy(place, "bloom"))
    (_copy(place, "broken-tokenizer") / "tokenizer.json").write_text("{")
    foreign = _copy(place, "foreign-tokenizer") / "tokenizer.json"
    model = json.loads(foreign.read_text())["model"]
    _declare(foreign, model=model | {"vocab": model["vocab"] | {"<beyond>": 400}})
    hf.BertForMaskedLM(hf.BertConfig(**BERT)).save_pretrained(_copy(place, "encoder"))
    adapter = _copy(place, "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    quantised = _copy(place, "quantised") / "config.json"
    _declare(quantised, quantization_config={"quant_method": "gptq", "bits": 4})
    for name, fields in STRANGE.items():
        _declare(_copy(place, name) / "config.json", **fields)
    config = _copy(place, "utf-16-config") / "config.json"
    config.write_bytes(config.read_text().encode("utf-16"))
    code = {"AutoConfig": "code.OddConfig", "AutoModelForCausalLM": "code.OddLM"}
    _declare(_copy(place, "own-code") / "config.json", model_type="odd", auto_map=code)


def _declare(path, **fields):
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _break_weights(place):
    for name, size in {"truncated": 1000, "short": 20_000, "hollow": 0}.items():
        weights = _copy(place, name) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
    for name, value in {"nan": torch.nan, "infinite": torch.inf}.items():
        weights = _copy(place, name) / "model.safetensors"
        state = load_file(weights)
        state[WEIGHT][0, 0] = value
        save_file(state, weights, metadata={"format": "pt"})
    index = {"weight_map": {WEIGHT: "model-1.safetensors", "lm_head.weight": "model-2.safetensors"}}
    shards = _copy(place, "shard-missing")
    (shards / "model.safetensors").rename(shards / "model-1.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    for name, index in {
        "index-outside": '{"weight_map": {"a": "../tiny/model.safetensors"}}',
        "index-pickle": '{"weight_map": {"a": "pytorch_model.bin"}}',
        "index-list": "[1]",
    }.items():
        folder = _copy(place, name)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        (folder / "model.safetensors.index.json").write_text(index)
    (place / "empty.gguf").write_bytes(b"")
    (place / "fake.gguf").write_text("no GGUF at all")
    (place / "truncated.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\1" * 20)


def _write_texts(place):
    fox = "The quick brown fox jumps over the lazy dog, again and again."
    talk = [{"role": "user", "content": "Hello, who is there?"}]
    texts = {
        "ok.jsonl": json.dumps({"id": "fox", "text": fox}) + "\n",
        "talk.jsonl": json.dumps({"id": "talk", "messages": talk}),
        "long.txt": "x" * 257,
        "one.txt": "x",
        "short.txt": "eight...",
        "empty.txt": "",
        "blank.jsonl": "\n \n",
        "broken.jsonl": json.dumps({"text": fox}) + '\n{"text": \n',
        "twice.jsonl": '{"id": "d", "text": "a b"}\n' * 2,
        "list.jsonl": "[1]",
        "role.jsonl": '{"messages": [{"role": "robot", "content": "x"}]}',
        "red\x1b[31m.jsonl": "{",
        "nan.jsonl": '{"text": "a b", "score": NaN}',
        "deep.jsonl": "[" * 100_000,
        "half.jsonl": '{"text": "half \\ud83d of one"}',
        "id-list.jsonl": '{"id": [1], "text": "a b"}',
        "number.jsonl": '{"text": 7}',
        "prompt.jsonl": '{"prompt": "a question"}',
        "content.jsonl": '{"messages": [{"role": "user", "content": null}]}',
        "table.csv": "id,text\n1,a\n",
        "array.json": json.dumps([{"text": fox}], indent=1),
        "x" * 240 + ".jsonl": "{",
    }
    for name, content in texts.items():
        (place / name).write_text(content)
    encoded = {
        "latin.txt": "caf\u00e9".encode("latin-1"),
        "utf-16.txt": fox.encode("utf-16"),
        "utf-16.jsonl": json.dumps({"text": fox}).encode("utf-16-le"),
        "bare-utf-16.txt": fox.encode("utf-16-le"),
        "utf-32.jsonl": json.dumps({"text": fox}).encode("utf-32"),
        "mark.jsonl": b"\xef\xbb\xbf",
        "nul.txt": b"the quick\0brown fox jumps over the lazy dog",
        "cut.txt": "na\u00efve caf\u00e9".encode()[:-1],
        "zipped.jsonl": gzip.compress(json.dumps({"text": fox}).encode()),
    }
    for name, raw in encoded.items():
        (place / name).write_bytes(raw)
    (place / "loop").symlink_to("loop")


@pytest.fixture
def call(place, tmp_path, capfd):
    """Run a command with the tiny model into one folder: code, output, errors."""

    def call(command, *options, texts="ok.jsonl"):
        arguments = [command, "tiny", "--texts", texts, "--out", str(tmp_path / "out"), *options]
        code = run(arguments)
        return code, *capfd.readouterr()

    return call
