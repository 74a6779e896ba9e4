"""When Python looks for garbage: not while libraries are imported, and not at the end.

Importing them makes nearly a million objects that stay. Python would look through these again and
again, and once more when it exits: a third of the time of a short run.
"""

import gc
import sys
from typing import NoReturn

AS_USUAL = gc.get_threshold()
OBJECTS = 1_000_000
"""New objects after which garbage is searched for all the same."""


def postpone() -> None:
    """Import without searches."""
    gc.set_threshold(OBJECTS)


def resume() -> None:
    """Search as usual, but only among objects that are made from now on."""
    gc.freeze()
    gc.set_threshold(*AS_USUAL)


def leave(code: int) -> NoReturn:
    """Exit with a code, without a last search."""
    gc.freeze()
    sys.exit(code)
