"""The largest sizes that a config or a GGUF header may state, checked before anything is built.

A wrong size in a small file would make the reader build thousands of layers or huge tables before
it notices that weights are missing. Each limit is far above every published model.
"""

from collections.abc import Mapping
from typing import Any

LAYERS, WIDTH, MLP, HEADS, HEAD_WIDTH = 1_000, 1 << 17, 1 << 20, 1 << 12, 1 << 14
TOKENS, POSITIONS, EXPERTS = 1 << 24, 1 << 24, 1 << 14

WEIGHTS = 10**13
"""Of a whole model; the largest that was published has some 10^12."""

MOST: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "block_count"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "embedding_length"), WIDTH),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "n_inner"), MLP),
    **dict.fromkeys(("feed_forward_length", "expert_feed_forward_length"), MLP),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), HEADS),
    **dict.fromkeys(("attention.head_count", "attention.head_count_kv"), HEADS),
    **dict.fromkeys(("head_dim", "attention.key_length", "attention.value_length"), HEAD_WIDTH),
    **dict.fromkeys(("rope.dimension_count",), HEAD_WIDTH),
    "vocab_size": TOKENS,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "context_length"), POSITIONS),
    **dict.fromkeys(("num_experts", "num_local_experts", "expert_count"), EXPERTS),
    **dict.fromkeys(("num_experts_per_tok", "expert_used_count"), EXPERTS),
}
EXPERT_COUNTS = ("num_local_experts", "num_experts")
MAY_BE_ZERO = ("expert",)
"""Parts of the names of sizes that are 0 in a model without experts."""


def impossible_size(fields: Mapping[str, Any]) -> str:
    """The first size that is out of its limits, in words; empty if there is none.

    >>> impossible_size({"num_hidden_layers": 10_000})
    'num_hidden_layers is 10000; expected 1 to 1000'
    """
    for name, most in MOST.items():
        value = fields.get(name)
        least = 0 if any(part in name for part in MAY_BE_ZERO) else 1
        if isinstance(value, int | float) and not least <= value <= most:
            return f"{name} is {value}; expected {least} to {most}"
    per_token = fields.get("num_experts_per_tok")
    counts = (fields[name] for name in EXPERT_COUNTS if fields.get(name) is not None)
    n_experts = next(counts, None)
    if isinstance(per_token, int) and isinstance(n_experts, int) and 0 < n_experts < per_token:
        return f"num_experts_per_tok is {per_token}; expected at most the {n_experts} experts"
    return ""


def largest_sizes(fields: Mapping[str, Any], n: int = 3) -> str:
    """The sizes that make a model as large as it is, the one nearest to its limit first.

    >>> largest_sizes({"hidden_size": 100_000, "num_hidden_layers": 2, "vocab_size": 258})
    'hidden_size 100000, num_hidden_layers 2, vocab_size 258'
    """
    shares = {
        name: fields[name] / most
        for name, most in MOST.items()
        if isinstance(fields.get(name), int | float) and "position" not in name
    }
    names = sorted(shares, key=lambda name: -shares[name])[:n]
    return ", ".join(f"{name} {fields[name]}" for name in names)
