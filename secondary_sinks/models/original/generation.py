"""generation_config.json of a folder, which says at which tokens an answer ends.

Only `generate` needs it. transformers takes a broken one for a missing one, and answers would run
on to their limit; so the fault is kept with the model, said at load, and refused by `generate`.
"""

import warnings
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from secondary_sinks.errors import DamagedModelError, SinkWarning
from secondary_sinks.layerwise.cached_generation import UNREADABLE, fault_of_ends
from secondary_sinks.models.original.checkpoint import read_json

FILE = "generation_config.json"


def stand_in_if_broken(folder: Path) -> dict[str, Any]:
    """Options of `from_pretrained`: a stand-in for a broken file that says what is wrong with it.

    None where the file is whole, or there is none. A `SinkWarning` says what is wrong.
    """
    wrong = _fault(folder / FILE)
    if not wrong:
        return {}
    warnings.warn(
        f"{wrong}; only `generate` needs it, and will refuse this model",
        SinkWarning,
        stacklevel=2,
    )
    return {"generation_config": GenerationConfig(**{UNREADABLE: wrong})}


def _fault(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        found = read_json(path)
        GenerationConfig.from_dict(found)
    except DamagedModelError as error:
        return str(error)
    except Exception as error:  # values of a wrong type: transformers raises many kinds
        return f"{str(path)!r} cannot be used ({error}); take the one that belongs to the model"
    wrong = fault_of_ends(found.get("eos_token_id"))
    return f"{str(path)!r} cannot be used: {wrong}" if wrong else ""
