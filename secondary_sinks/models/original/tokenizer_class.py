"""A tokenizer on a hooked model, which then gives exactly what the tokenizer itself gives."""

from typing import Any


def attach_tokenizer(model: Any, tokenizer: Any) -> None:
    """Let `to_tokens` give what the tokenizer gives, a BOS token only where it adds one."""
    if tokenizer is not None:
        adds_bos = len(tokenizer.encode("")) > 0
        model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = adds_bos
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    model.tokenizer = tokenizer
