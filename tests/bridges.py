"""Tiny TransformerBridges, which wrap a Hugging Face model in place."""

import transformers as hf

from tests.families import tiny
from tests.tiny import tiny_tokenizer


def bridge(name, folder, seed=0):
    """The bridge of a variant of `tests.families`; it needs a tokenizer loaded from disk."""
    from transformer_lens.model_bridge import TransformerBridge

    tiny_tokenizer().save_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    return TransformerBridge.boot_transformers(
        name, hf_model=tiny(name, seed), tokenizer=tokenizer, device="cpu"
    )
