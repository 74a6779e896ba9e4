"""Everything that can go wrong, as one tree.

    SinkError
    ├── ModelError            the model cannot be found or loaded
    │   ├── UnknownModelError     no alias, folder, file or hub name like that
    │   ├── HubError              the hub is out of reach or refuses the repository
    │   ├── DamagedModelError     files that are broken, incomplete or of different models
    │   ├── UnsupportedModelError an architecture or feature we cannot prove right
    │   ├── ModelMemoryError      the weights need more memory than is free
    │   └── ModelMismatchError    the hooked model disagrees with its original
    ├── HookError             a hook that would do nothing, or something else than it says
    ├── TextError             a text cannot be read, is too short or too long
    ├── MeasureError          tensors or numbers that a measure cannot be taken of
    │   └── CacheError            a cache lacks activations, or holds several texts
    ├── DetectionError        traces, sinks or files of them that cannot be judged
    ├── EditError             an edit or a cell that is not possible
    ├── QuestionError         a causal question that there is not
    ├── TraceError            a trace that was measured on another model
    ├── AttributionError      a layer that is not there
    ├── PlantError            a planted model that cannot be, or has no clear truth
    ├── SweepError            a sweep that cannot be as it is asked for
    ├── RunFolderError        a run folder that must not or cannot be written
    └── SpecialFileError      a pipe, device or folder where a regular file is expected

A message says what was expected, what came, and what to do next. The library
raises; only the command line turns an error into one line and exit code 2.
`SinkWarning` is for what is right but must not go unnoticed.
"""

import errno
from pathlib import Path


def reason(error: BaseException, most: int = 300) -> str:
    """What an error of a library says, on one line of at most `most` characters.

    >>> reason(ValueError("sizes differ:\\n    32 and 33\\n")), reason(KeyError())
    ('sizes differ: 32 and 33', 'KeyError')
    """
    said = " ".join(str(error).split()).rstrip(".;:") or type(error).__name__
    return said if len(said) <= most else said[: most - 3] + "..."


class SinkError(Exception):
    """Base of every error that this package raises on purpose.

    >>> error = SinkError("'x' is no folder", "choose another --out")
    >>> str(error), error.problem
    ("'x' is no folder; choose another --out", "'x' is no folder")
    """

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        """`problem`: what was expected and what came; `remedy`: what to do next, may be empty."""
        super().__init__(*filter(None, (problem, remedy)))
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        """Problem and remedy in one sentence."""
        return "; ".join(filter(None, (self.problem, self.remedy)))


class ModelError(SinkError):
    """The model cannot be found, read or loaded."""


class UnknownModelError(ModelError):
    """A model name that is no alias, no folder, no GGUF file and no hub name."""


class HubError(ModelError):
    """The hub cannot be reached, or does not hand out the repository."""


class DamagedModelError(ModelError):
    """Files of a model that are broken, incomplete, or do not belong together."""


class UnsupportedModelError(ModelError):
    """An architecture or feature that cannot be loaded with proof that it is right."""


class ModelMemoryError(ModelError):
    """A model whose weights need more memory than is free."""


class ModelMismatchError(ModelError):
    """The hooked model computes something else than its Hugging Face original."""


class QuestionError(SinkError):
    """A causal question that there is not."""


class HookError(SinkError):
    """A hook or argument that would be ignored, or do something else than it says."""


class TextError(SinkError):
    """A text that cannot be read, is empty, too short or too long."""


class MeasureError(SinkError, ValueError):
    """Tensors that do not fit together, or a number out of range, in a measure."""


class CacheError(MeasureError):
    """A cache that lacks the activations a measure needs, or holds more than one text."""


class DetectionError(SinkError):
    """Traces, sinks, or files of either, that cannot be judged as asked."""


class EditError(SinkError):
    """An edit that is unknown or a cell that is not possible."""


class TraceError(SinkError):
    """A trace that was measured on another model than the one it is used with."""


class AttributionError(SinkError):
    """A layer that the model does not have."""


class PlantError(SinkError):
    """A planted model that is not possible, or whose sinks would be a matter of opinion."""


class SweepError(SinkError):
    """A sweep that cannot be as it is asked for: its config, ranges or parts."""


class RunFolderError(SinkError):
    """A run folder that cannot be written, or must not be overwritten."""


class SpecialFileError(SinkError, OSError):
    """A pipe, device, socket or folder where a regular file is expected."""

    def __init__(self, path: Path, kind: str) -> None:
        """`kind` is what there is, in words."""
        OSError.__init__(self, errno.EINVAL, f"it is {kind}, not a regular file")
        self.path, self.kind = path, kind
        self.problem = f"{str(path)!r} is {kind}"
        self.remedy = "expected a regular file: remove it, or give another path"


class SinkWarning(UserWarning):
    """Something that is right but changes what a result means."""
