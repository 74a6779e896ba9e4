"""Files of texts and prompts that come with the package, by name: `bundled:NAME`."""

from collections.abc import Mapping
from importlib import resources

from secondary_sinks.errors import TextError

PREFIX = "bundled:"
CORPORA: Mapping[str, str] = {"introduction": "corpus.jsonl", "claims": "claims.jsonl"}
"""Corpora of texts and their files: ten short ones for a first run, 33 longer ones for claims."""
PROMPTS: Mapping[str, str] = {"prompts": "prompts.jsonl"}
"""Prompts for `generate`."""


def is_bundled(path: object) -> bool:
    """Whether a path means a bundled file: it starts with `bundled:`."""
    return str(path).startswith(PREFIX)


def read_bundled(path: object, known: Mapping[str, str] = CORPORA) -> str:
    """The content of the bundled file that `bundled:NAME` means, or NAME alone.

    Raises `TextError` for a name that is not among the `known` ones.
    """
    name = str(path).removeprefix(PREFIX)
    if name not in known:
        raise TextError(
            f"no bundled file has the name {name!r}",
            f"expected {' or '.join(PREFIX + one for one in known)}",
        )
    resource = resources.files("secondary_sinks.texts") / known[name]
    return resource.read_text(encoding="utf-8")
