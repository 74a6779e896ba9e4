"""What made a result, in words for its page: model, texts, code and command.

Pages are read elsewhere, so files are named without the folders of the machine that made them.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

DEFAULT = "bundled:introduction"
"""The texts of a record that names none."""
DIGITS = 12


def model_in_words(made: Mapping[str, Any]) -> str:
    """The short name of the model, and what tells its weights.

    >>> model_in_words({"asked": {"model": "small", "file": "small.gguf", "sha256": "0f" * 32}})
    'small (small.gguf, sha256 0f0f0f0f0f0f)'
    """
    asked = made.get("asked", {})
    told = [asked["file"], f"sha256 {asked['sha256'][:DIGITS]}"] if "file" in asked else []
    weights = made.get("model", {}).get("weights_sha256")
    told += [f"weights as loaded {weights[:DIGITS]}"] if weights else []
    name = base_name(asked.get("model", "unknown"))
    return name + (f" ({', '.join(told)})" if told else "")


def texts_in_words(made: Mapping[str, Any]) -> str:
    """Name, number and tokens of the texts.

    >>> texts_in_words({"asked": {"texts": "/home/me/my.jsonl"}, "texts": [{"n_tokens": 1200}]})
    'my.jsonl: 1 text, 1,200 tokens'
    >>> asked = {"texts": "my.jsonl", "every": 4, "max_tokens": 400}
    >>> texts_in_words({"asked": asked, "texts": []})
    'my.jsonl, one in 4, first 400 tokens of each: 0 texts, 0 tokens'
    """
    texts = made.get("texts", ())
    n_tokens = sum(text.get("n_tokens", 0) for text in texts)
    number = f"{len(texts)} text{'' if len(texts) == 1 else 's'}"
    asked = made.get("asked", {})
    which = f", one in {asked['every']}" if asked.get("every", 1) > 1 else ""
    if "max_tokens" in asked:
        which += f", first {asked['max_tokens']:,} tokens of each"
    return f"{texts_name(made)}{which}: {number}, {n_tokens:,} tokens"


def texts_name(made: Mapping[str, Any]) -> str:
    """Base name of the texts' file, or the name of a bundled corpus or a data set.

    >>> texts_name({"asked": {"texts": "hf:/home/me/questions:test:question"}})
    'hf:questions:test:question'
    """
    name = made.get("asked", {}).get("texts") or DEFAULT
    kind, colon, rest = name.partition(":")
    if not colon or kind not in ("bundled", "hf"):
        return base_name(name)
    place, *more = rest.split(":")
    return ":".join([kind, base_name(place) if place[:1] in "/~." else place, *more])


def code_in_words(made: Mapping[str, Any]) -> str:
    """Commit and versions of the code."""
    versions = made.get("versions_of_code", {})
    told = ", ".join(f"{part} {version}" for part, version in versions.items())
    commit = (made.get("commit") or "unknown").partition("-")
    dirty = " with changes" if commit[2] else ""
    return f"commit {commit[0][:DIGITS]}{dirty}" + (f" ({told})" if told else "")


def command_of(made: Mapping[str, Any]) -> str:
    """The command that makes the results again, where model and texts lie in the working folder."""
    asked = made.get("asked", {})
    model = asked.get("file") or asked.get("repository") or base_name(asked.get("model", "unknown"))
    chosen = {"--every": asked.get("every"), "--max-tokens": asked.get("max_tokens")}
    options = " ".join(f"{option} {value}" for option, value in chosen.items() if value)
    quoted = f' OPTIONS="{options}"' if options else ""
    return f"make results MODEL={model} TEXTS={texts_name(made)}{quoted}"


def own_command(name: str, made: Mapping[str, Any]) -> str:
    """The command of a single experiment, with options of its own.

    >>> asked = {"model": "m", "texts": "my.jsonl", "every": 2}
    >>> own_command("accuracy", {"asked": asked, "options": {"anywhere": True, "tau": 0.9}})
    'python -m experiments.accuracy --model m --texts my.jsonl --every 2 --anywhere --tau 0.9'
    """
    asked = made["asked"]
    words = ["--model", asked.get("file") or base_name(asked["model"]), "--texts", texts_name(made)]
    shared = {name: asked[name] for name in ("every", "max_tokens") if name in asked}
    for option, value in (shared | made["options"]).items():
        name_of_option = option.replace("_", "-")
        words.append(f"--no-{name_of_option}" if value is False else f"--{name_of_option}")
        words += [] if isinstance(value, bool) else [str(value)]
    return f"python -m experiments.{name} {' '.join(words)}"


def base_name(path: str) -> str:
    """The last part of a path.

    >>> base_name("/somewhere/small.gguf")
    'small.gguf'
    """
    return PurePath(path).name or path
