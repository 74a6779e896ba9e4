"""Whatever a sweep's config says: a config that its own words make again, or a `SweepError`."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secondary_sinks.errors import SweepError
from secondary_sinks.sweeps.config import MOST_LAYERS, parse_layers
from secondary_sinks.sweeps.config_file import from_dict, read_config
from secondary_sinks.types import format_layers
from tests.fuzz.mutants import damaged
from tests.fuzz.test_readers import attempt, quick

KEYS = "models texts edits sites layers feed thresholds ordinary trace seed device skip n_devices"
ranges = st.text("0123456789-, x٣²\n", max_size=12)
whole = st.integers() | st.sampled_from([10**400, -(10**400)])
plain = st.recursive(
    st.none() | st.booleans() | whole | st.floats() | st.text(max_size=5) | ranges,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
thresholds = st.dictionaries(
    st.sampled_from(["aligned", "outlying", "min_queries", "paper_first", "other"]), whole | plain
)
WHOLE = {
    "models": [{"name": "tiny", "dtype": "float32", "skip": ["edits"]}],
    "edits": ["zero", "scale:0.5"],
    "layers": "0-2",
    "thresholds": {"min_queries": 4},
    "ordinary": 2,
}
one_changed = st.builds(
    lambda key, value: WHOLE | {key: value}, st.sampled_from(KEYS.split()), plain
) | st.builds(lambda value: WHOLE | {"thresholds": value}, thresholds)


@given(text=ranges)
@quick
def test_any_words_are_layers_in_range_or_a_sweep_error(text):
    layers = attempt(lambda: parse_layers(text), SweepError, "layers")
    if layers is not None:
        assert len(set(layers)) == len(layers)
        assert all(0 <= layer < MOST_LAYERS for layer in layers)
        assert parse_layers(format_layers(sorted(layers)).replace(" ", "")) == tuple(sorted(layers))


@given(layers=st.sets(st.integers(0, MOST_LAYERS - 1), min_size=1, max_size=30))
@quick
def test_layers_in_words_are_read_again(layers):
    words = format_layers(sorted(layers)).replace(" ", "")
    assert parse_layers(words) == tuple(sorted(layers))


@given(plainly=one_changed)
@quick
def test_any_plain_data_is_a_config_or_a_sweep_error(plainly):
    config = attempt(lambda: from_dict(plainly), SweepError)
    if config is not None and all(map(math.isfinite, config.to_dict()["thresholds"].values())):
        assert from_dict(config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize("name", ["sweep.yaml", "sweep.toml"])
@given(raw=st.binary(max_size=60) | damaged(yaml.safe_dump(WHOLE).encode()))
@quick
def test_any_bytes_are_a_config_or_a_sweep_error(name, raw, tmp_path):
    file = tmp_path / name
    file.write_bytes(raw)
    attempt(lambda: read_config(file), SweepError, name)
