"""Build the config of a sweep from plain data: flags, a YAML or TOML file, or a stored config."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import DetectionError, SpecialFileError, SweepError
from secondary_sinks.runs.plain import EXACT
from secondary_sinks.sweeps.config import SweepConfig, parse_layers
from secondary_sinks.sweeps.tasks import ModelSpec
from secondary_sinks.sweeps.values import SIMPLE, SPEC, expect, short
from secondary_sinks.types import Thresholds, split_words

MOST_BYTES = 200_000
"""Largest config file in bytes: enough for the paths of some thousand text files."""
MOST_PARTS = 200
"""Most dots before the first `=` of a TOML line."""
_OF_MODELS = {item.name for item in fields(ModelSpec)} - {"name"}


def from_dict(given: Any, where: str = "the config") -> SweepConfig:
    """Build a config from plain data, as in `SweepConfig.to_dict` or a config file.

    `models` are names or mappings with a name. `device`, `dtype`, `revision`, `bridge`,
    `trust_remote_code`, `n_devices` and `skip` at the top level apply to all models. Several
    revisions, a list or words with commas between, make a model `name@revision` of each. Raises
    `SweepError` that names the key and what is allowed.
    """
    if not isinstance(given, Mapping):
        raise SweepError(f"{where}: expected keys and values, such as 'edits: [zero]'")
    known = {item.name for item in fields(SweepConfig)} | _OF_MODELS
    _refuse_unknown(given, known, where, "")
    shared = {name: given[name] for name in _OF_MODELS & given.keys()}
    values: dict[str, Any] = {
        "models": tuple(
            spec for one in _list(given, "models", where) for spec in _specs(one, shared, where)
        )
    }
    for name in ("texts", "edits", "sites"):
        if given.get(name) is not None:
            values[name] = tuple(_text(one, name, where) for one in _list(given, name, where))
    if given.get("layers") is not None:
        values["layers"] = _layers(given["layers"], where)
    if given.get("thresholds") is not None:
        values["thresholds"] = _thresholds(given["thresholds"], where)
    for name, kind in SIMPLE.items():
        if given.get(name) is not None:
            values[name] = expect(given[name], kind, name, where)
    return SweepConfig(**values)


def _list(given: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """A list; a single word counts as a list with one item."""
    value = given.get(name, [])
    if isinstance(value, str | Mapping):
        return [value]
    return list(expect(value, list, name, where))


def _specs(one: Any, shared: Mapping[str, Any], where: str) -> list[ModelSpec]:
    """A model, or one for each of its revisions."""
    given = dict(one) if isinstance(one, Mapping) else {"name": one}
    revisions = given.get("revision", shared.get("revision"))
    if isinstance(revisions, str) and "," in revisions:
        revisions = split_words(f"{where}: revision", revisions, SweepError)
    if not isinstance(revisions, list) or not isinstance(given.get("name"), str):
        return [_spec(one, shared, where)]
    words = [_text(word, "revision", where) for word in revisions]
    if not words:
        raise SweepError(f"{where}: revision is []", "expected at least one")
    named = [given | {"name": f"{given['name']}@{word}", "revision": None} for word in words]
    rest = {name: value for name, value in shared.items() if name != "revision"}
    return [_spec(each, rest, where) for each in named]


def _spec(one: Any, shared: Mapping[str, Any], where: str) -> ModelSpec:
    if isinstance(one, str):
        one = {"name": one}
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
        raise SweepError(
            f"{where}: models has {short(one)}", "expected a name, or a mapping with a name"
        )
    _refuse_unknown(one, _OF_MODELS | {"name"}, where, " of a model")
    values: dict[str, Any] = {}
    for name, value in {**shared, **one}.items():
        if value is None or name == "name":
            continue
        if name == "skip":
            words = _list({"skip": value}, "skip", where)
            values[name] = tuple(_text(word, "skip", where) for word in words)
        else:
            values[name] = expect(value, SPEC[name], name, where)
    return ModelSpec(name=_text(one["name"], "name", where), **values)


def _refuse_unknown(given: Mapping[Any, Any], known: set[str], where: str, whose: str) -> None:
    for key in given:
        if key not in known:
            allowed = ", ".join(sorted(known))
            raise SweepError(f"{where}: unknown key {short(key)}{whose}", f"expected {allowed}")


def _layers(value: Any, where: str) -> tuple[int, ...]:
    parts = [value] if isinstance(value, str | int) else expect(value, list, "layers", where)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise SweepError(f"{where}: layers is {short(value)}", "expected ranges, as in 0-11,20")
    return parse_layers(",".join(p if isinstance(p, str) else short(p) for p in parts))


def _thresholds(value: Any, where: str) -> Thresholds:
    given = expect(value, dict, "thresholds", where)
    known: dict[str, Any] = {item.name: item.type for item in fields(Thresholds)}
    for name, number in given.items():
        if name not in known:
            raise SweepError(
                f"{where}: unknown threshold {short(name)}", f"expected some of {', '.join(known)}"
            )
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise SweepError(f"{where}: threshold {name} is {short(number)}", "expected a number")
        if isinstance(number, int) and abs(number) >= EXACT:
            raise SweepError(
                f"{where}: threshold {name} is {short(number)}", f"expected below {EXACT}"
            )
        if known[name] is int and not isinstance(number, int):
            raise SweepError(f"{where}: threshold {name} is {number!r}", "expected a whole number")
    try:
        return Thresholds(**{name: known[name](number) for name, number in given.items()})
    except DetectionError as error:
        raise SweepError(f"{where}: {error.problem}", error.remedy) from error


def _text(value: Any, name: str, where: str) -> str:
    """A word; numbers are refused."""
    word = str(expect(value, str, name, where))
    if any("\ud800" <= char <= "\udfff" for char in word):
        raise SweepError(f"{where}: {name} holds half a surrogate pair in {short(word)}")
    return word


def read_config(path: Path) -> dict[str, Any]:
    """Read the keys and values of a `.yaml`, `.yml` or `.toml` file. Raises `SweepError`."""
    if path.suffix not in _READERS:
        raise SweepError(f"config {str(path)!r}: expected a name in {', '.join(_READERS)}")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise SweepError(
                f"config {str(path)!r} has {size:,} bytes", f"expected at most {MOST_BYTES:,}"
            )
        content = files.read_text(path, "utf-8-sig")
    except SpecialFileError as error:
        raise SweepError(
            f"config {str(path)!r} is not a file (it is {error.kind})",
            "expected one of keys and values",
        ) from error
    except UnicodeDecodeError as error:
        raise SweepError(
            f"{str(path)!r} is not UTF-8 text (byte {error.start})", "save the file as UTF-8"
        ) from error
    except OSError as error:
        raise SweepError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    try:
        found = _READERS[path.suffix](content)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise SweepError(f"config {str(path)!r} cannot be read: {reason}") from error
    if not isinstance(found, dict):
        raise SweepError(f"config {str(path)!r}: expected keys and values, got {short(found)}")
    for key in found:
        if not isinstance(key, str):
            raise SweepError(
                f"config {str(path)!r}: key {short(key)} is not a string", "expected string keys"
            )
    return found


def _yaml(content: str) -> Any:
    from secondary_sinks.runs.plain_yaml import load

    return load(content)


def _toml(content: str) -> Any:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]
    for number, line in enumerate(content.split("\n"), start=1):
        n_parts = line.partition("=")[0].count(".") + 1
        if n_parts > MOST_PARTS:  # each part copies all parts before it
            raise ValueError(f"line {number}: a key of {n_parts:,} parts; expected fewer")
    found = tomllib.loads(content)
    _refuse_not_decimal(content)
    return found


_TOML_PARTS = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^"\\\n])*"'
    r"|'{3}.*?'{3,5}|'[^'\n]*'|#[^\n]*|[\w+.-]+",
    re.DOTALL,
)
"""Strings, comments and bare words of TOML."""
_NOT_DECIMAL = re.compile(r"[-+]?(0[xob]\w+|\d[\d.eE+-]*_[\w.+-]*)")


def _refuse_not_decimal(content: str) -> None:
    """Raise `ValueError` for a number such as 1_0 or 0x10, as `plain_yaml` does."""
    for part in _TOML_PARTS.finditer(content):
        if _NOT_DECIMAL.fullmatch(part[0]):
            line = content.count("\n", 0, part.start()) + 1
            raise ValueError(
                f"line {line}: {part[0]!r:.60} is not decimal; write it so, or put it in quotes"
            )


_READERS = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml}


def merge_options(base: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a file, overridden by the flags that were given."""
    return {**base, **{key: value for key, value in flags.items() if value is not None}}
