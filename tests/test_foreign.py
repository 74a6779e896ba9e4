"""Code of others: no folder makes it run, no question is asked, no call goes around the door."""

import ast
import builtins
import json
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from transformers import dynamic_module_utils

from secondary_sinks import foreign
from secondary_sinks.errors import TextError, UnsupportedModelError
from secondary_sinks.models.gguf import cache as gguf_cache
from secondary_sinks.models.original.read import outline, read_original
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.testing.families import save
from secondary_sinks.texts.data_sets import read_data_set
from tests.models.gguf.files import tiny_model, write
from tests.tiny import save_tiny

DOOR = Path(foreign.__file__)
ROOTS = (DOOR.parent, DOOR.parents[1] / "experiments")
READS = {
    *("from_pretrained", "from_config", "load_dataset", "load_dataset_builder", "load_from_disk"),
    *("from_pretrained_no_processing", "boot_transformers", "get_class_from_dynamic_module"),
    *("load_custom_generate", "get_kernel"),
}
"""Calls that may run what they read, of transformers, datasets and transformer_lens."""
NAMES = ("Auto", "pipeline")


def foreign_calls(source):
    """Line and name of each call or name in a source that may run code which it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            owner = getattr(node.func, "value", None)
            unsafe = name == "load" and isinstance(owner, ast.Name)
            if name in READS or (unsafe and owner.id in {"torch", "pickle", "joblib"}):
                yield node.lineno, name
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
            auto = [alias.name for alias in node.names if alias.name.startswith(NAMES)]
            yield from ((node.lineno, name) for name in auto)
        if isinstance(node, ast.Attribute) and node.attr.startswith("Auto"):
            yield node.lineno, node.attr


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_no_call_goes_around_the_door(root):
    files = [file for file in root.rglob("*.py") if file != DOOR]
    assert len(files) > 10
    found = {file: list(foreign_calls(file.read_text(encoding="utf-8"))) for file in files}
    assert {file: calls for file, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "line",
    [
        "hf.AutoModel.from_pretrained(place)",
        "hf.LlamaForCausalLM.from_pretrained(place)",
        "from transformers import AutoTokenizer",
        "from transformers import pipeline",
        "datasets.load_dataset('a')",
        "torch.load('a')",
        "a = transformers.AutoConfig",
    ],
)
def test_a_call_around_the_door_would_be_found(line):
    assert list(foreign_calls(line))


def test_each_call_of_the_door_says_whether_code_may_run():
    calls = [node for node in ast.walk(ast.parse(DOOR.read_text())) if isinstance(node, ast.Call)]
    reads = [call for call in calls if getattr(call.func, "attr", None) in READS]
    assert len(reads) >= 5
    for call in reads:
        said = "trust_remote_code" in {word.arg for word in call.keywords}
        assert said or call.func.attr == "load_from_disk", "it has no such argument"


EVIL = """
from pathlib import Path
Path(__file__).with_name("it-ran").touch()
Path({mark!r}).touch()
class Evil: pass
"""
MAPS = {
    "AutoConfig": "evil.Evil",
    "AutoModelForCausalLM": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    "AutoProcessor": "evil.Evil",
}


@pytest.fixture(autouse=True)
def sealed(tmp_path, monkeypatch):
    """No code of the test's folders runs, and nothing is asked."""
    mark = tmp_path / "it-ran"
    code = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(code))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(gguf_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *words: asked.append(words) or "y")
    yield mark
    assert not asked
    assert not mark.exists()
    assert not list(tmp_path.rglob("it-ran"))
    places = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    assert not [place for place in places if place.startswith(str(tmp_path))]


def hostile(folder, mark):
    """Each file in which a folder may name code, and that code."""
    folder.mkdir(exist_ok=True, parents=True)
    for name in ("evil.py", "custom_generate/generate.py", f"{folder.name}.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(EVIL.format(mark=str(mark)))
    for name in ("tokenizer_config", "processor_config", "preprocessor_config"):
        say(folder / f"{name}.json", tokenizer_class="Evil", processor_class="Evil", auto_map=MAPS)
    say(folder / "generation_config.json", custom_generate="evil", auto_map=MAPS)
    (folder / "requirements.txt").write_text("surely-not-installed\n")
    return folder


def say(path, **fields):
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | fields))


def read(place):
    return read_original(resolve(str(place)), torch.float32)


def test_a_gguf_file_is_read_without_its_neighbours(tmp_path, sealed):
    folder = hostile(tmp_path / "evil", sealed)
    say(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.EvilTok", None]})
    say(folder / "config.json", model_type="evil", auto_map=MAPS)
    (folder / "chat_template.jinja").write_text("another text")
    model = tiny_model("llama")
    original = read(write(folder / "m.gguf", model, "llama"))
    assert torch.equal(original.model.lm_head.weight, model.lm_head.weight)
    assert original.tokenizer.convert_tokens_to_ids("AB") == 96
    assert original.tokenizer.chat_template is None


def test_a_model_of_a_known_type_runs_none_of_the_code_next_to_it(tmp_path, sealed):
    folder = save_tiny(tmp_path / "evil")
    before = hf.AutoTokenizer.from_pretrained(folder)("the fox")["input_ids"]
    named = (folder / "tokenizer_config.json").read_text()
    hostile(folder, sealed)
    say(folder / "config.json", auto_map=MAPS)
    with pytest.raises(UnsupportedModelError, match="code of its own"):
        read(folder)
    (folder / "tokenizer_config.json").write_text(named)
    original = read(folder)
    assert type(original.model) is hf.LlamaForCausalLM
    assert original.tokenizer("the fox")["input_ids"] == before
    assert outline(resolve(str(folder))).n_layers == original.model.config.num_hidden_layers


KINDS = {
    "an unknown type": {"model_type": "evil", "architectures": ["EvilForCausalLM"]},
    "a type without a causal model": {"model_type": "vit", "architectures": ["LlamaForCausalLM"]},
    "code of another repository": {
        "model_type": "evil",
        "auto_map": {key: f"someone/else--{value}" for key, value in MAPS.items()},
    },
}


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("how", [read, lambda place: outline(resolve(str(place)))])
def test_a_model_that_needs_its_own_code_is_refused(fields, how, tmp_path, sealed):
    folder = hostile(save("llama", tmp_path / "evil"), sealed)
    say(folder / "config.json", **{"auto_map": MAPS} | fields)
    with pytest.raises(UnsupportedModelError, match=r"code of its own.*--trust-remote-code"):
        how(folder)


def test_a_tokenizer_that_needs_its_own_code_is_refused(tmp_path, sealed):
    folder = hostile(tmp_path / "evil", sealed)
    with pytest.raises(UnsupportedModelError, match=r"code of its own.*--trust-remote-code"):
        foreign.load_tokenizer(folder, trusted=False)


def test_a_config_that_names_a_kernel_is_built_without_it(tmp_path, sealed):
    folder = save("llama", tmp_path / "evil")
    kernel = {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"}
    say(folder / "config.json", **kernel)
    assert outline(resolve(str(folder))).parameters == read(folder).model.num_parameters()


def test_importing_a_module_of_a_model_raises_wherever_it_is_tried(tmp_path, sealed):
    folder = hostile(tmp_path / "evil", sealed)
    with foreign._guard(folder, trusted=False):
        with pytest.raises(UnsupportedModelError, match="code of its own"):
            dynamic_module_utils.get_class_from_dynamic_module("evil.Evil", folder)
        with pytest.raises(UnsupportedModelError, match="code of its own"):
            dynamic_module_utils.get_class_in_module("Evil", folder / "evil.py")
        with pytest.raises(ValueError, match="trust_remote_code"):
            dynamic_module_utils.resolve_trust_remote_code(None, "evil", False, True)


def test_a_data_set_folder_with_a_loading_script_runs_none_of_it(tmp_path, sealed, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = hostile(tmp_path / "evil", sealed)
    for name in ("evil", "./evil", str(folder), "evil/evil.py", "someone/evil"):
        with pytest.raises(TextError):
            read_data_set(f"hf:{name}:train:text")
        with pytest.raises(Exception):  # noqa: B017, PT011 (each kind of name has its own)
            foreign.load_data_set(name, "train")


def test_an_adapter_is_never_asked_for(tmp_path):
    from transformers.utils.peft_utils import find_adapter_config_file

    (tmp_path / "adapter_config.json").write_text("{}")
    assert find_adapter_config_file(str(tmp_path))
    assert find_adapter_config_file(str(tmp_path), **foreign.NO_ADAPTER) is None
