"""Files of texts and prompts that come with the package, by name: `bundled:NAME`."""

from collections.abc import Mapping
from importlib import resources

from secondary_sinks.errors import TextError

PREFIX = "bundled:"
CORPORA: Mapping[str, str] = {"introduction": "corpus.jsonl", "claims": "claims.jsonl"}
"""Corpora of texts and their files: ten short ones for a first run, 33 longer ones for claims."""
PROMPTS: Mapping[str, str] = {"prompts": "prompts.jsonl"}
"""Prompts for `generate`."""


def bundled_name(path: object) -> str | None:
    """The NAME in `bundled:NAME`; None for any other path.

    >>> bundled_name("bundled:claims")
    'claims'
    """
    path = str(path)
    return path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def read_bundled(name: str, known: Mapping[str, str]) -> str:
    """The content of a bundled file. Raises `TextError` for a name that is not `known`."""
    if name not in known:
        raise TextError(
            f"no bundled file has the name {name!r}",
            f"expected {' or '.join(PREFIX + one for one in known)}",
        )
    resource = resources.files("secondary_sinks.texts") / known[name]
    return resource.read_text(encoding="utf-8")
