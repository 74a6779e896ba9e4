"""Aliases of the paper's models, with their hub repositories and sizes.

The 11 families are those of Wong et al. 2025 (arXiv 2512.22213), with the members that the
authors' code names, and two coders of the family Qwen2.5 that are small enough for a laptop.
`parameters` counts every weight once, also where the embedding serves as unembedding, and all
experts of a mixture. The counts follow from the published configs; the tests count them again on
models built from those dimensions.
"""

import difflib
from dataclasses import dataclass

from secondary_sinks.errors import ModelError

EMBEDDED = "smollm2-135m"

QWEN2_5_0_5B, QWEN2_1_5B, QWEN2_7B = 494_032_768, 1_543_714_304, 7_615_616_512
QWEN2_5_3B, QWEN2_5_14B, QWEN2_5_32B = 3_085_938_688, 14_770_033_664, 32_763_876_352
QWEN3_0_6B, QWEN3_1_7B, QWEN3_4B = 596_049_920, 1_720_574_976, 4_022_468_096
QWEN3_8B, QWEN3_14B, QWEN3_32B = 8_190_735_360, 14_768_307_200, 32_762_123_264
QWEN3_30B_A3B = 30_532_122_624
LLAMA3_8B = 8_030_261_248
LLAMA2_7B, LLAMA2_13B, LLAMA2_70B = 6_738_415_616, 13_015_864_320, 68_976_648_192
CODELLAMA_7B, CODELLAMA_13B = 6_738_546_688, 13_016_028_160
PHI4, PHI4_MINI = 14_659_507_200, 3_836_021_760

# family -> (alias, hub repository, parameters)
_PAPER: dict[str, tuple[tuple[str, str, int], ...]] = {
    "DeepSeek-R1-Distill": (
        # its unembedding is not tied, unlike that of its base model
        ("deepseek-r1-qwen-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("deepseek-r1-qwen-7b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", QWEN2_7B),
        ("deepseek-r1-qwen-14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", QWEN2_5_14B),
        ("deepseek-r1-qwen-32b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", QWEN2_5_32B),
        ("deepseek-r1-llama-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", LLAMA3_8B),
    ),
    "gpt-oss": (("gpt-oss-20b", "openai/gpt-oss-20b", 20_914_757_184),),
    "Qwen3": (
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B", QWEN3_0_6B),
        ("qwen3-0.6b-base", "Qwen/Qwen3-0.6B-Base", QWEN3_0_6B),
        ("qwen3-1.7b", "Qwen/Qwen3-1.7B", QWEN3_1_7B),
        ("qwen3-1.7b-base", "Qwen/Qwen3-1.7B-Base", QWEN3_1_7B),
        ("qwen3-4b", "Qwen/Qwen3-4B", QWEN3_4B),
        ("qwen3-4b-base", "Qwen/Qwen3-4B-Base", QWEN3_4B),
        ("qwen3-4b-thinking-2507", "Qwen/Qwen3-4B-Thinking-2507", QWEN3_4B),
        ("qwen3-4b-instruct-2507", "Qwen/Qwen3-4B-Instruct-2507", QWEN3_4B),
        ("qwen3-8b", "Qwen/Qwen3-8B", QWEN3_8B),
        ("qwen3-8b-base", "Qwen/Qwen3-8B-Base", QWEN3_8B),
        ("qwen3-14b", "Qwen/Qwen3-14B", QWEN3_14B),
        ("qwen3-14b-base", "Qwen/Qwen3-14B-Base", QWEN3_14B),
        ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", QWEN3_30B_A3B),
        ("qwen3-30b-a3b-base", "Qwen/Qwen3-30B-A3B-Base", QWEN3_30B_A3B),
        ("qwen3-32b", "Qwen/Qwen3-32B", QWEN3_32B),
        ("qwen3-32b-base", "Qwen/Qwen3-32B-Base", QWEN3_32B),
    ),
    "QwQ": (("qwq-32b", "Qwen/QwQ-32B", QWEN2_5_32B),),
    "Qwen2": (
        ("qwen2-1.5b", "Qwen/Qwen2-1.5B", QWEN2_1_5B),
        ("qwen2-1.5b-instruct", "Qwen/Qwen2-1.5B-Instruct", QWEN2_1_5B),
        ("qwen2-7b", "Qwen/Qwen2-7B", QWEN2_7B),
        ("qwen2-7b-instruct", "Qwen/Qwen2-7B-Instruct", QWEN2_7B),
        ("qwen2-math-1.5b", "Qwen/Qwen2-Math-1.5B", QWEN2_1_5B),
        ("qwen2-math-1.5b-instruct", "Qwen/Qwen2-Math-1.5B-Instruct", QWEN2_1_5B),
        ("qwen2-math-7b", "Qwen/Qwen2-Math-7B", QWEN2_7B),
        ("qwen2-math-7b-instruct", "Qwen/Qwen2-Math-7B-Instruct", QWEN2_7B),
    ),
    "Qwen2.5": (
        ("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", QWEN2_1_5B),
        ("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct", QWEN2_1_5B),
        ("qwen2.5-3b", "Qwen/Qwen2.5-3B", QWEN2_5_3B),
        ("qwen2.5-3b-instruct", "Qwen/Qwen2.5-3B-Instruct", QWEN2_5_3B),
        ("qwen2.5-7b", "Qwen/Qwen2.5-7B", QWEN2_7B),
        ("qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct", QWEN2_7B),
        ("qwen2.5-14b", "Qwen/Qwen2.5-14B", QWEN2_5_14B),
        ("qwen2.5-14b-instruct", "Qwen/Qwen2.5-14B-Instruct", QWEN2_5_14B),
        ("qwen2.5-32b", "Qwen/Qwen2.5-32B", QWEN2_5_32B),
        ("qwen2.5-32b-instruct", "Qwen/Qwen2.5-32B-Instruct", QWEN2_5_32B),
        ("qwen2.5-math-1.5b", "Qwen/Qwen2.5-Math-1.5B", QWEN2_1_5B),
        ("qwen2.5-math-1.5b-instruct", "Qwen/Qwen2.5-Math-1.5B-Instruct", QWEN2_1_5B),
        ("qwen2.5-math-7b", "Qwen/Qwen2.5-Math-7B", QWEN2_7B),
        ("qwen2.5-math-7b-instruct", "Qwen/Qwen2.5-Math-7B-Instruct", QWEN2_7B),
        ("qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B-Instruct", QWEN2_5_0_5B),
        ("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct", QWEN2_1_5B),
    ),
    "Llama 3": (
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", LLAMA3_8B),
        ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", LLAMA3_8B),
        ("llama-3-8b-instruct", "meta-llama/Meta-Llama-3-8B-Instruct", LLAMA3_8B),
    ),
    "Llama 2": (
        ("llama-2-7b", "meta-llama/Llama-2-7b-hf", LLAMA2_7B),
        ("llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", LLAMA2_7B),
        ("llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf", LLAMA2_13B),
        ("llama-2-70b", "meta-llama/Llama-2-70b-hf", LLAMA2_70B),
    ),
    "CodeLlama": (
        ("codellama-7b", "codellama/CodeLlama-7b-hf", CODELLAMA_7B),
        ("codellama-7b-instruct", "codellama/CodeLlama-7b-Instruct-hf", CODELLAMA_7B),
        ("codellama-13b", "codellama/CodeLlama-13b-hf", CODELLAMA_13B),
        ("codellama-13b-instruct", "codellama/CodeLlama-13b-Instruct-hf", CODELLAMA_13B),
    ),
    "Phi-4": (
        ("phi-4", "microsoft/phi-4", PHI4),
        ("phi-4-reasoning", "microsoft/Phi-4-reasoning", PHI4),
        ("phi-4-mini", "microsoft/Phi-4-mini-instruct", PHI4_MINI),
        ("phi-4-mini-reasoning", "microsoft/Phi-4-mini-reasoning", PHI4_MINI),
    ),
    "Mathstral": (("mathstral-7b", "mistralai/Mathstral-7B-v0.1", 7_248_023_552),),
}

AUTHORS_NAMES = {
    **{f"deepseek-{size}b": f"deepseek-r1-qwen-{size}b" for size in ("1.5", "7", "14", "32")},
    "deepseek-8b": "deepseek-r1-llama-8b",
    "gpt-20b": "gpt-oss-20b",
    "qwen3-4b-thinking": "qwen3-4b-thinking-2507",
    "qwen3-4b-instruct": "qwen3-4b-instruct-2507",
    "qwen3-30b": "qwen3-30b-a3b",
    "qwen3-30b-base": "qwen3-30b-a3b-base",
    **{f"llama3{rest}": f"llama-3{rest}" for rest in (".1-8b", ".1-8b-instruct", "-8b-instruct")},
    **{f"llama2-{rest}": f"llama-2-{rest}" for rest in ("7b", "7b-chat", "13b-chat", "70b")},
    "phi4-15b": "phi-4",
    "phi4-15b-reasoning": "phi-4-reasoning",
    "phi4-4b-instruct": "phi-4-mini",
    "phi4-4b-reasoning": "phi-4-mini-reasoning",
}
"""Name of a model in the authors' code -> its alias, if the two differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the paper: its alias, hub repository, family and number of weights."""

    alias: str
    repository: str
    family: str
    parameters: int


ENTRIES: tuple[Entry, ...] = tuple(
    Entry(alias=alias, repository=repository, family=family, parameters=parameters)
    for family, members in _PAPER.items()
    for alias, repository, parameters in members
)
FAMILIES: tuple[str, ...] = tuple(_PAPER)


def find(name: str) -> Entry | None:
    """The entry with this alias, authors' name or repository name, in any case; else None.

    >>> find("Qwen3-14B").repository
    'Qwen/Qwen3-14B'
    >>> find("deepseek-r1-distill-qwen-14b").alias
    'deepseek-r1-qwen-14b'
    >>> find("deepseek-14b").alias
    'deepseek-r1-qwen-14b'
    """
    wanted = AUTHORS_NAMES.get(name.lower(), name.lower())
    for entry in ENTRIES:
        if wanted in {entry.alias, entry.repository.split("/")[1].lower()}:
            return entry
    return None


def similar_aliases(name: str) -> list[str]:
    """Up to three aliases that look like `name`, the most similar first.

    >>> similar_aliases("qwen3-14")[0]
    'qwen3-14b'
    """
    aliases = [EMBEDDED, *(entry.alias for entry in ENTRIES)]
    return difflib.get_close_matches(name.lower().split("/")[-1], aliases, n=3, cutoff=0.7)


def family(name: str) -> tuple[Entry, ...]:
    """The members of a family, by its name in any case and with or without spaces.

    Raises `ModelError` with the names of the families for any other name.

    >>> [entry.alias for entry in family("llama2")]
    ['llama-2-7b', 'llama-2-7b-chat', 'llama-2-13b-chat', 'llama-2-70b']
    """
    found = tuple(entry for entry in ENTRIES if _plain(entry.family) == _plain(name))
    if not found:
        raise ModelError(f"unknown family {name!r}", f"expected one of {', '.join(FAMILIES)}")
    return found


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
