"""What long texts cost: memory grows with the text and with nothing else."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from secondary_sinks import load_model
from tests.marks import exhaustive
from tools import long_texts
from tools.long_texts import Cost, table

ROOT = Path(__file__).parents[2]


def small(n_ctx, n_layers=2):
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=n_ctx,
    )
    torch.manual_seed(0)
    original = transformers.AutoModelForCausalLM.from_config(config).eval()
    original.config.architectures = [type(original).__name__]
    return load_model(original, device="cpu")


@exhaustive
def test_a_text_of_8192_tokens_needs_a_fifth_of_one_pattern():
    """One pattern has 1,024 MiB; scores at once have 32 here, and so has their softmax.

    In a process of its own: the heap of this one has a history.
    """
    code = """
from tools.long_texts import measure
from tests.tools.test_long_texts import small
print(measure(small(8192), 8192).peak_mib)
"""
    child = [sys.executable, "-c", code]
    done = subprocess.run(child, capture_output=True, text=True, check=True, cwd=ROOT)
    assert 20 < float(done.stdout) < 205


@exhaustive
@pytest.mark.real
def test_the_real_model_is_given_room_and_nothing_else_is_changed(smollm2):
    model = long_texts.long_model(9000)
    assert model.cfg.n_ctx == 9000
    tokens = torch.arange(1, 40)[None]
    torch.testing.assert_close(model(tokens), smollm2(tokens), rtol=0, atol=0)


def test_the_table_says_what_was_measured():
    cost = Cost(
        n_pos=1000, chunk=9, seconds=7.6, cpu_seconds=3.0, peak_mib=math.nan, pattern_mib=2e3
    )
    assert table([cost]).splitlines()[2] == "| 1,000 | 9 | 8 s | 3 s | nan MiB | 2,000 MiB |"
