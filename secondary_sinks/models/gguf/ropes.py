"""The scaled ropes of Llama 3.1 and later in GGUF files, which transformers does not read.

llama.cpp stores them as one divisor per frequency (`rope_freqs.weight`), not as the parameters
that they were made from. These are known for the published models, and are taken over when they
give exactly the stored divisors.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secondary_sinks.models.gguf.header import GgufHeader

DIVISORS = "rope_freqs.weight"
FLOAT32 = 0
# of Llama 3.1 (and 3.3), and of Llama 3.2
PUBLISHED = tuple(
    {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for factor in (8.0, 32.0)
)


def adopt_llama3(header: GgufHeader, path: Path, config: Any) -> int:
    """Give the config the rope whose divisors the file holds; how many numbers that accounts for.

    0 where the file holds none, or none of a published model: the config stays as it was.
    """
    tensor = header.tensors.get(DIVISORS)
    if tensor is None or tensor.kind != FLOAT32 or config.model_type != "llama":
        return 0
    stored = np.fromfile(path, dtype="<f4", count=tensor.values, offset=tensor.start)
    for parameters in PUBLISHED:
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
