"""Models on the hub -> a folder of files, with an error that says why there is none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import (
    constants,
    errors,
    get_session,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import tqdm

from secondary_sinks.errors import HubError, ModelError, UnknownModelError, reason
from secondary_sinks.models.original import catalogue
from secondary_sinks.models.original.sources import Source

SECONDS = 5.0
SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
SUBFOLDERS = ("*/*",)
"""Other formats of the same weights lie there."""


class _Bar(tqdm):
    """Progress of a download, on a terminal only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"disable": None, **options})


def answers() -> bool:
    """Whether the hub can be reached; asked once, since each file is tried for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # offline mode, no name service, refused, too slow
        return False
    return True


def fetch(
    repository: str, revision: str | None, files: Sequence[str] = SMALL_FILES, *, online: bool
) -> Path:
    """The folder in the local cache that holds `files` of a repository, downloaded where missing.

    Its name is the commit that `revision` (by default the main branch) means. Raises `HubError`
    when it cannot be had, `UnknownModelError` when there is no such repository or revision.
    """
    with _explained(repository, revision, online=online):
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=list(SUBFOLDERS),
            local_files_only=not online,
            tqdm_class=_Bar,
        )
    return Path(folder)


def provenance(source: Source) -> dict[str, str | None]:
    """Where the weights came from, for a record: of a hub model also what it was at that time.

    `commit` is what the local cache says the revision means; None for what is not on the hub.
    """
    if source.kind != "hub":
        return {"kind": source.kind, "repository": None, "revision": None, "commit": None}
    found = try_to_load_from_cache(source.path, "config.json", revision=source.revision)
    commit = Path(found).parent.name if isinstance(found, str) else None
    return {
        "kind": "hub",
        "repository": source.path,
        "revision": source.revision,
        "commit": commit,
    }


@contextmanager
def _explained(repository: str, revision: str | None, *, online: bool) -> Iterator[None]:
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"repository {repository!r} is gated: accept its conditions on its page on the hub, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UnknownModelError(
            f"repository {repository!r} has no revision {revision!r}; expected one of its "
            "branches, tags or commit hashes"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(_no_repository(repository)) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubError(_out_of_reach(repository, revision, online=online)) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise HubError(
            f"the hub answered {status} when asked for {repository!r}; try again later, or give "
            "the path of a local folder"
        ) from error
    except OSError as error:
        raise ModelError(
            f"{repository!r} cannot be kept in the hub's cache {constants.HF_HUB_CACHE!r} "
            f"({error}); make room there, or set HF_HOME to another place"
        ) from error
    except Exception as error:  # the connection broke, in one of many ways
        raise HubError(
            f"{repository!r} could not be downloaded: {reason(error)}; run the same again to go "
            "on, or give the path of a local folder"
        ) from error


def _no_repository(repository: str) -> str:
    likely = catalogue.near(repository)
    hint = f" (did you mean {', '.join(likely)}?)" if likely else ""
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
        f"model {repository!r}{at} is not whole in the local cache {constants.HF_HUB_CACHE!r}, and "
        f"{why}; on a machine with a network run `hf download {repository} --local-dir FOLDER`, "
        "and give the path of that FOLDER"
    )
