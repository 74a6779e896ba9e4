"""Words that a shell completes. They are written out here, since a key press must not load torch.

Tests compare them with the tables that they repeat.
"""

from collections.abc import Callable, Sequence

CRITERIA = ("joint", "paper")
DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
FEEDS = ("auto", "chat", "raw", "chat:lossy", "raw:lossy")
CHECKS = ("original", "patterns", "causality", "chunks")
FORMATS = ("csv", "parquet", "jsonl")
EXECUTORS = ("local", "ray")
LOG_FORMATS = ("text", "json")
EDITS = ("zero", "twins", "mean", "resample:", "scale:", "set_norm:", "none")
DONORS = ("twin", "sink")
TEXTS = ("bundled:introduction", "bundled:claims")
# fmt: off
SITES = (
    "mlp_out", "attn_out", "resid_post", "resid_pre", "mlp_in", "embed", "z", "post", "q", "k", "v",
    "attn_scores", "pattern",
)
QUESTIONS = (
    "all", "none", "circuit", "necessity", "sufficiency", "norm_dose", "redistribution",
    "restoration", "sparsity", "harm", "trigger", "writer", "reader_heads", "function", "eviction",
)
THRESHOLDS = (
    "aligned=", "outlying=", "attended=", "min_queries=", "persists=", "draws=", "primary_like=",
    "paper_first=", "paper_aligned=", "paper_noise=", "paper_margin=", "as_massive=",
    "another_primary=",
)
MODELS = (
    "smollm2-135m", "deepseek-r1-qwen-1.5b", "deepseek-r1-qwen-7b", "deepseek-r1-qwen-14b",
    "deepseek-r1-qwen-32b", "deepseek-r1-llama-8b", "gpt-oss-20b", "qwen3-0.6b",
    "qwen3-0.6b-base", "qwen3-1.7b", "qwen3-1.7b-base", "qwen3-4b", "qwen3-4b-base",
    "qwen3-4b-thinking-2507", "qwen3-4b-instruct-2507", "qwen3-8b", "qwen3-8b-base", "qwen3-14b",
    "qwen3-14b-base", "qwen3-30b-a3b", "qwen3-30b-a3b-base", "qwen3-32b", "qwen3-32b-base",
    "qwq-32b", "qwen2-1.5b", "qwen2-1.5b-instruct", "qwen2-7b", "qwen2-7b-instruct",
    "qwen2-math-1.5b", "qwen2-math-1.5b-instruct", "qwen2-math-7b", "qwen2-math-7b-instruct",
    "qwen2.5-1.5b", "qwen2.5-1.5b-instruct", "qwen2.5-3b", "qwen2.5-3b-instruct", "qwen2.5-7b",
    "qwen2.5-7b-instruct", "qwen2.5-14b", "qwen2.5-14b-instruct", "qwen2.5-32b",
    "qwen2.5-32b-instruct", "qwen2.5-math-1.5b", "qwen2.5-math-1.5b-instruct", "qwen2.5-math-7b",
    "qwen2.5-math-7b-instruct", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "llama-3.1-8b",
    "llama-3.1-8b-instruct", "llama-3-8b-instruct", "llama-2-7b", "llama-2-7b-chat",
    "llama-2-13b-chat", "llama-2-70b", "codellama-7b", "codellama-7b-instruct", "codellama-13b",
    "codellama-13b-instruct", "phi-4", "phi-4-reasoning", "phi-4-mini", "phi-4-mini-reasoning",
    "mathstral-7b",
)
# fmt: on


def words(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion that offers these words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


def lists(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion of words separated by commas, each offered once."""

    def complete(incomplete: str) -> list[str]:
        *before, last = incomplete.split(",")
        start = "".join(f"{word}," for word in before)
        rest = [word for word in known if word not in before]
        return [start + word for word in rest if word.startswith(last)]

    return complete


def paths(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion that offers these words, and files and folders."""

    def complete(incomplete: str) -> list[str]:
        from pathlib import Path

        before, slash, start = incomplete.rpartition("/")
        folder = Path(before + slash or ".")
        names = sorted(one.name + "/" * one.is_dir() for one in folder.glob("*"))
        there = [before + slash + name for name in names if name.startswith(start)]
        return [*words(known)(incomplete), *there]

    return complete
