"""Interactive patching in a notebook: a session of edits, and a widget that shows it.

`Session` is plain Python; `SinkExplorer` needs the extra `secondary-sinks[notebook]`.
"""

from typing import TYPE_CHECKING, Any

from secondary_sinks.notebook.choice import Choice
from secondary_sinks.notebook.session import Session

if TYPE_CHECKING:
    from secondary_sinks.notebook.widget import SinkExplorer

__all__ = ["Choice", "Session", "SinkExplorer"]


def __getattr__(name: str) -> Any:
    """Import `SinkExplorer` at first use, because sessions need no widgets."""
    if name != "SinkExplorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from secondary_sinks.notebook.widget import SinkExplorer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"SinkExplorer needs {error.name}, which is not installed; "
            "install the extra: pip install 'secondary-sinks[notebook]'"
        ) from error
    return SinkExplorer
