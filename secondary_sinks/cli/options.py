"""The app to which commands are added, and how their options are declared, shared and recorded."""

import math
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

from secondary_sinks.cli import complete

app = typer.Typer(
    name="secondary-sinks",
    help="Find secondary attention sinks in a language model, and test which MLPs make them.",
    epilog="Example: secondary-sinks run smollm2-135m --out runs/demo",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def whole(help: str, *, least: int = 0) -> Any:
    """An option that takes a whole number, in plain digits."""

    def parse(value: str | int) -> int:
        digits = str(value)
        plain = digits.isascii() and digits.isdecimal() and len(digits) < 20
        if not plain or not least <= int(digits) < 2**63:
            shown = digits if len(digits) < 40 else f"{digits[:36]}..."
            raise typer.BadParameter(f"{shown!r} is not a whole number from {least} to 2^63 - 1")
        return int(digits)

    return typer.Option(parser=parse, metavar="INT", help=help)


def path_of(word: str | Path) -> Path:
    """The path that a word names. An empty one, such as an unset variable of a shell, is refused.

    It would name the current folder.
    """
    if not str(word):
        raise typer.BadParameter("it is empty; give a path, or . for the current folder")
    return Path(word)


NAMED_PATH: dict[str, Any] = {
    **{"parser": path_of, "metavar": "PATH", "autocompletion": complete.paths(())}
}
"""How every option that takes a path is declared."""


def named_path(metavar: str | None = None) -> dict[str, Any]:
    """How an argument that takes a path is declared."""
    return NAMED_PATH | {"metavar": metavar}


def number(help: str, *, least: float = -math.inf, most: float = math.inf) -> Any:
    """An option that takes a number, in plain digits."""

    def parse(value: str | float) -> float:
        from secondary_sinks.types.lists import number_word

        try:
            found = number_word(str(value))
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            span = "" if math.isinf(least) else f", from {least:g} to {most:g}"
            raise typer.BadParameter(f"{value!r:.60} is not a number in plain digits{span}")
        return found

    return typer.Option(parser=parse, metavar="NUMBER", help=help)


def sharing(
    shared: Callable[..., None], after: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**shared` of a command by the options of `shared`.

    The command's own options follow the option `after`; its own arguments come first.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        mine = signature(command).parameters.values()
        own = [one for one in mine if one.kind is not one.VAR_KEYWORD]
        first = [one for one in own if _is_argument(one.annotation)]
        own = [one for one in own if one not in first]
        common = list(signature(shared).parameters.values())
        place = [one.name for one in common].index(after) + 1
        order = [*first, *common[:place], *own, *common[place:]]

        @wraps(command)
        def with_options(**options: object) -> None:
            command(**options)

        options = {one.name: one.annotation for one in order}
        with_options.__signature__ = Signature(order)  # type: ignore[attr-defined]
        with_options.__annotations__ = options | {"return": None}
        return with_options

    return decorate


def _is_argument(annotation: Any) -> bool:
    return any(isinstance(one, ArgumentInfo) for one in getattr(annotation, "__metadata__", ()))


def option_words(options: Mapping[str, object]) -> list[str]:
    """Options as words of a command line; those that are None or False are left out."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option] if one is True else [option, str(one)]
    return words


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"secondary-sinks {installed('secondary-sinks')}")
        raise typer.Exit()
