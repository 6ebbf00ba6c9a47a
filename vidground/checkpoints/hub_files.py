"""Fetch files of Hugging Face hub repositories, from the cache or the network.

The only module that accesses the hub.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vidground.errors import CheckpointError

# Base class of the errors of the hub client's HTTP library, which differs between versions.
_TRANSPORT_ERROR: type[Exception] = next(
    base
    for base in HfHubHTTPError.__mro__
    if base.__name__ == "HTTPError" and issubclass(base, Exception)
)

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How to access the hub.

    Attributes:
        cache_dir: folder of downloads; None for the hub client's default.
        token: for private repositories; None for that of the current login.
        local_files_only: use the cache only, never the network, as HF_HUB_OFFLINE=1 does.
        refresh: fetch the newest files of the revision even if the cache holds an older state.
    """

    cache_dir: str | Path | None = None
    token: str | None = None
    local_files_only: bool = False
    refresh: bool = False


class NotCachedError(Exception):
    """The cache lacks files; the message says which."""


def cache_first(
    fetch: Callable[[bool], _Found], name: str, hub: HubAccess, options: str = ""
) -> _Found:
    """Call `fetch(True)`, which uses the cache alone; if that fails, `fetch(False)`.

    Args:
        fetch: raises NotCachedError if files are missing.
        name: what to download, for messages.
        hub: how to access the hub.
        options: of the download command in messages.

    Raises:
        CheckpointError: the files cannot be fetched.
    """
    offline = hub.local_files_only or constants.HF_HUB_OFFLINE
    if offline or not hub.refresh:
        try:
            return fetch(True)
        except NotCachedError as error:
            if offline:
                options += f" --cache-dir {hub.cache_dir}" if hub.cache_dir else ""
                raise CheckpointError(
                    f"{name} is not (or not completely) in the cache "
                    f"{hub.cache_dir or constants.HF_HUB_CACHE}, and use of the network is turned "
                    f"off; fetch it once with a network: vidground download {name}{options} "
                    f"({error})"
                ) from error
    try:
        return fetch(False)
    except NotCachedError as error:
        raise CheckpointError(f"{name} on the hub is incomplete: {error}") from error


def fetch_files(
    repository: str,
    revision: str | None,
    hub: HubAccess,
    cached: bool,
    wanted: list[str],
    unwanted: list[str] | None = None,
    *,
    asked: str,
) -> Path:
    """Return the folder of a repository's snapshot, with at least the wanted files.

    Args:
        repository: hub id.
        revision: branch, tag or commit.
        hub: how to access the hub.
        cached: use the cache only.
        wanted: patterns of the files to fetch.
        unwanted: patterns of files not to fetch.
        asked: argument of `vidground download` that fetches this, for messages.

    Raises:
        NotCachedError: `cached` is set, and the cache lacks the repository.
        CheckpointError: the files cannot be fetched.
    """
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=hub.cache_dir,
                token=hub.token,
                local_files_only=cached,
                allow_patterns=wanted,
                ignore_patterns=unwanted,
            )
        )
    except LocalEntryNotFoundError as error:
        if cached:
            # The client's own message advises an option that no user of vidground has.
            raise NotCachedError(f"no snapshot of {repository} is there") from error
        local = error.__cause__
        if isinstance(local, OSError) and _is_local(local):
            raise CheckpointError(_storing_failed(hub, local, asked)) from error
        raise CheckpointError(_reason(repository, revision, error, asked)) from error
    except (HFValidationError, _TRANSPORT_ERROR, OSError) as error:
        if isinstance(error, OSError) and _is_local(error):
            raise CheckpointError(_storing_failed(hub, error, asked)) from error
        raise CheckpointError(_reason(repository, revision, error, asked)) from error


def _is_local(error: OSError) -> bool:
    """Whether it is about a file or a disk of this machine, not about the network."""
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _storing_failed(hub: HubAccess, error: OSError, asked: str) -> str:
    cache = hub.cache_dir or constants.HF_HUB_CACHE
    return (
        f"{asked} cannot be stored in the cache {cache} ({_first_line(error)}); free space or "
        "allow writing there, or choose another folder with the variable HF_HUB_CACHE"
    )


def _reason(repository: str, revision: str | None, error: BaseException, asked: str) -> str:
    # The order matters: GatedRepoError is a RepositoryNotFoundError.
    if isinstance(error, HFValidationError):
        return f"{repository!r} is neither a known model, an existing folder nor a valid hub id"
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return f"{repository} is gated: accept its terms at {page}, then run: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no known model, folder or hub repository {repository!r}; `vidground models` "
            "lists names; for a private repository, run: hf auth login"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; check the branch, tag or commit"
    return (
        f"{repository} is not in the cache and cannot be fetched from {constants.ENDPOINT} "
        f"({_first_line(error)}); check the network, or run on a machine with network: "
        f"vidground download {asked}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
