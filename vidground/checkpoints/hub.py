"""Finds a model's files: a folder, a model that comes with vidground, or a hub repository.

The only part that knows the Hugging Face hub. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import escape
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

from vidground.checkpoints.model_folder import (
    CONFIG,
    check_complete,
    choose_model,
    has_adapter,
    models_in,
    read_json,
)
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import QUESTION_FOLDER

BUNDLED_MODELS = {"toy": Path(__file__).parent / "bundled" / "toy"}
"""Models that are installed with vidground, by name."""

QUESTION_TOKENIZER = "bert-base-uncased"
"""Repository of the Q-Former's tokenizer, for checkpoints that do not carry it."""

_CONFIGS = ["config.json", "*/config.json"]
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_TOKENIZER_FILES = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"]

# Base class of what the hub client's http library raises; which library differs by version.
_TRANSPORT_ERROR: type[Exception] = next(
    base
    for base in HfHubHTTPError.__mro__
    if base.__name__ == "HTTPError" and issubclass(base, Exception)
)

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How the hub is used.

    cache_dir: where downloads are kept; None for the hub client's own place.
    token: for private repositories; None for the one logged in with.
    local_files_only: use the cache and never the network, as HF_HUB_OFFLINE=1 does.
    refresh: ask for the newest files of the revision even if the cache has all of an older state.
    """

    cache_dir: str | Path | None = None
    token: str | None = None
    local_files_only: bool = False
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model lies.

    name: finds it again (folder, bundled name, hub id with sub-folder). revision: the hub's
    commit; None for a folder.
    """

    path: Path
    name: str
    revision: str | None = None


class _NotCachedError(Exception):
    """The cache lacks files; the message says which."""


def find_model(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    hub: HubAccess | None = None,
) -> ModelFolder:
    """The folder of a model, downloaded if need be.

    Args:
        model: an existing folder, else the name of a bundled model, else a hub repository
            ("owner/name", or "owner/name/sub/folder" for one of several models in it).
        revision: branch, tag or commit of the hub repository.
        subfolder: where in the folder or repository the model lies, if it holds several.
        hub: how the hub is used; None for its cache first, then the network.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
        InputError: a revision is asked of something that is not on the hub.
    """
    name = str(model)
    folder = Path(model).expanduser()
    if not folder.is_dir() and name in BUNDLED_MODELS:
        folder = BUNDLED_MODELS[name]
        if not folder.is_dir():
            raise CheckpointError(
                f"this installation lacks the bundled model {name!r} (looked in {folder}); "
                "install vidground again"
            )
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"revision is {revision!r}, but {name} is a folder and has none")
        chosen = choose_model(folder, subfolder, source=name)
        return ModelFolder(folder / chosen, f"{name}/{chosen}" if chosen else name)
    if folder.exists():
        raise CheckpointError(f"{name} is a file; give the folder of the model")
    if name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no folder {name}")
    owner, *rest = name.split("/")
    if len(rest) > 1 and subfolder is None:
        name, subfolder = f"{owner}/{rest[0]}", "/".join(rest[1:])
    return _find_on_hub(name, revision, subfolder, hub or HubAccess())


def find_base(found: ModelFolder, hub: HubAccess | None = None) -> ModelFolder:
    """The model that an adapter was trained on, as named in the adapter's configuration.

    A relative folder is looked for inside the adapter's folder, beside it, then from here.

    Raises:
        CheckpointError: no base is named, or it cannot be found.
    """
    name = read_json(found.path / CONFIG).get("model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{found.name} holds an adapter, and its {CONFIG} names no base (model_name_or_path)"
        )
    for place in (found.path / name, found.path.parent / name):
        if place.resolve() != found.path.resolve() and (place / CONFIG).is_file():
            return ModelFolder(place, str(place))
    try:
        return find_model(name, hub=hub)
    except CheckpointError as error:
        raise CheckpointError(f"the base of {found.name} is not found: {error}") from error


def find_question_tokenizer(found: ModelFolder, hub: HubAccess | None = None) -> Path:
    """The folder of a model's Q-Former tokenizer: the model's own, else the hub's BERT.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    own = found.path / QUESTION_FOLDER
    if own.is_dir():
        return own
    hub = hub or HubAccess()

    def fetch(cached: bool) -> Path:
        folder = _snapshot(QUESTION_TOKENIZER, None, hub, cached, _TOKENIZER_FILES)
        if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
            raise _NotCachedError(f"{folder} has neither vocab.txt nor tokenizer.json")
        return folder

    return _cache_first(fetch, QUESTION_TOKENIZER, hub)


def download(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    hub: HubAccess | None = None,
) -> ModelFolder:
    """Fetch the newest state of a model and all it needs to load without a network.

    That is its folder, its base if it is an adapter, and the Q-Former's tokenizer unless the
    model carries it. Arguments and errors are those of `find_model`.
    """
    hub = replace(hub or HubAccess(), refresh=True)
    found = find_model(model, revision=revision, subfolder=subfolder, hub=hub)
    if has_adapter(found.path):
        find_base(found, hub)
    find_question_tokenizer(found, hub)
    return found


def _find_on_hub(
    repository: str, revision: str | None, subfolder: str | None, hub: HubAccess
) -> ModelFolder:
    def fetch(cached: bool) -> ModelFolder:
        # Configurations first: they say which models there are, and are all small.
        root = _snapshot(repository, revision, hub, cached, _CONFIGS)
        try:
            chosen = choose_model(root, subfolder, source=repository)
        except CheckpointError as error:
            if cached and (subfolder or not models_in(root)):
                raise _NotCachedError(str(error)) from error
            raise
        prefix = f"{chosen}/" if chosen else ""
        wanted = [escape(prefix) + pattern for pattern in _MODEL_FILES]
        nested = [
            other for other in models_in(root) if other.startswith(prefix) and other != chosen
        ]
        unwanted = [f"{escape(other)}/*" for other in nested]
        _snapshot(repository, root.name, hub, cached, wanted, unwanted)
        if cached:
            try:
                check_complete(root / chosen)
            except CheckpointError as error:
                raise _NotCachedError(str(error)) from error
        name = f"{repository}/{chosen}" if chosen else repository
        return ModelFolder(root / chosen, name, root.name)

    asked = f"{repository}/{subfolder}" if subfolder else repository
    return _cache_first(fetch, asked, hub, f" --revision {revision}" if revision else "")


def _cache_first(
    fetch: Callable[[bool], _Found], name: str, hub: HubAccess, options: str = ""
) -> _Found:
    """`fetch(True)` from the cache alone; if that fails, `fetch(False)` with the network."""
    offline = hub.local_files_only or constants.HF_HUB_OFFLINE
    if offline or not hub.refresh:
        try:
            return fetch(True)
        except _NotCachedError as error:
            if offline:
                options += f" --cache-dir {hub.cache_dir}" if hub.cache_dir else ""
                raise CheckpointError(
                    f"{name} is not (or not completely) in the cache "
                    f"{hub.cache_dir or constants.HF_HUB_CACHE}, and the network is not to be "
                    f"used; fetch it once with a network: vidground download {name}{options} "
                    f"({error})"
                ) from error
    try:
        return fetch(False)
    except _NotCachedError as error:
        raise CheckpointError(f"{name} on the hub is incomplete: {error}") from error


def _snapshot(
    repository: str,
    revision: str | None,
    hub: HubAccess,
    cached: bool,
    wanted: list[str],
    unwanted: list[str] | None = None,
) -> Path:
    """The folder of a repository's snapshot, with at least the files that are wanted."""
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
            raise _NotCachedError(_first_line(error)) from error
        raise CheckpointError(_why_not(repository, revision, error)) from error
    except (HFValidationError, _TRANSPORT_ERROR, OSError) as error:
        raise CheckpointError(_why_not(repository, revision, error)) from error


def _why_not(repository: str, revision: str | None, error: BaseException) -> str:
    # The order matters: a gated repository's error is also one of a missing repository.
    if isinstance(error, HFValidationError):
        return f"{repository!r} is neither an existing folder, a bundled model nor a hub id"
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return f"{repository} is gated: accept its terms at {page}, then run: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no folder, bundled model or hub repository {repository!r}; if it is "
            "private, run: hf auth login"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}"
    return (
        f"{repository} is not in the cache and cannot be fetched from {constants.ENDPOINT} "
        f"({_first_line(error)}); check the network, or fetch it where there is one with: "
        f"vidground download {repository}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
