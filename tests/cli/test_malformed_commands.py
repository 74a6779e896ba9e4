"""The commands beside `detect`, and experiments: exit code 2, one line, nothing written."""

import importlib
import os
import shutil

import pytest

from secondary_sinks.cli.entry import run
from secondary_sinks.cli.output import LONGEST_WORD
from tests.cli.test_malformed_runs import write_run

OK = ["--texts", "ok.jsonl", "--out", "{out}"]
LONG = "n" * 300
NESTED = ["&a0 [x,x,x,x,x,x,x,x,x]"]
NESTED += [f"&a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
"""A few hundred bytes of YAML: the last list has 9^12 words."""
CONFIGS = {
    "endless": f"models: [tiny]\nfeed: [{', '.join(NESTED)}]",
    "twice": "models: [tiny]\nedits: [zero]\nedits: [mean]",
    "skip-twice": "models: [{name: tiny, skip: [chunks, chunks]}]\ntexts: [ok.jsonl]",
    "text-twice": "models: [tiny]\ntexts: [ok.jsonl, ./ok.jsonl]",
    "word": "tiny",
    "typo": "modells: [tiny]",
    "nan": "models: [tiny]\ntexts: [ok.jsonl]\nthresholds: {outlying: .nan}",
    "negative": "models: [tiny]\ntexts: [ok.jsonl]\nthresholds: {min_queries: -3}",
    "code": "models: !!python/object/apply:os.system ['touch mine']",
    "no-device": "models: [tiny]\ntexts: [ok.jsonl]\nn_devices: 0",
    "out-a-list": "models: [tiny]\nout: [1]",
    "key-a-list": "? [a, b]\n: 3",
    "date": "models: [tiny]\nlayers: 2024-01-01",
    "tag": "models: [tiny]\ntrace: !!bool maybe",
    "surrogate": 'models: [tiny]\ntexts: ["caf\\udce9"]',
    "digits": "models: [tiny]\nordinary: 1_0",
    "wide": "models: [tiny]\ntexts: [ok.jsonl]\nfeed: " + "z" * 5000,
}


def ablate(*options):
    return ["ablate", "tiny", *OK, *options]


def filed(name):
    return ["ablate", "--config", f"{name}.yaml", "--out", "{out}"]


def generate(*options, model="tiny", out="{out}"):
    return ["generate", model, "--prompts", "ok.jsonl", "--out", out, *options]


CASES = {
    # configs
    "config whose value never ends": (filed("endless"), "357,449,882,112 keys and values"),
    "config with a tag that does not fit": (
        filed("tag"),
        "'maybe' is not a valid bool in \"the file\", lin",
    ),
    "config of a path that is not UTF-8": (filed("surrogate"), "texts holds half a surrogate pair"),
    "bytes that are not UTF-8": (
        ["detect", "tiny", "--texts", "caf\udce9", "--out", "x"],
        "'caf\\xe9'",
    ),
    "out of bytes that are not UTF-8": (
        ["detect", "tiny", *OK[:3], "\udcff"],
        "'\\xff' is not UTF-8",
    ),
    "a model of bytes": (["detect", "\udc80", *OK], "'\\x80' is not UTF-8"),
    "feed twice": (
        ["detect", "tiny", *OK, "--feed=raw", "--feed", "raw"],
        "--feed is given 2 times; expected it once",
    ),
    "text files twice": (ablate("--texts", "ok.jsonl"), "are the same texts; give them once"),
    "seed twice": (["detect", "tiny", *OK, "--device", "cpu", "--device", "cpu"], "--device is"),
    "config with a key twice": (filed("twice"), "key 'edits' appears twice"),
    "config a word": (filed("word"), "got 'tiny'"),
    "config with a typo": (filed("typo"), "unknown key 'modells'"),
    "config with a NaN": (
        filed("nan"),
        "'outlying' is nan; expected a finite number",
    ),
    "config below zero": (filed("negative"), "'min_queries' is -3"),
    "config with code": (filed("code"), "python/object/apply"),
    "config without devices": (filed("no-device"), "n_devices is 0; expected at least 1"),
    "config with a list for a folder": (filed("out-a-list"), "out is [1]"),
    "config with a list for a key": (filed("key-a-list"), "unhashable key"),
    "config with a date for layers": (filed("date"), "layers is datetime.date(2024, 1, 1)"),
    "config with a word of 5000 letters": (filed("wide"), "unknown feed 'zzz"),
    "config a pipe": (filed("pipe"), "'pipe.yaml' is not a file"),
    "config a folder": (filed("folder"), "'folder.yaml' is not a file"),
    "config without end": (["ablate", "--config", "/dev/zero", "--out", "{out}"], "'/dev/zero'"),
    # ranges and numbers of sweeps
    "layers without end": (ablate("--layers", "0-999999"), "expected numbers below 10,000"),
    "layers of 5000 digits": (ablate("--layers", f"0-{'9' * 5000}"), "expected numbers below"),
    "layers backwards": (ablate("--layers", "3-1"), "'3-1' runs backwards"),
    "layers empty": (ablate("--layers", ""), "layers ''"),
    "layers twice": (ablate("--layers", "0-1,1"), "layers has 1 twice"),
    "layers of other digits": (ablate("--layers", "\u0661\u00b2"), "cannot be read"),
    "layers that steer": (ablate("--layers", "\x1b[2J"), "'\\x1b[2J' cannot be read"),
    "threshold without a number": (ablate("--threshold", "outlying"), "--threshold 'outlying'"),
    "threshold unknown": (ablate("--threshold", "far=3"), "unknown threshold 'far'"),
    "threshold infinite": (ablate("--threshold", "outlying=inf"), "threshold 'outlying' is inf"),
    "threshold a fraction": (ablate("--threshold", "min_queries=1.5"), "min_queries is 1.5"),
    "threshold of odd digits": (ablate("--threshold", "outlying=1_0"), "'outlying=1_0': expected"),
    "edit of odd digits": (ablate("--edit", "scale:1_0"), "'1_0' is not a number in plain digits"),
    "seed of odd digits": (ablate("--edit", "resample:1_0"), "cannot read edit 'resample:1_0'"),
    "angle with a seed of odd digits": (ablate("--edit", "rotate:9:1_0"), "'rotate:9:1_0'"),
    "donor of odd digits": (["patch", "tiny", *OK, "--donor", "1_0"], "--donor is '1_0'"),
    "donor a word": (["patch", "tiny", *OK, "--donor", "foo"], "expected twin, sink, or a pos"),
    "donor of other digits": (["patch", "tiny", *OK, "--donor", "3+\u0663"], "'3+\u0663'"),
    "factor of odd digits": (["scale", "tiny", *OK, "--by", "1,1_0"], "'scale:1_0'"),
    "layers of odd digits": (ablate("--layers", "0-1_0"), "'0-1_0' cannot be read"),
    "layers of Arabic digits": (ablate("--layers", "\u0661"), "cannot be read"),
    "config of odd digits": (filed("digits"), "'1_0' is not decimal"),
    "device of other digits": (["detect", "tiny", *OK, "--device", "cuda:\u0663"], "'cuda:\u0663'"),
    "threshold twice": (
        ablate("--threshold", "aligned=1", "--threshold", "aligned=2"),
        "aligned is given twice: 1 and 2",
    ),
    "executor without a name": (ablate("--executor", ""), "unknown executor ''"),
    "no devices": (ablate("--n-devices", "0"), "'0' is not a whole number from 1"),
    "more devices than there are": (ablate("--n-devices", "99"), "n_devices is 99"),
    "more devices for a bridge": (ablate("--n-devices", "99", "--bridge"), "n_devices is 99"),
    "ordinary negative": (ablate("--ordinary", "-1"), "'-1'"),
    "edit empty": (ablate("--edit", ""), "--edit '' has an empty item"),
    "edit twice": (ablate("--edit", "zero", "--edit", "zero"), "--edit has 'zero' twice"),
    "revisions for one model": (
        ["detect", "tiny", *OK, "--revision", "a,b"],
        "detect takes one model, got ['tiny@a', 'tiny@b']",
    ),
    "revisions of a folder": (ablate("--revision", "a,b"), "'tiny' has no revisions, but 'a' was"),
    "site unknown": (ablate("--site", "mlp_inn"), "'mlp_inn'"),
    "layers without the site": (
        ablate("--site", "embed", "--layers", "0-1"),
        "'embed' is before the first layer, got layers 0-1; leave layers out",
    ),
    "donor negative": (["patch", "tiny", *OK, "--donor", "-1"], "--donor is '-1'"),
    "donor empty": (["patch", "tiny", *OK, "--donor", ""], "--donor is ''"),
    "donor of another text": (["patch", "tiny", *OK, "--donor", "other@3"], "another text"),
    "factors without any": (["scale", "tiny", *OK, "--by", ","], "--by"),
    "factor missing": (["scale", "tiny", *OK, "--by", "1,,2"], "--by '1,,2' has an empty item"),
    "norm missing": (["scale", "tiny", *OK, "--norm", "1,"], "--norm '1,' has an empty item"),
    "factor infinite": (["scale", "tiny", *OK, "--by", "1e400"], "inf"),
    "norms by words": (["scale", "tiny", *OK, "--norm", "10,big"], "'set_norm:big'"),
    "address without Ray": (ablate("--ray-address", "h:1"), "'h:1' is for --executor ray"),
    "no models": (["ablate", *OK], "needs models"),
    "second model unknown": (["ablate", "tiny", "nonsense", *OK], "'nonsense'"),
    "dry run of nothing": (["ablate", "nonsense", *OK, "--dry-run"], "'nonsense'"),
    "dry run of layers beyond": (ablate("--layers", "0-9", "--dry-run"), "layer 2 is out of range"),
    "texts a pipe": (["ablate", "tiny", "--texts", "pipe.jsonl", "--out", "{out}"], "'pipe.jsonl'"),
    "out a finished run": (["ablate", "tiny", "--texts", "ok.jsonl", "--out", "run"], "'run'"),
    "a CPU that there is not": (["detect", "tiny", *OK, "--device", "cpu:7"], "device 'cpu:7'"),
    "messages as an option": (
        ["detect", "tiny", *OK, "--feed", "chat:messages=1"],
        "it has no variable 'messages'",
    ),
    # the same twice, in every list
    "question twice": (["run", "tiny", *OK, "--ask", "harm,harm"], "--ask has 'harm' twice"),
    "question and nothing": (["run", "tiny", *OK, "--ask", "harm,"], "has an empty item"),
    "edit of a run twice": (["run", "tiny", *OK, "--edit", "zero,zero"], "--edit has 'zero' twice"),
    "edit of a run in two words": (
        ["run", "tiny", *OK, "--edit", "twins,mean:twins"],
        "edits has 'twins' and 'mean:twins', the same",
    ),
    "edit in two words": (
        ablate("--edit", "resample:3", "--edit", "resample:03"),
        "edits has 'resample:3' and 'resample:03', the same",
    ),
    "factor in two words": (
        ["scale", "tiny", *OK, "--by", "0.5,0.50"],
        "edits has 'scale:0.5' and 'scale:0.50', the same",
    ),
    "donor twice": (
        ["patch", "tiny", *OK, "--donor", "twin", "--donor", "twin"],
        "edits has 'patch:twin' twice",
    ),
    "site twice": (ablate("--site", "z", "--site", "z"), "sites has 'z' twice"),
    "model twice": (["ablate", "tiny", "tiny", *OK], "models has 'tiny' twice"),
    "model in two words": (
        ["ablate", "tiny", "./tiny", *OK, "--dry-run"],
        "models has 'tiny' and './tiny', the same",
    ),
    "check twice": (
        ["detect", "tiny", *OK, "--skip-check", "chunks", "--skip-check", "chunks"],
        "checks to skip has 'chunks' twice",
    ),
    "check of a sweep twice": (
        ablate("--skip-check", "chunks", "--skip-check", "chunks"),
        "checks to skip has 'chunks' twice",
    ),
    "config with a check twice": (filed("skip-twice"), "checks to skip has 'chunks' twice"),
    "config with a text twice": (filed("text-twice"), "are the same texts; give them once"),
    "lossy twice": (
        ["detect", "tiny", *OK, "--feed", "raw:lossy,lossy"],
        "--feed 'raw:lossy,lossy' has 'lossy' twice",
    ),
    "compare with itself": (["compare", "run", "./run", "--out", "{out}"], "has 'run' twice"),
    "merge with itself": (
        ["merge", "sweep", "tiny/../sweep", "--out", "{out}"],
        "has 'sweep' and 'tiny/../sweep', the same",
    ),
    # generate
    "prompts missing": (["generate", "tiny", "--out", "{out}"], "--prompts"),
    "prompts nowhere": (
        ["generate", "tiny", "--prompts", "none.jsonl", "--out", "{out}"],
        "'none.jsonl'",
    ),
    "prompts not UTF-8": (
        ["generate", "tiny", "--prompts", "latin.txt", "--out", "{out}"],
        "'latin.txt'",
    ),
    "answers in no folder": (
        generate(out="{out}/deep/a.jsonl"),
        "/deep/a.jsonl' cannot be written",
    ),
    "answers in a folder's place": (generate(out="full"), "'full' is not a file"),
    "answers in a device": (generate(out="/dev/null"), "'/dev/null' is not a file"),
    "answers in a long name": (generate(out=LONG), "File name too long"),
    "answers below a system folder": (generate(out="/proc/a.jsonl"), "'/proc/a.jsonl'"),
    "answers of others": (generate(out="a-file"), "'a-file' line 1 was not written by generate"),
    "temperature NaN": (generate("--temperature", "nan"), "'nan' is not a number"),
    "temperature below zero": (generate("--temperature", "-1"), "temperature is -1.0"),
    "temperature of odd digits": (generate("--temperature", "1_0"), "'1_0' is not a number in"),
    "temperature a word": (generate("--temperature", "hot"), "'hot'"),
    "no new tokens": (generate("--max-new-tokens", "0"), "'0' is not a whole number from 1"),
    "new tokens a word": (generate("--max-new-tokens", "all"), "'all'"),
    "no chat template": (generate(model="no-template"), "needs a tokenizer with a chat template"),
    "generate with no model": (generate(model="nonsense"), "'nonsense'"),
    "seed of generate": (generate("--seed", "-1"), "'-1'"),
    # run --ask, and models
    "question unknown": (["run", "tiny", *OK, "--ask", "everything"], "got 'everything'"),
    "question that steers": (["run", "tiny", *OK, "--ask", "\x1b[2J"], "got '\\x1b[2J'"),
    "no question": (["run", "tiny", *OK, "--ask", ""], "--ask '' has an empty item"),
    "an empty folder": (["detect", "tiny", *OK[:2], "--out", ""], "'--out': it is empty; give"),
    "an export to an empty folder": (["export", "run", "--out", ""], "'--out': it is empty; give"),
    "a status of nothing": (["status", ""], "it is empty; give a path, or . for the current"),
    "question empty": (["run", "tiny", *OK, "--ask", ","], "--ask ',' has an empty item"),
    "all and one more": (["run", "tiny", *OK, "--ask", "all,harm"], "'all,harm'"),
    "models of a steering family": (["models", "--family", "\x1b[2J"], "'\\x1b[2J'"),
    "models with a number": (["models", "--limit", "3"], "--limit"),
    # compare and levels
    "compare nothing": (["compare", "--out", "{out}"], "'folders'"),
    "compare with nothing": (["compare", "run", "nowhere", "--out", "{out}"], "'nowhere'"),
    "compare a file": (["compare", "a-file", "--out", "{out}"], "'a-file'"),
    "compare in a folder's place": (["compare", "run", "--out", "full"], "'full' already exists"),
    "compare in a file's place": (["compare", "run", "--out", "a-file"], "'a-file' already exists"),
    "compare over a record": (
        ["compare", "run", "--out", "run/run.json", "--force"],
        "'run/run.json' is not an HTML page, and --force replaces only those",
    ),
    "compare over a model": (
        ["compare", "run", "--out", "tiny/config.json", "--force"],
        "'tiny/config.json' is not an HTML page",
    ),
    "compare in no place": (["compare", "run"], "--out"),
    "compare in a long name": (["compare", "run", "--out", f"{LONG}.html"], LONG),
    "levels of a run without one": (["levels", "full"], "'full'"),
    "levels of other tables": (["levels", "run/effects.parquet"], "effects.parquet"),
    "levels of a model": (["levels", "tiny/model.safetensors"], "model.safetensors"),
    "levels with layers of a run": (["levels", "run", "--layers", "9"], "--layers is for"),
    # status, verify, merge, export
    "status of what is missing": (["status", "missing"], "'missing' does not exist"),
    "status of a file": (["status", "a-file"], "'a-file'"),
    "status of a loop": (["status", "loop"], "'loop'"),
    "status of a long name": (["status", LONG], LONG),
    "status of what steers": (["status", "\x1b[2J"], "'\\x1b[2J'"),
    "status of nothing": (["status"], "'DIR'"),
    "verify what is missing": (["verify", "missing"], "'missing' does not exist"),
    "verify a file": (["verify", "a-file"], "'a-file"),
    "verify a long name": (["verify", LONG], LONG),
    "verify two": (["verify", "run", "run"], "run"),
    "merge nothing": (["merge", "--out", "{out}"], "'DIR...'"),
    "merge a run": (["merge", "run", "--out", "{out}"], "'run' is not a sweep folder"),
    "merge into a sweep of them": (["merge", "sweep", "--out", "sweep"], "a folder to merge"),
    "merge below one of them": (["merge", "sweep", "--out", "sweep/in"], "a folder to merge"),
    "merge into what is there": (["merge", "sweep", "--out", "full"], "'notes.txt'"),
    "merge into a file": (["merge", "sweep", "--out", "a-file"], "'a-file' is a file"),
    "merge below a system folder": (["merge", "sweep", "--out", "/proc/m"], "'/proc/m'"),
    "export nothing": (["export"], "'DIR'"),
    "export no run": (["export", "nowhere"], "'nowhere'"),
    "export as nothing": (["export", "run", "--format", ""], "unknown format ''"),
    "export as a sheet": (["export", "run", "--format", "xlsx"], "expected one of csv"),
    "export over a run": (["export", "sweep", "--out", "run"], "'run' holds a run; choose"),
    "export over files of others": (["export", "sweep", "--out", "csv"], "'csv' holds 'sinks.csv'"),
    "export into a file": (["export", "sweep", "--out", "a-file"], "'a-file' cannot be written"),
    "export below a system folder": (["export", "sweep", "--out", "/proc/e"], "'/proc/e'"),
    "report of a model that it lacks": (["report", "sweep", "--model", "other"], "'other'"),
}
GIVEN = ["--model", "tiny", "--texts", "ok.jsonl", "--out", "{out}"]
EXPERIMENTS = {
    "no folder": ("norms", ["--model", "tiny"], "--out"),
    "no model like that": ("norms", ["--model", "nonsense", "--out", "{out}"], "'nonsense'"),
    "no texts": ("norms", [*GIVEN[:2], "--texts", "none.jsonl", "--out", "{out}"], "'none.jsonl'"),
    "a short text": ("norms", [*GIVEN[:2], "--texts", "short.txt", "--out", "{out}"], "'short'"),
    "a feed": ("sink_tokens", [*GIVEN, "--feed", "chatt"], "'chatt'"),
    "a dtype": ("prefix_entropy", [*GIVEN, "--dtype", "int8"], "'int8'"),
    "a device": ("mlp_ablation", [*GIVEN, "--device", "gpu"], "'gpu'"),
    "a seed": ("mlp_patching", [*GIVEN, "--seed", "-1"], "'-1' is not a whole number from 0"),
    "a seed of odd digits": ("norms", [*GIVEN, "--seed", "1_0"], "'1_0' is not a whole number"),
    "a share of odd digits": (
        "neurons",
        [*GIVEN, "--few", "0_1"],
        "'0_1' is not a number in plain",
    ),
    "a share above one": (
        "neurons",
        [*GIVEN, "--few", "1.5"],
        "'1.5' is not a number in plain digits, from 0 to 1",
    ),
    "a share that is none": ("neurons", [*GIVEN, "--few", "nan"], "'nan' is not a number"),
    "an empty folder": (
        "norms",
        [*GIVEN[:4], "--out", ""],
        "--out': it is empty; give a path, or .",
    ),
    "a folder that is a file": ("norms", [*GIVEN[:4], "--out", "a-file"], "'a-file' is a file"),
    "a folder of the system": ("norms", [*GIVEN[:4], "--out", "/proc/x"], "'/proc/x'"),
    "an option that is not there": ("norm_dose", [*GIVEN, "--dose", "3"], "--dose"),
    "released detections": ("sink_levels", [*GIVEN, "--released", "none"], "'none'"),
    "a window": (
        "primary_weakening",
        [*GIVEN, "--window", "0"],
        "'0' is not a whole number from 1",
    ),
    "an experiment": ("all", [*GIVEN, "--only", "nomrs"], "no experiment 'nomrs'"),
    "an experiment twice": ("all", [*GIVEN, "--only", "norms,norms"], "--only has 'norms' twice"),
    "an experiment and nothing": ("all", [*GIVEN, "--only", "norms,"], "has an empty item"),
    "a model of levels twice": (
        "sink_levels",
        [*GIVEN, "--also", "tiny"],
        "the list of models and detections has 'tiny' twice",
    ),
    "a model of all": ("all", ["--model", "nonsense", "--out", "{out}"], "'nonsense'"),
    "folders without results": ("pages", ["full", "--out", "{out}"], "'full' has no results"),
    "a model of speed": ("speed", ["--model", "nonsense", "--out", "{out}"], "'nonsense'"),
}


@pytest.fixture(scope="module")
def here(_inputs, tmp_path_factory):
    """The inputs of all, with a run, a sweep, configs and pipes."""
    place = tmp_path_factory.mktemp("commands") / "inputs"
    shutil.copytree(_inputs, place, symlinks=True)
    write_run(place / "run")
    for name, content in CONFIGS.items():
        (place / f"{name}.yaml").write_text(content)
    (place / "folder.yaml").mkdir()
    (place / "csv").mkdir()
    (place / "csv" / "sinks.csv").write_text("mine")
    for name in ("pipe.yaml", "pipe.jsonl"):
        os.mkfifo(place / name)
    texts = ["--texts", str(place / "ok.jsonl"), "--out", str(place / "sweep")]
    assert run(["ablate", str(place / "tiny"), *texts]) == 0
    return place


def contents(folder):
    """Names in a folder, and when its files were written; a lock comes and goes in a folder."""
    paths = [(path, path.lstat()) for path in folder.rglob("*")]
    return {path: path.is_dir() or stat.st_mtime_ns for path, stat in paths}


@pytest.fixture
def refused(here, tmp_path, monkeypatch, capfd):
    """Assert that a call with words says one line that names what is wrong, and writes nothing."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    target = tmp_path / "out"

    def refused(call, words, named, printed_before=""):
        before = contents(here)
        code = call([word.format(out=target) if len(word) < 99 else word for word in words])
        printed, error = capfd.readouterr()
        assert (code, printed.startswith(printed_before)) == (2, True)
        assert printed_before or not printed
        assert error.startswith("error: ")
        assert (error.count("\n"), error[-1]) == (1, "\n")
        assert named in error
        assert "Traceback" not in error
        assert all(char.isprintable() for char in error[:-1])
        assert max(map(len, error.split())) < LONGEST_WORD + 9
        assert not target.exists()
        assert contents(here) == before

    return refused


@pytest.mark.parametrize(("words", "named"), CASES.values(), ids=CASES)
def test_one_line_names_what_is_wrong(words, named, refused):
    refused(run, words, named)


@pytest.mark.parametrize(("name", "words", "named"), EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_one_line_names_what_is_wrong_with_an_experiment(name, words, named, refused):
    room = "tools" if name == "speed" else "experiments"
    main = importlib.import_module(f"{room}.{name}").main

    def call(words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code

    refused(call, words, named, "observing" if name == "all" and "--only" not in words else "")
