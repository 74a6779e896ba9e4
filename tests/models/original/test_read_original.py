"""Reading originals: the weights that were saved, once in memory, or an error that says why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from secondary_sinks import load_model, memory, observe
from secondary_sinks.errors import (
    DamagedModelError,
    ModelMemoryError,
    SinkWarning,
    TextError,
    UnsupportedModelError,
)
from secondary_sinks.models import model_size
from secondary_sinks.models.original import read as originals
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.testing.families import SMALL, configs, save, tiny
from tests.marks import exhaustive, thinned
from tests.mechanisms import MECHANISMS
from tests.tiny import save_tiny


def read(folder, dtype=torch.float32, **options):
    return read_original(resolve(str(folder)), dtype, **options)


def edit(folder, change):
    """Change the tensors of a folder's one weight file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def declare(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.mark.parametrize("name", thinned(sorted(configs()), list(MECHANISMS)))
def test_shards_give_the_weights_that_were_saved(name, tmp_path):
    model = tiny(name)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    original = read(tmp_path)
    assert original.tokenizer is original.source.commit is None
    found = original.model.state_dict()
    assert found.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_rounds_and_nothing_else(dtype, tmp_path):
    original = read(save("llama", tmp_path), dtype)
    assert original.model.dtype == dtype
    for key, value in tiny("llama").state_dict().items():
        assert torch.equal(original.model.state_dict()[key], value.to(dtype)), key


def test_tied_weights_stay_tied_and_what_is_stored_wins(tmp_path):
    folder = save("llama-mha-tied", tmp_path)
    tied = read(folder).model
    assert tied.lm_head.weight.data_ptr() == tied.model.embed_tokens.weight.data_ptr()
    stored = torch.randn(SMALL["vocab_size"], SMALL["hidden_size"])
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": stored}))
    assert torch.equal(read(folder).model.lm_head.weight, stored)


def test_the_tokenizer_is_read_and_one_of_another_model_refused(tmp_path):
    folder = save_tiny(tmp_path / "tiny")
    tokenizer = read(folder).tokenizer
    assert tokenizer.decode(tokenizer("the fox")["input_ids"]) == "the fox"
    added = tokenizer.get_added_vocab()
    largest = max(number for token, number in tokenizer.get_vocab().items() if token not in added)
    config = hf.LlamaConfig(**SMALL | {"vocab_size": largest})
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    said = rf"not that of the model: it gives ids up to {largest} .* there are {largest} embed"
    with pytest.raises(DamagedModelError, match=said):
        read(folder)
    config.vocab_size = largest + 1
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    assert read(folder).tokenizer is not None


def test_added_tokens_beyond_the_embeddings_are_refused_where_a_text_uses_one(tmp_path):
    folder = save_tiny(tmp_path / "tiny")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<pad-{n}>" for n in range(20)])
    tokenizer.save_pretrained(folder)
    found = read(folder).tokenizer
    plain, odd = found("the fox")["input_ids"], found("the fox<pad-19>")["input_ids"]
    check_ids(plain, 258, found)
    said = rf"'a' has the token id {258 + 19} \('<pad-19>'\) at position 7, .*vocabulary of 258"
    with pytest.raises(TextError, match=said):
        check_ids(odd, 258, found, "text 'a'")
    model = load_model(folder)
    assert observe(model, plain).tokens.tolist() == plain
    with pytest.raises(TextError, match=said):
        observe(model, odd, text_id="a")


@pytest.mark.parametrize("token", [-1, 258, 2**62])
def test_an_id_of_no_embedding_is_named_with_and_without_a_tokenizer(token, tmp_path):
    tokenizer = hf.AutoTokenizer.from_pretrained(save_tiny(tmp_path / "tiny"))
    for one in (None, tokenizer):
        with pytest.raises(TextError, match=rf"token id {token} .*position 1.*ids 0 to 257"):
            check_ids([0, token], 258, one)


@pytest.mark.parametrize("kind", ["LlamaTokenizer", "GPT2Tokenizer", "TokenizersBackend"])
@pytest.mark.parametrize(
    ("kept", "missing"),
    [((), r"but no tokenizer\.json \("), (("vocab.json",), r"but no merges\.txt, or tokenizer")],
)
def test_a_tokenizer_without_its_vocabulary_is_refused_and_not_made_up(
    kept, missing, kind, tmp_path
):
    folder = save_tiny(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    for name in kept:
        (folder / name).write_text('{"a": 0, "b": 1}')
    with pytest.raises(
        DamagedModelError, match=rf"tiny' is incomplete: .*{missing}.*to feed token"
    ):
        read(folder)


def test_weights_without_a_place_are_refused_and_not_dropped(tmp_path):
    extra = {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}
    edit(save("llama", tmp_path), lambda tensors: tensors.update(extra))
    with pytest.raises(DamagedModelError, match=r"LlamaForCausalLM has no place for: .*q_norm"):
        read(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path):
    declare(save("llama", tmp_path), intermediate_size=64)
    with pytest.raises(DamagedModelError, match=r"down_proj.weight is \[32, 48\], not \[32, 64\]"):
        read(tmp_path)


def test_a_config_of_a_much_larger_model_is_said_before_it_is_made_up(tmp_path, monkeypatch):
    folder = save("llama", tmp_path)
    monkeypatch.setattr(originals, "load_weights", lambda *place, **how: pytest.fail("built"))
    declare(folder, intermediate_size=1 << 20, hidden_size=1 << 17, num_hidden_layers=20)
    stored = tiny("llama").num_parameters()
    with pytest.raises(DamagedModelError, match=rf"describes .* [0-9]{{13}}.*files hold {stored}"):
        read(folder)


def test_everything_else_is_checked_before_a_weight_is_read(tmp_path, monkeypatch):
    def too_early(*arguments, **options):
        pytest.fail("the weights were read")

    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", too_early)
    folder = save_tiny(tmp_path / "tiny")
    with monkeypatch.context() as little:
        little.setattr(memory, "free_ram", lambda: 10_000)
        with pytest.raises(ModelMemoryError, match=r"tiny.*10 kB are free"):
            read(folder)
        with pytest.raises(ModelMemoryError, match="10 kB are free"):
            read(folder, device_map={"": "cpu"})
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(DamagedModelError, match=r"model\.safetensors"):
        read(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(DamagedModelError, match="tokenizer"):
        read(folder)

    def refuse(config):
        raise UnsupportedModelError(f"no {config.model_type}")

    with pytest.raises(UnsupportedModelError, match="no llama"):
        read(folder, accept=refuse)


def test_running_out_while_reading_is_said(tmp_path, monkeypatch):
    def out(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", out)
    with pytest.raises(ModelMemoryError, match=r"weights take .* in bfloat16"):
        read(save("llama", tmp_path), torch.bfloat16)


@pytest.mark.parametrize("device_map", [None, "cpu", {"": "cpu"}, "auto"])
def test_a_device_map_is_passed_on(device_map, tmp_path, monkeypatch):
    passed = {}
    whole = hf.AutoModelForCausalLM.from_pretrained

    def spy(place, **options):
        passed.update(options)
        return whole(place, **options)

    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", spy)
    model = read(save("llama", tmp_path), device_map=device_map).model
    assert passed["device_map"] == device_map
    assert torch.equal(model.lm_head.weight, tiny("llama").lm_head.weight)


CONFIG_CODE = """
from transformers import LlamaConfig
class OddConfig(LlamaConfig):
    model_type = "odd"
"""
MODEL_CODE = """
from transformers import LlamaForCausalLM
from .configuration_odd import OddConfig
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A model whose class is code in its own folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = save("llama", tmp_path / "odd")
    (folder / "configuration_odd.py").write_text(CONFIG_CODE)
    (folder / "modeling_odd.py").write_text(MODEL_CODE)
    classes = {"AutoConfig": "configuration_odd.OddConfig"}
    classes |= {"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}
    return declare(folder, model_type="odd", architectures=["OddForCausalLM"], auto_map=classes)


def test_code_of_the_models_own_runs_only_when_it_is_trusted(odd):
    said = r"code of its own \(modeling_odd\.OddForCausalLM\).*--trust-remote-code"
    with pytest.raises(UnsupportedModelError, match=said):
        read(odd)
    model = read(odd, trust_remote_code=True).model
    assert type(model).__name__ == "OddForCausalLM"
    assert torch.equal(model.lm_head.weight, tiny("llama").lm_head.weight)


def test_code_that_is_not_needed_never_runs(odd):
    (odd / "configuration_odd.py").write_text("raise SystemExit('it ran')")
    declare(odd, model_type="llama", architectures=["LlamaForCausalLM"])
    assert type(read(odd).model) is hf.LlamaForCausalLM
    assert type(read(odd, trust_remote_code=True).model) is hf.LlamaForCausalLM


FOUR_BITS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
FOUR_BITS = torch.cat([FOUR_BITS, -FOUR_BITS])


def pack_mxfp4(tensors):
    """Experts in blocks of 32 four-bit numbers with one power of two each; what they mean."""
    generator, dense = torch.Generator().manual_seed(0), {}
    for key in [key for key in tensors if key.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(key).shape
        shape = (experts, outputs, inputs // 32)
        codes = torch.randint(0, 16, (*shape, 32), generator=generator)
        scales = torch.randint(120, 126, shape, generator=generator)
        tensors[key + "_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        tensors[key + "_scales"] = scales.to(torch.uint8)
        values = FOUR_BITS[codes] * 2.0 ** (scales[..., None] - 127)
        dense[key] = values.reshape(experts, outputs, inputs).transpose(1, 2)
    return dense


def pack_fp8(tensors):
    """Matrices in eight bits with one scale per 128 x 128 block; what they mean."""
    dense = {}
    for key in [key for key in tensors if key.endswith("proj.weight")]:
        weight = tensors[key]
        rows, columns = (-(-size // 128) for size in weight.shape)
        scales, packed = torch.zeros(rows, columns), torch.zeros(weight.shape)
        for row in range(rows):
            for column in range(columns):
                block = (slice(128 * row, 128 * row + 128), slice(128 * column, 128 * column + 128))
                scales[row, column] = weight[block].abs().max() / 448
                packed[block] = weight[block] / scales[row, column]
        tensors[key] = packed.to(torch.float8_e4m3fn)
        tensors[key + "_scale_inv"] = scales
        wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
        dense[key] = tensors[key].float() * wide[: weight.shape[0], : weight.shape[1]]
    return dense


MOE = {"head_dim": 16, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
PACKED = {
    "mxfp4": (
        hf.GptOssConfig(**SMALL | {"hidden_size": 64, "intermediate_size": 32}, **MOE),
        *(pack_mxfp4, {"quant_method": "mxfp4"}),
    ),
    "fp8": (
        hf.LlamaConfig(**SMALL | {"hidden_size": 128, "intermediate_size": 256}, head_dim=32),
        pack_fp8,
        {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("config", "pack", "declared"), PACKED.values(), ids=PACKED)
def test_packed_weights_are_read_as_the_dense_numbers_that_they_mean(
    config, pack, declared, dtype, tmp_path
):
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    expected = dict(model.state_dict())
    edit(tmp_path, lambda tensors: expected.update(pack(tensors)))
    declare(tmp_path, quantization_config=declared)
    with pytest.warns(SinkWarning, match=declared["quant_method"]):
        found = read(tmp_path, dtype).model
    for key, value in expected.items():
        got = found.state_dict()[key]
        assert got.dtype == dtype
        torch.testing.assert_close(got, value.to(dtype), rtol=1e-6, atol=0, msg=key)
    assert getattr(found.config, "quantization_config", None) is None


MEASURE = """
import gc, json, sys
from pathlib import Path
import torch
from transformers import LlamaForCausalLM
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

peaks = []
for folder, dtype in json.loads(sys.argv[1]):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = status("VmRSS")
    model = read_original(resolve(folder), getattr(torch, dtype)).model
    with torch.no_grad():  # touch every page that is only mapped
        total = sum(float(parameter.sum()) for parameter in model.parameters())
    peaks.append(status("VmHWM") - before)
    del model
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@exhaustive
def test_reading_makes_no_second_copy_of_the_weights(tmp_path):
    """The file's pages count too: they are mapped once, beside the numbers made from them.

    In units of the weights that were asked for: once where the file holds them, half as much
    more where it holds them in half the size. (`ru_maxrss` of a child starts at its parent's.)
    """
    wide = SMALL | {"hidden_size": 1024, "intermediate_size": 4096, "vocab_size": 1000}
    model = hf.AutoModelForCausalLM.from_config(hf.LlamaConfig(**wide))
    parameters = model.num_parameters()
    cases = [("float32", "float32", 1.1), ("bfloat16", "float32", 1.6)]
    cases += [("bfloat16", "bfloat16", 1.2), ("float32", "bfloat16", 3.1)]
    for stored in ("float32", "bfloat16"):
        folder = tmp_path / stored
        model.to(getattr(torch, stored)).save_pretrained(folder, max_shard_size="20MB")
    del model
    asked = json.dumps([(str(tmp_path / stored), dtype) for stored, dtype, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, asked],
        **{"capture_output": True, "text": True, "check": True},
        cwd=Path(__file__).parents[3],
    )
    for (stored, dtype, most), peak in zip(cases, json.loads(done.stdout), strict=True):
        share = peak / model_size.weight_bytes(parameters, dtype)
        assert 0.9 < share < most, (stored, dtype)


TWICE = {
    "tokenizer_config.json": ('"tokenizer_class"', '"tokenizer_class": "Other", "tokenizer_class"'),
    "tokenizer.json": ('"vocab": {', '"vocab": {"a": 3, '),
}


@pytest.mark.parametrize("file", TWICE)
def test_a_tokenizer_with_a_key_twice_is_refused(file, tmp_path):
    folder = save_tiny(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(*TWICE[file], 1))
    with pytest.raises(DamagedModelError, match=rf"cannot be read: .*{file}.* appears twice"):
        read(folder)


SWAPPED = {"256": {"content": "</s>"}, "257": {"content": "<s>"}}
RIGHT = {"256": {"content": "<s>"}, "257": {"content": "</s>"}}


@pytest.mark.parametrize(
    ("decoder", "added", "said"),
    [
        (SWAPPED, None, r"_config\.json gives '</s>' the id 256, but .* has the id 257; copy"),
        ({"300": {"content": "new"}}, None, "gives 'new' the id 300, .* the id 258"),
        ({"-5": {"content": "new"}}, None, "gives 'new' the id -5"),
        ({"70": {"content": "<s>"}} | RIGHT, None, "gives '<s>' the id 70"),
        (RIGHT, {"<s>": 70}, r"added_tokens\.json gives '<s>' the id 70, .* the id 256"),
        (RIGHT, {"new": 300}, r"added_tokens\.json gives 'new' the id 300, .* has no id"),
        (RIGHT, {"</s>": 257, "<s>": 256}, None),
    ],
)
def test_added_tokens_to_which_two_files_give_two_ids_are_refused(decoder, added, said, tmp_path):
    folder = save_tiny(tmp_path)
    config = folder / "tokenizer_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"added_tokens_decoder": decoder})
    )
    if added is not None:
        (folder / "added_tokens.json").write_text(json.dumps(added))
    if said is None:
        assert read(folder).tokenizer("<s>")["input_ids"] == [256]
        return
    with pytest.raises(DamagedModelError, match=said):
        read(folder)


def beyond(content):
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "new"})


def shared(content):
    content["model"]["vocab"]["fo"] = 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (beyond, r"tokenizer\.json gives 'new' the id 300, .* has the id 258"),
        (shared, r"'.*' and '.*' have the same id, 5; copy"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(change, said, tmp_path):
    path = save_tiny(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedModelError, match=said):
        read(tmp_path)


@pytest.mark.parametrize("kind", [torch.int32, torch.bool])
def test_weights_that_are_whole_numbers_are_refused(kind, tmp_path):
    folder = save("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {key: value.to(kind) for key, value in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(DamagedModelError, match=r"weight '.*' in .* is stored as (I32|BOOL); exp"):
        read(folder)
