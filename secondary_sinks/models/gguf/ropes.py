"""Scaled ropes of Llama 3.1 and later in GGUF files, which transformers does not read.

llama.cpp stores one divisor per frequency (`rope_freqs.weight`), not the parameters that the
divisors were computed from. The parameters of the published models are known, and are used if they
give exactly the stored divisors.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secondary_sinks.models.gguf.parser import GgufHeader

DIVISORS = "rope_freqs.weight"
FLOAT32 = 0
PUBLISHED_SCALINGS = tuple(
    {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for factor in (8.0, 32.0)
)
"""`rope_parameters` of Llama 3.1 and 3.3, and of Llama 3.2."""


def set_llama3_rope(header: GgufHeader, path: Path, config: Any) -> int:
    """Set the scaled rope whose divisors the file holds; returns the number of divisors used.

    Returns 0 and leaves the config unchanged if the file has no divisors, or other ones than those
    of a published model.
    """
    tensor = header.tensors.get(DIVISORS)
    if tensor is None or tensor.kind != FLOAT32 or config.model_type != "llama":
        return 0
    stored = np.fromfile(path, dtype="<f4", count=tensor.values, offset=tensor.start)
    for parameters in PUBLISHED_SCALINGS:
        scaled = copy.deepcopy(config)
        scaled.rope_parameters = {**config.rope_parameters, **parameters}
        expected = (_frequencies(config) / _frequencies(scaled)).numpy()
        if expected.shape == stored.shape and np.allclose(stored, expected, rtol=1e-5):
            config.rope_parameters = scaled.rope_parameters
            return tensor.values
    return 0


def _frequencies(config: Any) -> torch.Tensor:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    return LlamaRotaryEmbedding(config).inv_freq.double()
