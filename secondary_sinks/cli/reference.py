"""Generate the page docs/cli.md from the commands.

python -m secondary_sinks.cli.reference > docs/cli.md
"""

import inspect
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import CommandInfo, OptionInfo, ParameterInfo

from secondary_sinks.cli.flags import NEEDED
from secondary_sinks.cli.sweep_app import app

HEAD = """# Command line

    secondary-sinks COMMAND ...

Exit codes: 0 done, 2 bad input (one line on the standard error says what), 3 done, but parts were
skipped, 130 interrupted, 143 terminated. This page is made from the code, by
`python -m secondary_sinks.cli.reference`.
"""
WORDS = {Path: "PATH", str: "TEXT", int: "INT", float: "NUMBER"}


def reference() -> str:
    """The page as Markdown: every command with its arguments, options and an example."""
    return "\n".join([HEAD, *map(_command, app.registered_commands)])


def _command(command: CommandInfo) -> str:
    function: Any = command.callback
    hints = get_type_hints(function, include_extras=True)
    given = [
        (name, parameter.default, *get_args(hints[name])[:2])
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    rows, usage = [], ["secondary-sinks", _name(command)]
    for name, default, kind, info in given:
        if not isinstance(info, OptionInfo):
            usage.append(name.upper() + ("..." if get_origin(kind) is list else ""))
        rows.append(_row(name, default, kind, info))
    parts = [
        f"## {_name(command)}",
        inspect.cleandoc(function.__doc__),
        f"    {' '.join([*usage, '[OPTIONS]'])}",
        "\n".join(["| | | default |", "|---|---|---|", *rows]),
    ]
    if command.epilog:
        parts.append(f"    {command.epilog.removeprefix('Example: ')}")
    return "\n\n".join(parts) + "\n"


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def _row(name: str, default: Any, kind: Any, info: ParameterInfo) -> str:
    words = " ".join((info.help or "").split()).replace("|", "\\|")
    if default is inspect.Parameter.empty or info in NEEDED:
        shown = "must be given"
    else:
        shown = "" if default is None or default is False else f"`{default}`"
    label = _flags(name, kind, info) if isinstance(info, OptionInfo) else name.upper()
    return f"| `{label}` | {words} | {shown} |"


def _flags(name: str, kind: Any, info: OptionInfo) -> str:
    first = info.default  # for typer, the first flag that an Annotated option names
    named = [one for one in (first, *(info.param_decls or ())) if isinstance(one, str)]
    flags = ", ".join(named or [f"--{name.replace('_', '-')}"]).replace("/", ", ")
    if kind is bool:
        return flags
    return f"{flags} {info.metavar or _word(kind)}"


def _word(kind: Any) -> str:
    """Display name of a value, from the first type that is not None."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is not None:
        return _word(next(one for one in get_args(kind) if one is not type(None)))
    return WORDS.get(kind, "VALUE")


if __name__ == "__main__":
    print(reference(), end="")
