"""What loading takes, measured in a process of its own."""

import sys

import pytest
import transformers as hf

from secondary_sinks.errors import ModelError
from secondary_sinks.models import model_size
from secondary_sinks.testing.families import SMALL
from tests.marks import thinned
from tools.loading import Loading, measure, table

ROWS = 2**15


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", thinned(["float32", "bfloat16"], []))
def test_the_peak_holds_the_weights_and_stays_within_the_promise(dtype, tmp_path):
    wide = SMALL | {"hidden_size": 512, "intermediate_size": 4096, "vocab_size": ROWS}
    wide |= {"num_hidden_layers": 8}
    model = hf.AutoModelForCausalLM.from_config(hf.LlamaConfig(**wide))
    model.save_pretrained(tmp_path)
    found = measure(str(tmp_path), dtype)
    assert found.weights_mib == model.num_parameters() * model_size.BYTES[dtype] / 2**20
    assert 0.9 < found.ratio <= model_size.LOADING_PEAK


def test_a_model_that_cannot_be_read_is_refused_before_any_process(tmp_path):
    with pytest.raises(ModelError, match="config"):
        measure(str(tmp_path))


def test_the_table_says_what_was_measured():
    found = Loading(dtype="float16", model_class="Bridge", weights_mib=2000.0, peak_mib=3130.0)
    row = table([found]).splitlines()[-1]
    assert row == "| float16 | Bridge | 2,000 MiB | 3,130 MiB | 1.56 |"
