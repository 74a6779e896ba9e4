"""Measures of a cache, which `on_cache` makes, as functions with a signature on the site."""

import inspect
from importlib import import_module
from typing import Any

from griffe import (
    Attribute,
    Docstring,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: ParameterKind.keyword_only,
}


class Twins(Extension):
    """Puts a function in place of each module attribute that `on_cache` made."""

    def on_module(self, *, mod: Module, **kwargs: Any) -> None:
        """Called for every module once its members are known."""
        if not mod.path.endswith("measures.cached"):
            return
        for name, member in list(mod.members.items()):
            if isinstance(member, Attribute) and "on_cache" in str(member.value):
                mod.set_member(name, function_of(getattr(import_module(mod.path), name)))


def function_of(twin: Any) -> Function:
    """A function of the site, from the signature and docstring of one that runs."""
    signature = inspect.signature(twin)
    parameters = [
        Parameter(item.name, annotation=words(item.annotation), kind=KINDS[item.kind],
                  default=None if item.default is item.empty else repr(item.default))
        for item in signature.parameters.values()
    ]  # fmt: skip
    return Function(
        twin.__name__,
        parameters=Parameters(*parameters),
        returns=words(signature.return_annotation),
        docstring=Docstring(inspect.getdoc(twin) or ""),
    )


def words(annotation: Any) -> str:
    """An annotation as it stands in code: `int | None`, `Float[Tensor, 'key']`."""
    told = inspect.formatannotation(annotation)
    for room in ("jaxtyping.", "collections.abc.", "secondary_sinks.measures.hook_names."):
        told = told.replace(room, "")
    return told
