"""Whatever is wrong with an invocation: exit code 2, one line that names it, nothing written."""

import pytest

from secondary_sinks.cli.entry import run

OK = ["--texts", "ok.jsonl", "--out", "{out}"]


def on(model, *options):
    return ["detect", model, *OK, *options]


def text(name, *options, model="tiny"):
    return ["detect", model, "--texts", name, "--out", "{out}", *options]


def out(folder, *options):
    return ["detect", "tiny", "--texts", "ok.jsonl", "--out", folder, *options]


CASES = {
    # the command line itself
    "unknown command": (["detct", "tiny"], "'detct'"),
    "unknown root option": (["--verison"], "--verison"),
    "no model": (["detect"], "MODEL"),
    "no out": (["detect", "tiny"], "--out"),
    "unknown option": (on("tiny", "--fed", "raw"), "--fed"),
    "option without value": (on("tiny", "--seed"), "--seed"),
    "extra argument": (["detect", "tiny", "more", *OK], "more"),
    "edit of detect": (on("tiny", "--edit", "zero"), "--edit"),
    # options
    "seed a word": (on("tiny", "--seed", "seven"), "'seven'"),
    "seed a fraction": (on("tiny", "--seed", "1.5"), "'1.5'"),
    "seed negative": (on("tiny", "--seed", "-1"), "'-1'"),
    "unknown feed": (on("tiny", "--feed", "chatt"), "'chatt'"),
    "unknown edit": (["ablate", "tiny", *OK, "--edit", "zeroo"], "'zeroo'"),
    "unknown edit of run": (["run", "tiny", *OK, "--edit", "\x1b[2J"], "'\\x1b[2J'"),
    "seed beyond 64 bits": (on("tiny", "--seed", str(2**63)), str(2**63)),
    "seed of 5000 digits": (on("tiny", "--seed", "9" * 5000), "'9999"),
    "seed of other digits": (on("tiny", "--seed", "\u0663"), "'\u0663'"),
    "feed of another case": (on("tiny", "--feed", "RAW"), "'RAW'"),
    "edit without its value": (["ablate", "tiny", *OK, "--edit", "scale:"], "'scale:'"),
    "edit with a value too many": (["ablate", "tiny", *OK, "--edit", "zero:3"], "'3'"),
    "edit by a word": (["ablate", "tiny", *OK, "--edit", "scale:half"], "'scale:half'"),
    "edit by no number": (["ablate", "tiny", *OK, "--edit", "scale:nan"], "nan"),
    "edit of infinite size": (["ablate", "tiny", *OK, "--edit", "set_norm:inf"], "inf"),
    "edit of a negative norm": (["ablate", "tiny", *OK, "--edit", "set_norm:-1"], "-1"),
    "edit of an unknown mean": (["ablate", "tiny", *OK, "--edit", "mean:all"], "'all'"),
    "edit with a huge seed": (["ablate", "tiny", *OK, "--edit", f"resample:{10**30}"], str(10**30)),
    "edit with a negative seed": (["ablate", "tiny", *OK, "--edit", "resample:-1"], "-1"),
    "unknown check": (on("tiny", "--skip-check", "logits"), "'logits'"),
    "flag with a value": (on("tiny", "--force=yes"), "--force"),
    "device without a name": (on("tiny", "--device", ""), "''"),
    "device without memory": (on("tiny", "--device", "meta"), "'meta'"),
    "device that is not there": (on("tiny", "--device", "cuda:99"), "'cuda:99'"),
    "unknown device": (on("tiny", "--device", "gpu"), "'gpu'"),
    "device with a bad index": (on("tiny", "--device", "cpu:x"), "'cpu:x'"),
    "unknown dtype": (on("tiny", "--dtype", "int8"), "'int8'"),
    # models
    "near name": (on("smollm2-135"), "did you mean smollm2-135m?"),
    "unknown name": (on("nonsense"), "'nonsense'"),
    "no name": (on(""), "''"),
    "blank name": (on(" "), "' '"),
    "name of 300 letters": (on("m" * 300), "'mmm"),
    "hub name that climbs": (on("../.."), "'../..'"),
    "hub name with a parent": (on("owner/.."), "'owner/..'"),
    "name of a loop": (on("loop"), "'loop'"),
    "name of a system file": (on("/proc/version"), "'/proc/version'"),
    "revision that climbs": (on("qwq-32b@../../x"), "'../../x'"),
    "revision without a name": (on("qwq-32b", "--revision", ""), "''"),
    "no such folder": (on("./nowhere"), "'./nowhere'"),
    "hub name offline": (on("owner/model"), "'owner/model'"),
    "escapes in the name": (on("red\x1b[31m"), "red\\x1b[31m"),
    "line feed in the name": (on("two\nlines"), "two\\nlines"),
    "name too long": (on("x" * 5000), "x" * 100),
    "folder without config": (on("no-config"), "'no-config' has no config.json"),
    "folder with nothing": (on("nothing-in-it"), "'nothing-in-it'"),
    "pickles only": (on("pickled"), "pytorch_model.bin"),
    "broken config": (on("broken-config"), "broken-config"),
    "config a list": (on("list-config"), "list-config"),
    "config empty": (on("empty-config"), "empty-config"),
    "config in UTF-16": (on("utf-16-config"), "utf-16-config"),
    "no layers": (on("no-layers"), "no-layers"),
    "negative layers": (on("minus-layers"), "minus-layers"),
    "width a word": (on("word-width"), "word-width"),
    "a context below zero": (on("minus-context"), "cannot be used: max_position_embeddings is"),
    "no heads": (on("no-heads"), "no-heads"),
    "heads that do not divide": (on("odd-heads"), "odd-heads"),
    "more layers than weights": (on("huge-layers"), "huge-layers"),
    "architectures an object": (on("named-by-object"), "named-by-object"),
    "unknown activation": (on("odd-activation"), "odd-activation"),
    "unknown rope": (on("odd-rope"), "odd-rope"),
    "model type null": (on("no-type"), "no-type"),
    "model type a list": (on("type-a-list"), "type-a-list"),
    "config of two minds": (on("two-minds"), "'LlamaForCausalLM'"),
    "more tokens than weights": (on("large-vocabulary"), "large-vocabulary"),
    "index that climbs": (on("index-outside"), "'../tiny/model.safetensors'"),
    "index to a pickle": (on("index-pickle"), "pytorch_model.bin"),
    "index a list": (on("index-list"), "model.safetensors.index.json"),
    "empty GGUF": (on("empty.gguf"), "'empty.gguf'"),
    "strange architecture": (on("strange"), "odd"),
    "unsupported architecture": (on("bloom"), "'BloomForCausalLM'"),
    "header truncated": (on("truncated"), "truncated"),
    "weights truncated": (on("short"), "short"),
    "weights empty": (on("hollow"), "hollow"),
    "NaN weight": (on("nan"), "'model.layers.1.mlp.up_proj.weight'"),
    "infinite weight": (on("infinite"), "'model.layers.1.mlp.up_proj.weight'"),
    "broken tokenizer": (on("broken-tokenizer"), "broken-tokenizer"),
    "tokenizer of another model": (on("foreign-tokenizer"), "as transformers reads all files"),
    "shard missing": (on("shard-missing"), "lacks 'model-2.safetensors'"),
    "encoder": (on("encoder"), "an encoder (BertForMaskedLM)"),
    "adapter": (on("adapter"), "merge_and_unload"),
    "quantised": (on("quantised"), "quantised (gptq)"),
    "code of its own": (on("own-code"), "--trust-remote-code"),
    "revision of a folder": (on("tiny", "--revision", "main"), "'main'"),
    "revision of a folder, in its name": (on("tiny@main"), "'tiny' has no revisions"),
    "two revisions": (on("qwq-32b@a", "--revision", "b"), "two revisions"),
    "revision on the hub offline": (on("owner/model@v1"), "revision 'v1'"),
    "alias offline": (on("QwQ-32B"), "'Qwen/QwQ-32B'"),
    "no tokenizer": (on("no-tokenizer"), "no tokenizer"),
    "a file": (on("a-file"), "'a-file'"),
    "fake GGUF": (on("fake.gguf"), "'fake.gguf'"),
    "truncated GGUF": (on("truncated.gguf"), "truncated.gguf"),
    # texts
    "missing texts": (text("none.jsonl"), "'none.jsonl'"),
    "texts a folder": (text("full"), "'full'"),
    "empty text": (text("empty.txt"), "empty.txt"),
    "no texts": (text("blank.jsonl"), "'blank.jsonl'"),
    "one token": (text("one.txt"), "'one' has 1 token"),
    "too few tokens": (text("short.txt"), "'short' has 8 tokens"),
    "too many tokens": (text("long.txt"), "'long' has 257 tokens"),
    "broken JSON": (text("broken.jsonl"), "broken.jsonl:2:"),
    "id twice": (text("twice.jsonl"), "twice.jsonl:2:"),
    "no object": (text("list.jsonl"), "list.jsonl:1:"),
    "unknown role": (text("role.jsonl"), "role.jsonl:1:"),
    "not UTF-8": (text("latin.txt"), "'latin.txt'"),
    "UTF-16": (text("utf-16.txt"), "'utf-16.txt'"),
    "UTF-16 lines without mark": (text("utf-16.jsonl"), "utf-16.jsonl:1:"),
    "UTF-16 without mark": (text("bare-utf-16.txt"), "'bare-utf-16.txt'"),
    "UTF-32": (text("utf-32.jsonl"), "'utf-32.jsonl'"),
    "a mark and nothing more": (text("mark.jsonl"), "'mark.jsonl'"),
    "NUL in a text": (text("nul.txt"), "'nul.txt'"),
    "cut inside a character": (text("cut.txt"), "'cut.txt'"),
    "compressed": (text("zipped.jsonl"), "'zipped.jsonl'"),
    "NaN in a line": (text("nan.jsonl"), "NaN"),
    "lists without end": (text("deep.jsonl"), "deep.jsonl:1:"),
    "half a character": (text("half.jsonl"), "half.jsonl:1:"),
    "id a list": (text("id-list.jsonl"), "[1]"),
    "text a number": (text("number.jsonl"), "number.jsonl:1:"),
    "prompt without output": (text("prompt.jsonl"), "'prompt'"),
    "content null": (text("content.jsonl"), "content.jsonl:1:"),
    "a table of commas": (text("table.csv"), "table.csv:1:"),
    "one array": (text("array.json"), "array.json:1:"),
    "texts that loop": (text("loop"), "'loop'"),
    "texts of endless zeros": (text("/dev/zero"), "'/dev/zero'"),
    "file name of 246 letters": (text("x" * 240 + ".jsonl"), "xxx.jsonl:1:"),
    "file name too long": (text("x" * 300), "x" * 300),
    "escapes in the file name": (text("red\x1b[31m.jsonl"), "red\\x1b[31m.jsonl:1:"),
    "no template": (text("ok.jsonl", "--feed", "chat", model="no-template"), "no chat template"),
    "template refuses": (text("talk.jsonl", model="refusing"), "'talk'"),
    # out
    "out a file": (out("a-file"), "'a-file' is a file"),
    "out below a file": (out("a-file/run"), "'a-file/run'"),
    "out not empty": (out("full"), "'notes.txt'"),
    "out not empty, by force": (out("full", "--force"), "'notes.txt'"),
    "out below a system folder": (out("/proc/run"), "'/proc/run'"),
    "out too long": (out("o" * 5000), "o" * 100),
    "out a loop": (out("loop"), "'loop'"),
    "out a device": (out("/dev/null"), "'/dev/null'"),
    "out a name of 300 letters": (out("o" * 300), "o" * 300),
    "out without a name": (out(""), "give a path, or . for the current folder"),
    # report and models
    "report of nothing": (["report", "nowhere"], "'nowhere'"),
    "report of a file": (["report", "a-file"], "'a-file'"),
    "report of a foreign folder": (["report", "full"], "'full'"),
    "report without a folder": (["report"], "'folder'"),
    "report of a long name": (["report", "r" * 300], "r" * 300),
    "report of a loop": (["report", "loop"], "'loop'"),
    "report of two folders": (["report", "full", "full2"], "full2"),
    "models in two forms": (["models", "--json", "--markdown"], "--markdown"),
    "models without a family": (["models", "--family", ""], "''"),
    "models of something": (["models", "tiny"], "tiny"),
    "models of no family": (["models", "--family", "qwen9"], "'qwen9'"),
}


@pytest.mark.parametrize(("arguments", "named"), CASES.values(), ids=CASES)
def test_one_line_names_what_is_wrong(arguments, named, place, tmp_path, capfd):
    target = tmp_path / "deep" / "run"
    code = run([argument.format(out=target) for argument in arguments])
    printed, error = capfd.readouterr()
    assert code == 2
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    assert named in error
    assert "Traceback" not in error
    assert all(char.isprintable() for char in error[:-1])
    assert not (tmp_path / "deep").exists(), "no folder is left behind"


def test_what_is_wrong_with_options_is_said_before_a_model_is_loaded(place, tmp_path, monkeypatch):
    def too_late(*arguments, **options):
        pytest.fail("the model was loaded")

    monkeypatch.setattr("secondary_sinks.sweeps.worker.load_model", too_late)
    target = str(tmp_path / "run")
    early = ("unknown feed", "unknown edit", "unknown device", "unknown dtype", "seed negative")
    early += ("unknown name", "missing texts", "broken JSON", "out not empty", "out a file")
    for name in early:
        assert run([argument.format(out=target) for argument in CASES[name][0]]) == 2, name
