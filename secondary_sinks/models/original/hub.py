"""Files of models on the Hugging Face hub, or an error that says why they cannot be had."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, get_session, snapshot_download
from huggingface_hub.utils import tqdm

from secondary_sinks.errors import HubError, ModelError, UnknownModelError, reason
from secondary_sinks.models.original import catalogue

SECONDS = 5.0
"""How long the hub may take to answer."""
SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
SUBFOLDERS = ("*/*",)
"""Not downloaded: they hold the same weights in other formats."""


class _ProgressBar(tqdm):
    """Progress of a download, shown only on a terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"disable": None, **options})


def is_reachable() -> bool:
    """Whether the hub answers; asked once, since each file would be tried for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # offline mode, no name service, refused, too slow
        return False
    return True


def download(
    repository: str, revision: str | None, patterns: Sequence[str] = SMALL_FILES, *, online: bool
) -> Path:
    """Download the files of a repository that the local cache lacks; their folder in the cache.

    The folder's name is the commit that `revision` (default: the main branch) stands for. Only the
    cache is used unless `online`. Raises `HubError` if the hub does not provide the files, and
    `UnknownModelError` if there is no such repository or revision.
    """
    with _explain_errors(repository, revision, online=online):
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(SUBFOLDERS),
            local_files_only=not online,
            tqdm_class=_ProgressBar,
        )
    return Path(folder)


@contextmanager
def _explain_errors(repository: str, revision: str | None, *, online: bool) -> Iterator[None]:
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"repository {repository!r} is gated: accept its conditions on its page on the hub, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UnknownModelError(
            f"repository {repository!r} has no revision {revision!r}",
            "expected one of its branches, tags or commit hashes",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(_no_repository(repository)) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubError(_out_of_reach(repository, revision, online=online)) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise HubError(
            f"the hub answered {status} when asked for {repository!r}",
            "try again later, or give the path of a local folder",
        ) from error
    except OSError as error:
        raise ModelError(
            f"{repository!r} cannot be stored in the hub's cache {constants.HF_HUB_CACHE!r} "
            f"({error})",
            "make room there, or set HF_HOME to another place",
        ) from error
    except Exception as error:  # the connection broke, in one of many ways
        raise HubError(
            f"{repository!r} could not be downloaded: {reason(error)}",
            "run the same command again to resume, or give the path of a local folder",
        ) from error


def _no_repository(repository: str) -> str:
    similar = catalogue.similar_aliases(repository)
    hint = f" (did you mean {', '.join(similar)}?)" if similar else ""
    return (
        f"the hub has no repository {repository!r}{hint}, or it is private; check the name, and "
        "for a private one log in with `hf auth login` or set HF_TOKEN"
    )


def _out_of_reach(repository: str, revision: str | None, *, online: bool) -> str:
    at = f" at revision {revision!r}" if revision else ""
    if constants.HF_HUB_OFFLINE:
        why = "offline mode is on (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)"
    elif online:
        why = "the hub stopped answering"
    else:
        why = f"the hub cannot be reached (no answer in {SECONDS:g} s)"
    return (
        f"model {repository!r}{at} is not complete in the local cache {constants.HF_HUB_CACHE!r}, "
        f"and {why}; on a machine with a network run `hf download {repository} --local-dir "
        "FOLDER`, and give the path of that FOLDER"
    )
