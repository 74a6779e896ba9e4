"""Configs from plain data and files: what they may say, and one line for everything else."""

import json
import re

import pytest

from secondary_sinks.errors import SweepError
from secondary_sinks.sweeps import ModelSpec, SweepConfig
from secondary_sinks.sweeps.config_file import from_dict, merge_options, read_config
from secondary_sinks.types import Thresholds

FULL = SweepConfig(
    models=(
        ModelSpec(name="a", dtype="bfloat16", skip=("chunks",)),
        ModelSpec(name="b", revision="v1", bridge=True, n_devices=2),
    ),
    texts=("x.jsonl",),
    edits=("zero", "scale:0.5"),
    sites=("mlp_out", "attn_out"),
    layers=(0, 1, 2, 7),
    feed="raw",
    thresholds=Thresholds(outlying=4.0, min_queries=9),
    ordinary=2,
    trace=False,
    seed=5,
)
YAML = """
models:
  - a
  - name: b
    dtype: float32
dtype: bfloat16
edits: [zero, mean]
layers: 0-2,7
thresholds: {outlying: 4}
"""
TOML = """
models = ["a", {name = "b", dtype = "float32"}]
dtype = "bfloat16"
edits = ["zero", "mean"]
layers = ["0-2", 7]
thresholds = {outlying = 4}
"""


def test_a_resolved_config_is_read_back_as_it_was():
    stored = json.loads(json.dumps(FULL.to_dict()))
    assert from_dict(stored) == FULL


def test_yaml_and_toml_say_the_same(tmp_path):
    (tmp_path / "c.yaml").write_text(YAML)
    (tmp_path / "c.toml").write_text(TOML)
    one, other = (from_dict(read_config(tmp_path / f"c.{kind}")) for kind in ("yaml", "toml"))
    assert one == other
    assert [spec.dtype for spec in one.models] == ["bfloat16", "float32"], "a model's own wins"
    assert one.layers == (0, 1, 2, 7)
    assert one.thresholds == Thresholds(outlying=4.0)


def test_what_a_flag_says_goes_before_the_file():
    assert merge_options({"edits": ["zero"], "seed": 1}, {"seed": 2, "feed": None}) == {
        "edits": ["zero"],
        "seed": 2,
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "keys and values"),
        ({"modells": ["a"]}, "unknown key 'modells'"),
        ({"models": 3}, "models is 3"),
        ({"models": [3]}, "models has 3"),
        ({"models": [{"dtype": "float32"}]}, "a name, or a mapping with a name"),
        ({"models": [{"name": "a", "layers": 3}]}, "unknown key 'layers' of a model"),
        ({"models": ["a"], "bridge": "yes"}, "bridge is 'yes'; expected true or false"),
        ({"models": ["a"], "n_devices": True}, "n_devices is True"),
        ({"models": ["a"], "edits": [0.5]}, "edits is 0.5; expected a string"),
        ({"models": ["a"], "edits": 7}, "edits is 7; expected a list"),
        ({"models": ["a"], "layers": "x"}, "layers 'x'"),
        ({"models": ["a"], "revision": []}, "revision is []; expected at least one"),
        ({"models": ["a"], "revision": "x,,y"}, "revision 'x,,y' has an empty item"),
        ({"models": ["a"], "revision": ["x", 3]}, "revision is 3; expected a string"),
        ({"models": [{"revision": ["x"]}]}, "models has {'revision': ['x']}"),
        ({"models": ["a"], "thresholds": {"aligned": 10**400}}, "threshold aligned is 1000"),
        ({"models": ["a"], "layers": [[1]]}, "layers"),
        ({"models": ["a"], "layers": True}, "layers is True"),
        ({"models": ["a"], "layers": -1}, "layers '-1'"),
        ({"models": ["a"], "ordinary": -1}, "ordinary is -1; expected a whole number of at least"),
        ({"models": ["a"], "seed": 1.5}, "seed is 1.5"),
        ({"models": ["a"], "trace": 1}, "trace is 1; expected true or false"),
        ({"models": ["a"], "thresholds": 3}, "thresholds is 3; expected keys and values"),
        ({"models": ["a"], "thresholds": {"aligne": 1}}, "unknown threshold 'aligne'"),
        ({"models": ["a"], "thresholds": {"aligned": "high"}}, "threshold aligned is 'high'"),
        ({"models": ["a"], "thresholds": {"min_queries": 1.5}}, "expected a whole number"),
        ({"models": ["a"], "skip": [1]}, "skip is 1"),
        ({"models": ["a"], "ordinary": 2**63}, "ordinary is 9223372036854775808; expected a whole"),
        ({"models": ["a"], "seed": 1 << 400_000}, "seed is a number of 400,001 bits"),
        ({"models": ["a"], "seed": -1 << 400_000}, "seed is a number of 400,001 bits"),
        ({"models": ["a"], "layers": 1 << 400_000}, "a number of 400,001 bits"),
        ({"models": ["a"], "layers": [0, [1 << 400_000]]}, "layers is [0, [a number of 400,001"),
        ({"models": ["a"], 1 << 400_000: 1}, "unknown key a number of 400,001 bits"),
        ({"models": [{"name": "a", 1 << 400_000: 1}]}, "a number of 400,001 bits of a model"),
        ({"models": ["a"], "thresholds": {"aligned": 1 << 400_000}}, "a number of 400,001 bits"),
        ({"models": ["\ud800"]}, "name holds half a surrogate pair"),
        ({"models": ["a"], "texts": ["caf\udce9"]}, "texts holds half a surrogate pair"),
    ],
)
def test_one_line_names_the_key_and_what_is_allowed(given, named):
    with pytest.raises(SweepError) as error:
        from_dict(given, "my.yaml")
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("c.yaml", b"a: [", "cannot be read"),
        ("c.yaml", b"a: !!python/object/apply:os.system ['true']", "cannot be read"),
        ("c.yaml", b"- a", "expected keys and values"),
        ("c.yaml", b"", "expected keys and values"),
        ("c.yaml", b"?", "key None is not a string"),
        ("c.toml", b"a = ", "cannot be read"),
        ("c.toml", b"\xff", "not UTF-8"),
        ("c.json", b"{}", ".yaml, .yml, .toml"),
    ],
)
def test_files_that_are_no_config(name, content, named, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SweepError) as error:
        read_config(tmp_path / name)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_numbers_without_end_is_refused_and_not_a_traceback(tmp_path):
    for name, sign in {"c.yaml": ":", "c.toml": " ="}.items():
        (tmp_path / name).write_text(f"ordinary{sign} 0x{'f' * 100_000}")
        with pytest.raises(SweepError, match="is not decimal"):
            from_dict(read_config(tmp_path / name))
    with pytest.raises(SweepError, match="ordinary is a number of 400,000 bits"):
        from_dict({"models": ["a"], "ordinary": 1 << 399_999})


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("\n".join(f"key{n}: 1" for n in range(60_000)))
    with pytest.raises(SweepError, match="has 708,889 bytes; expected at most 200,000"):
        read_config(path)


def test_a_toml_key_of_many_parts_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("seed = 1\n" + ".".join(["a"] * 50_000) + " = 1")
    with pytest.raises(SweepError, match="line 2: a key of 50,000 parts"):
        read_config(path)


def test_ranges_that_repeat_themselves_are_refused_at_once():
    with pytest.raises(SweepError, match="layers has 0 twice"):
        from_dict({"models": ["a"], "layers": ",".join(["0-9999"] * 10_000)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SweepError, match=r"'.*none\.yaml' cannot be read"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("revisions", ["step1, step9", ["step1", "step9"]])
def test_several_revisions_are_several_models(revisions):
    of_one = {"name": "a/b", "revision": revisions, "dtype": "bfloat16"}
    config = from_dict({"models": [of_one, "c/d"]})
    assert [spec.name for spec in config.models] == ["a/b@step1", "a/b@step9", "c/d"]
    assert [spec.dtype for spec in config.models] == ["bfloat16", "bfloat16", None]
    assert {spec.revision for spec in config.models} == {None}
    of_all = from_dict(
        {"models": ["a/b", {"name": "c/d", "revision": "main"}]} | {"revision": revisions}
    )
    assert [spec.name for spec in of_all.models] == ["a/b@step1", "a/b@step9", "c/d"]
    assert of_all.models[2].revision == "main"
    assert from_dict(config.to_dict()) == config


def changed(owner, **values):
    """A frozen object with values that the checks of types in these tests would not let pass."""
    for name, value in values.items():
        object.__setattr__(owner, name, value)
    return owner


FROM_PYTHON = {
    "a negative limit": ({"limit": -1}, "limit is -1; expected a whole number of at least 0"),
    "a limit of a fraction": ({"max_tokens": 1.5}, "max_tokens is 1.5; expected a whole number"),
    "a negative count": ({"ordinary": -1}, "ordinary is -1; expected a whole number"),
    "a seed of a word": ({"seed": "x"}, "seed is 'x'; expected a whole number"),
    "no for False": ({"pooled": "no"}, "pooled is 'no'; expected true or false"),
    "no trace": ({"trace": "no"}, "trace is 'no'; expected true or false"),
    "thresholds as a dict": ({"thresholds": {}}, "thresholds is {}; expected Thresholds"),
    "a layer below 0": ({"layers": (-1,)}, "layers holds -1; expected only whole numbers from 0"),
    "a layer that is True": ({"layers": (True,)}, "layers holds True; expected only whole"),
    "a layer of a fraction": ({"layers": (1.0,)}, "layers holds 1.0; expected only whole"),
    "no layers": ({"layers": ()}, "layers is empty; leave it out for all layers"),
    "layers as a word": ({"layers": "3"}, "layers is '3'; expected a list of whole numbers"),
    "a model as a word": ({"models": ("x",)}, "models holds 'x'; expected only ModelSpec"),
    "one file": ({"texts": "file"}, "texts is 'file'; expected a list of strings"),
    "devices of a model": (
        {"models": (changed(ModelSpec(name="a"), n_devices="2"),)},
        "n_devices is '2'",
    ),
    "a name that is none": (
        {"models": (changed(ModelSpec(name="a"), name=3),)},
        "name is 3; expected a string",
    ),
}


@pytest.mark.parametrize(("given", "named"), FROM_PYTHON.values(), ids=FROM_PYTHON)
def test_a_config_in_python_is_checked_as_its_file_is(given, named):
    with pytest.raises(SweepError, match=re.escape(named)):
        changed(SweepConfig(models=(ModelSpec(name="a"),)), **given).check(("a",))


@pytest.mark.parametrize("number", ["1_0", "0x10", "0b11", "-0.5_0"])
@pytest.mark.parametrize(("kind", "sign"), [("toml", "="), ("yaml", ":")])
def test_numbers_that_are_not_decimal_are_refused_in_toml_and_yaml(kind, sign, number, tmp_path):
    path = tmp_path / f"c.{kind}"
    path.write_text(f'edits {sign} ["zero"]\nlimit {sign} {number}\n')
    with pytest.raises(SweepError, match=f"'{number}' is not decimal"):
        read_config(path)


def test_words_and_comments_of_toml_are_not_numbers(tmp_path):
    words = ["1_0", "0x10", "a 1_0 b", '1_0 "']
    content = f"texts = {json.dumps(words)}  # 1_0\na = '''0x10\n1_0'''\n"
    content += 'b = """\n1_0 """"'
    (tmp_path / "c.toml").write_text(content + "\nlimit = +10\nd = 1e-3\n")
    found = read_config(tmp_path / "c.toml")
    assert found["texts"] == words
    assert (found["a"], found["b"], found["limit"], found["d"]) == ("0x10\n1_0", '1_0 "', 10, 1e-3)
