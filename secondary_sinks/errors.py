"""The exceptions of this package, as one tree.

    SinkError
    ├── ModelError            the model cannot be found or loaded
    │   ├── UnknownModelError     no alias, folder, file or hub name like that
    │   ├── HubError              the hub is out of reach or refuses the repository
    │   ├── DamagedModelError     files that are broken, incomplete or of different models
    │   ├── UnsupportedModelError an architecture or feature we cannot prove right
    │   ├── ModelMemoryError      the weights need more memory than is free
    │   └── ModelMismatchError    the hooked model disagrees with its original
    ├── HookError             a hook that would be ignored or do something unexpected
    ├── TextError             a text cannot be read, is too short or too long
    ├── MeasureError          tensors or numbers that a measure does not accept
    │   └── CacheError            a cache lacks activations, or holds several texts
    ├── DetectionError        traces, sinks, or files of either, that detection cannot use
    ├── EditError             an edit that is unknown or impossible; settings of a question
    ├── QuestionError         a question that is unknown or asked twice; a sink without an answer
    ├── TraceError            no trace, or one of another model or text
    ├── AttributionError      a layer or position that does not exist
    ├── PlantError            a planted model that is impossible, or has no clear truth
    ├── SweepError            a sweep whose config, ranges or parts are invalid
    ├── RunFolderError        a run folder that cannot or must not be written
    ├── SpecialFileError      a pipe, device or folder where a regular file is expected
    └── LargeFileError        a file that is larger than any of its kind

Each message says what was expected, what was given, and what to do next. The library raises; only
the command line turns an error into one line and exit code 2. `SinkWarning` is for results that are
correct, but mean something else than one might think.
"""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


def reason(error: BaseException, most: int = 300) -> str:
    """The message of another library's exception, on one line of at most `most` characters.

    >>> reason(ValueError("sizes differ:\\n    32 and 33\\n")), reason(KeyError())
    ('sizes differ: 32 and 33', 'KeyError')
    """
    message = " ".join(str(error).split()).rstrip(".;:") or type(error).__name__
    return message if len(message) <= most else message[: most - 3] + "..."


def expected_one_of(known: Iterable[str], given: object) -> str:
    """The remedy for an unknown word: the closest known one, if one is close, then all of them.

    >>> expected_one_of(["primary", "secondary"], "seconday")
    "did you mean 'secondary'? Expected one of primary, secondary"
    >>> expected_one_of(["zero", "mean"], "foo")
    'expected one of zero, mean'
    """
    words = list(known)
    close = difflib.get_close_matches(str(given), words, 1)
    asked = f"did you mean {close[0]!r}? Expected" if close else "expected"
    return f"{asked} one of {', '.join(words)}"


class SinkError(Exception):
    """Base of every error that this package raises on purpose.

    >>> error = SinkError("'x' is not a folder", "choose another --out")
    >>> str(error), error.problem
    ("'x' is not a folder; choose another --out", "'x' is not a folder")
    """

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        """`problem`: what is wrong; `remedy`: what is expected or what to do next, may be empty."""
        super().__init__(*filter(None, (problem, remedy)))
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        """Problem and remedy in one sentence."""
        return "; ".join(filter(None, (self.problem, self.remedy)))


class ModelError(SinkError):
    """The model cannot be found, read or loaded."""


class UnknownModelError(ModelError):
    """A model name that is neither an alias, a folder, a GGUF file nor a hub name."""


class HubError(ModelError):
    """The hub cannot be reached, or refuses access to the repository."""


class DamagedModelError(ModelError):
    """Files of a model that are broken, incomplete, or do not belong together."""


class UnsupportedModelError(ModelError):
    """An architecture or feature for which correct loading cannot be proven."""


class ModelMemoryError(ModelError):
    """A model whose weights need more memory than is free."""


class ModelMismatchError(ModelError):
    """The hooked model disagrees with its Hugging Face original."""


class QuestionError(SinkError):
    """An unknown causal question."""


class HookError(SinkError):
    """A hook or argument that would be ignored, or do something unexpected."""


class TextError(SinkError):
    """A text that cannot be read, is empty, too short or too long."""


class MeasureError(SinkError, ValueError):
    """Tensors that do not fit together, or a number out of range, in a measure."""


class CacheError(MeasureError):
    """A cache that lacks the activations a measure needs, or holds more than one text."""


class DetectionError(SinkError):
    """Traces, sinks, or files of either, that detection cannot use."""


class EditError(SinkError):
    """An edit that is unknown, or impossible at this token, layer or site."""


class TraceError(SinkError):
    """A trace that was measured on a different model."""


class AttributionError(SinkError):
    """A layer or position that does not exist."""


class PlantError(SinkError):
    """A planted model that is impossible, or whose true sinks are not well defined."""


class SweepError(SinkError):
    """A sweep whose config, ranges or parts are invalid."""


class RunFolderError(SinkError):
    """A run folder that cannot be written, or must not be overwritten."""


class SpecialFileError(SinkError, OSError):
    """A pipe, device, socket or folder where a regular file is expected."""

    def __init__(self, path: Path, kind: str) -> None:
        """`kind` names what is at the path, such as "a FIFO (named pipe)"."""
        OSError.__init__(self, errno.EINVAL, f"it is {kind}, not a regular file")
        self.path, self.kind = path, kind
        self.problem = f"{str(path)!r} is {kind}"
        self.remedy = "expected a regular file: remove it, or give another path"


class LargeFileError(SinkError, OSError):
    """A file that is larger than any of its kind, so that reading it would take all memory."""

    def __init__(self, path: Path, size: int, most: int) -> None:
        """`size` is what it has, `most` what is read, both in bytes."""
        OSError.__init__(self, errno.EFBIG, f"it has {size:,} bytes, expected at most {most:,}")
        self.path = path
        self.problem = f"{str(path)!r} has {size:,} bytes; expected at most {most:,}"
        self.remedy = "remove it, or give another path"


class SinkWarning(UserWarning):
    """A result that is correct, but means something else than one might think."""
