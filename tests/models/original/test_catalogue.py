"""The paper's models: every size counted again on a model of the published dimensions."""

import pytest
import transformers as hf

from secondary_sinks.errors import ModelError
from secondary_sinks.models import model_size
from secondary_sinks.models.original import catalogue
from secondary_sinks.models.original.catalogue import (
    ENTRIES,
    FAMILIES,
    family,
    find,
    similar_aliases,
)
from secondary_sinks.models.original.sources import resolve

PAPER = {
    *("DeepSeek-R1-Distill", "gpt-oss", "Qwen3", "QwQ", "Qwen2", "Qwen2.5", "Llama 3", "Llama 2"),
    *("CodeLlama", "Phi-4", "Mathstral"),
}


def dims(kind, width, mlp, layers, heads, kv, vocab, tied=False, **more):
    """A config by its published dimensions: width, MLP width, layers, heads, KV heads, tokens."""
    return kind(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        vocab_size=vocab,
        tie_word_embeddings=tied,
        pad_token_id=0,
        **more,
    )


def qwen2(*sizes, vocab=152064, tied=False):
    return dims(hf.Qwen2Config, *sizes, vocab, tied)


def qwen3(*sizes, tied=False):
    return dims(hf.Qwen3Config, *sizes, 151936, tied, head_dim=128)


QWEN2_1_5B = (1536, 8960, 28, 12, 2)
QWEN2_7B, QWEN2_5_14B = (3584, 18944, 28, 28, 4), (5120, 13824, 48, 40, 8)
QWEN2_5_32B = (5120, 27648, 64, 40, 8)
LLAMA_8B = dims(hf.LlamaConfig, 4096, 14336, 32, 32, 8, 128256)
LLAMA_7B, LLAMA_13B = (4096, 11008, 32, 32, 32), (5120, 13824, 40, 40, 40)
SMALL_QWEN2, LARGE_QWEN2 = qwen2(*QWEN2_1_5B, vocab=151936, tied=True), qwen2(*QWEN2_7B)
QWEN3_4B = qwen3(2560, 9728, 36, 32, 8, tied=True)
PHI4 = dims(hf.Phi3Config, 5120, 17920, 40, 40, 10, 100352)
# beginnings of aliases -> config; the longest that fits counts
CONFIGS = {
    "deepseek-r1-qwen-1.5b": qwen2(*QWEN2_1_5B, vocab=151936),
    "deepseek-r1-qwen-7b": LARGE_QWEN2,
    "deepseek-r1-qwen-14b": qwen2(*QWEN2_5_14B),
    "deepseek-r1-qwen-32b": qwen2(*QWEN2_5_32B),
    "deepseek-r1-llama-8b": LLAMA_8B,
    "gpt-oss-20b": dims(
        *(hf.GptOssConfig, 2880, 2880, 24, 64, 8, 201088),
        **{"head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4},
    ),
    "qwen3-0.6b": qwen3(1024, 3072, 28, 16, 8, tied=True),
    "qwen3-1.7b": qwen3(2048, 6144, 28, 16, 8, tied=True),
    "qwen3-4b": QWEN3_4B,
    "qwen3-8b": qwen3(4096, 12288, 36, 32, 8),
    "qwen3-14b": qwen3(5120, 17408, 40, 40, 8),
    "qwen3-32b": qwen3(5120, 25600, 64, 64, 8),
    "qwen3-30b-a3b": dims(
        *(hf.Qwen3MoeConfig, 2048, 6144, 48, 32, 4, 151936),
        **{"head_dim": 128, "num_experts": 128, "moe_intermediate_size": 768},
    ),
    "qwq-32b": qwen2(*QWEN2_5_32B),
    "qwen2-1.5b": SMALL_QWEN2,
    "qwen2-7b": LARGE_QWEN2,
    "qwen2-math-1.5b": SMALL_QWEN2,
    "qwen2-math-7b": LARGE_QWEN2,
    "qwen2.5-1.5b": SMALL_QWEN2,
    "qwen2.5-3b": qwen2(2048, 11008, 36, 16, 2, vocab=151936, tied=True),
    "qwen2.5-7b": LARGE_QWEN2,
    "qwen2.5-14b": qwen2(*QWEN2_5_14B),
    "qwen2.5-32b": qwen2(*QWEN2_5_32B),
    "qwen2.5-math-1.5b": SMALL_QWEN2,
    "qwen2.5-coder-0.5b": qwen2(896, 4864, 24, 14, 2, vocab=151936, tied=True),
    "qwen2.5-coder-1.5b": SMALL_QWEN2,
    "qwen2.5-math-7b": LARGE_QWEN2,
    "llama-3": LLAMA_8B,
    "llama-2-7b": dims(hf.LlamaConfig, *LLAMA_7B, 32000),
    "llama-2-13b": dims(hf.LlamaConfig, *LLAMA_13B, 32000),
    "llama-2-70b": dims(hf.LlamaConfig, 8192, 28672, 80, 64, 8, 32000),
    "codellama-7b": dims(hf.LlamaConfig, *LLAMA_7B, 32016),
    "codellama-13b": dims(hf.LlamaConfig, *LLAMA_13B, 32016),
    "phi-4": PHI4,
    "phi-4-mini": dims(hf.Phi3Config, 3072, 8192, 32, 24, 8, 200064, tied=True),
    "mathstral-7b": dims(hf.MistralConfig, 4096, 14336, 32, 32, 8, 32768),
}


def count(config):
    """Parameters of a deep model from those of shallow ones: every layer has as many."""
    depth, counts = config.num_hidden_layers, []
    for layers in (2, 3):
        shallow = config.to_dict() | {"num_hidden_layers": layers, "layer_types": None}
        counts.append(model_size.count_parameters(type(config)(**shallow)))
    return counts[0] + (depth - 2) * (counts[1] - counts[0])


def test_every_size_is_that_of_a_model_of_the_published_dimensions():
    sizes = {start: count(config) for start, config in CONFIGS.items()}
    for entry in ENTRIES:
        start = max((start for start in CONFIGS if entry.alias.startswith(start)), key=len)
        assert entry.parameters == sizes[start], entry.alias


def test_counting_shallow_models_is_counting_the_whole_one():
    assert count(QWEN3_4B) == model_size.count_parameters(QWEN3_4B) == catalogue.QWEN3_4B


def test_the_families_are_those_of_the_paper_and_no_name_is_twice():
    assert set(FAMILIES) == PAPER == {entry.family for entry in ENTRIES}
    assert len(FAMILIES) == 11
    aliases = [entry.alias for entry in ENTRIES]
    assert len(set(aliases)) == len({entry.repository for entry in ENTRIES}) == len(ENTRIES)
    assert all(alias == alias.lower() and "/" not in alias for alias in aliases)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.alias)
def test_an_alias_in_any_case_and_the_repositorys_own_name_find_it(entry):
    own = entry.repository.split("/")[1]
    for name in (entry.alias, entry.alias.upper(), own, own.lower()):
        assert find(name) == entry


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("deepseek-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
        ("deepseek-14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
        ("deepseek-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        ("gpt-20b", "openai/gpt-oss-20b"),
        ("qwen3-4b-thinking", "Qwen/Qwen3-4B-Thinking-2507"),
        ("qwen3-30b-base", "Qwen/Qwen3-30B-A3B-Base"),
        ("Qwen3-32B-Base", "Qwen/Qwen3-32B-Base"),
        ("llama3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama3-8b-instruct", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("Llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
        ("llama2-70b", "meta-llama/Llama-2-70b-hf"),
        ("qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        ("PHI4-15B", "microsoft/phi-4"),
        ("phi4-4b-instruct", "microsoft/Phi-4-mini-instruct"),
        ("Phi-4-mini-reasoning", "microsoft/Phi-4-mini-reasoning"),
    ],
)
def test_names_of_the_authors_code_resolve(name, repository):
    assert resolve(name).path == repository


AUTHORS = """
    deepseek-1.5b deepseek-7b deepseek-8b deepseek-14b deepseek-32b gpt-20b qwq-32b mathstral-7b
    qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b qwen3-14b qwen3-32b qwen3-30b
    qwen3-0.6b-base qwen3-1.7b-base qwen3-4b-base qwen3-8b-base qwen3-14b-base qwen3-32b-base
    qwen3-30b-base qwen3-4b-thinking qwen3-4b-instruct
    qwen2-1.5b qwen2-7b qwen2-math-1.5b qwen2-math-7b
    qwen2-1.5b-instruct qwen2-7b-instruct qwen2-math-1.5b-instruct qwen2-math-7b-instruct
    qwen2.5-1.5b qwen2.5-7b qwen2.5-14b qwen2.5-32b qwen2.5-math-1.5b qwen2.5-math-7b
    qwen2.5-1.5b-instruct qwen2.5-7b-instruct qwen2.5-14b-instruct qwen2.5-32b-instruct
    qwen2.5-math-1.5b-instruct qwen2.5-math-7b-instruct
    llama3.1-8b llama3.1-8b-instruct llama3-8b-instruct llama2-7b llama2-7b-chat llama2-13b-chat
    llama2-70b codellama-7b codellama-7b-instruct codellama-13b codellama-13b-instruct
    phi4-15b phi4-15b-reasoning phi4-4b-instruct phi4-4b-reasoning
"""
"""All names in the model dictionary of the authors' code."""


def test_every_name_of_the_authors_dictionary_is_a_model_of_its_own():
    repositories = [resolve(name).path for name in AUTHORS.split()]
    assert len(set(repositories)) == len(repositories) == 59


def test_no_name_of_the_authors_is_that_of_another_model():
    aliases = {entry.alias for entry in ENTRIES}
    own = {entry.repository.split("/")[1].lower() for entry in ENTRIES}
    assert set(catalogue.AUTHORS_NAMES.values()) <= aliases
    assert not set(catalogue.AUTHORS_NAMES) & (aliases | own)


def test_a_family_is_found_however_it_is_written_and_others_are_said():
    for name in ("Qwen2.5", "qwen2.5", "QWEN 2.5"):
        assert {entry.family for entry in family(name)} == {"Qwen2.5"}
    with pytest.raises(ModelError, match=r"'qwen9'.*Mathstral"):
        family("qwen9")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("qwen3-14", "qwen3-14b"),
        ("deepseek-14b", "deepseek-r1-qwen-14b"),
        ("someone/QwQ-32", "qwq-32b"),
        ("smollm-135m", "smollm2-135m"),
    ],
)
def test_similar_names_are_found(name, first):
    assert similar_aliases(name)[0] == first


def test_what_looks_like_nothing_has_no_similar_aliases():
    assert similar_aliases("nonsense") == []
