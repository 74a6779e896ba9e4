"""Who a model is: a hash of its weights, so that results can name what they were measured on."""

import hashlib
from typing import Any

import torch


def weight_hash(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters, in order of name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        tensor = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(memoryview(tensor.view(torch.uint8).numpy().reshape(-1)))
    return digest.hexdigest()
