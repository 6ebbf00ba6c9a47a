"""Find a model's files by known name, folder, or hub repository. Reads no tensors."""

from __future__ import annotations

import logging
import posixpath
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from vidground.checkpoints.hub_files import HubAccess, NotCachedError, cache_first, fetch_files
from vidground.checkpoints.known_models import (
    KNOWN_MODELS,
    OFFICIAL_REPOSITORY,
    KnownModel,
    choose_folder,
    known_model,
)
from vidground.checkpoints.model_folder import (
    CONFIG,
    check_complete,
    choose_model,
    has_adapter,
    local_folder,
    models_in,
    read_json,
    time_tokens_in,
)
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import QUESTION_FOLDER
from vidground.settings import DEFAULT_MODEL

QUESTION_TOKENIZER = "bert-base-uncased"
"""Repository of the Q-Former's tokenizer, for checkpoints that do not contain it."""

REPOSITORY_LEVELS = 4
"""Depth to which folders of a hub repository are searched for models."""

_log = logging.getLogger(__name__)

_CONFIGS = ["config.json", "*/config.json"]
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_TOKENIZER_FILES = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Location of a model.

    Attributes:
        path: of its folder.
        name: to find it again: folder, known name, or hub id with sub-folder.
        revision: commit on the hub; None for a folder.
        subfolder: in the hub repository; "" for its root.
    """

    path: Path
    name: str
    revision: str | None = None
    subfolder: str = ""

    @property
    def repository(self) -> str:
        """Hub id without the sub-folder."""
        return self.name.removesuffix(f"/{self.subfolder}") if self.subfolder else self.name

    @property
    def root(self) -> Path:
        """Folder of the hub repository."""
        return self.path.parents[self.subfolder.count("/")] if self.subfolder else self.path


def find_model(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    hub: HubAccess | None = None,
) -> ModelFolder:
    """Return the folder of a model, downloaded if needed.

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "etchat", "toy"), a folder, or a hub repository
            ("owner/name", or "owner/name/sub/folder" for one of several models in it). A folder
            with a known name is used if it holds a model; a `Path`, or a name that starts with
            "./", always means a folder.
        revision: branch, tag or commit of the hub repository.
        subfolder: of the model in a folder or repository that holds several.
        hub: how to access the hub; None for its cache first, then the network.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
        InputError: a revision is given for a model that is not on the hub.
    """
    name = str(model)
    if isinstance(model, Path) and known_model(name):
        name = f"./{name}"
    known, folder = known_model(name), local_folder(name, subfolder)
    if folder is not None:
        if not folder.is_dir():
            raise CheckpointError(
                f"this installation lacks the bundled model {name!r} (expected in {folder}); "
                "install vidground again"
            )
        if revision is not None:
            raise InputError(f"revision is {revision!r}, but {name} is a folder and has none")
        if known is not None and known.folder != folder and not name.startswith("."):
            name = f"./{name}"  # otherwise the known model would be found if the folder is removed
        chosen = choose_model(folder, subfolder, source=name)
        return ModelFolder(folder / chosen, f"{name}/{chosen}" if chosen else name)
    hub = hub or HubAccess()
    if known is not None and known.repository is not None:
        asked = f"{known.repository}/{subfolder}" if subfolder else name
        return _find_on_hub(known.repository, revision, subfolder, hub, known, asked=asked)
    if Path(name).expanduser().exists():
        raise CheckpointError(f"{name} is a file; give the folder of the model")
    if name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no folder {name}; check the path")
    owner, *rest = name.split("/")
    if len(rest) > 1 and subfolder is None:
        name, subfolder = f"{owner}/{rest[0]}", "/".join(rest[1:])
    asked = f"{name}/{subfolder}" if subfolder else name
    known = KNOWN_MODELS[DEFAULT_MODEL] if name == OFFICIAL_REPOSITORY else None
    return _find_on_hub(name, revision, subfolder, hub, known, asked=asked)


def find_base(found: ModelFolder, hub: HubAccess | None = None) -> ModelFolder:
    """Return the model that an adapter was trained on, as named in the adapter's configuration.

    A relative folder is searched inside the adapter's folder, beside it, then in the working
    directory. For an adapter on the hub, a model in the same repository whose folder has the base's
    name is used too, since the configured path is one of the machine that trained the adapter.

    Raises:
        CheckpointError: no base is named, or it cannot be found.
    """
    name = read_json(found.path / CONFIG).get("model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{found.name} holds an adapter, and its {CONFIG} names no base (model_name_or_path)"
        )
    if found.revision is not None:
        beside = _base_beside(found, name)
        if beside is not None:
            return _find_on_hub(
                found.repository,
                found.revision,
                beside,
                hub or HubAccess(),
                asked=f"{found.repository}/{beside}",
            )
    for place in (found.path / name, found.path.parent / name):
        if place.resolve() != found.path.resolve() and (place / CONFIG).is_file():
            return ModelFolder(place, str(place))
    try:
        return find_model(name, hub=hub)
    except CheckpointError as error:
        raise CheckpointError(f"the base of {found.name} cannot be found: {error}") from error


def find_question_tokenizer(found: ModelFolder, hub: HubAccess | None = None) -> Path:
    """Return the folder of a model's Q-Former tokenizer: the model's own, or BERT's from the hub.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    own = found.path / QUESTION_FOLDER
    if own.is_dir():
        return own
    hub = hub or HubAccess()

    def fetch(cached: bool) -> Path:
        folder = fetch_files(
            QUESTION_TOKENIZER, None, hub, cached, _TOKENIZER_FILES, asked=QUESTION_TOKENIZER
        )
        if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
            raise NotCachedError(f"{folder} has neither vocab.txt nor tokenizer.json")
        return folder

    return cache_first(fetch, QUESTION_TOKENIZER, hub)


def download(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    hub: HubAccess | None = None,
) -> ModelFolder:
    """Download the newest state of a model, so that it can be loaded without a network.

    That includes its base if it is an adapter, and the Q-Former's tokenizer unless the model
    contains it.

    Args:
        model: see `find_model`.
        revision: see `find_model`.
        subfolder: see `find_model`.
        hub: see `find_model`.

    Raises:
        CheckpointError: see `find_model`.
        InputError: see `find_model`.
    """
    hub = replace(hub or HubAccess(), refresh=True)
    found = find_model(model, revision=revision, subfolder=subfolder, hub=hub)
    if has_adapter(found.path):
        find_base(found, hub)
    find_question_tokenizer(found, hub)
    return found


def _base_beside(found: ModelFolder, base: str) -> str | None:
    """Return the sub-folder of an adapter's repository that holds its base; None if unclear.

    Args:
        found: the adapter.
        base: path of the base in the adapter's configuration.
    """
    others = [
        folder
        for folder in models_in(found.root, levels=REPOSITORY_LEVELS)
        if folder and folder != found.subfolder
    ]
    here = found.subfolder or "."
    for path in (f"{here}/{base}", f"{here}/../{base}", base):
        folder = posixpath.normpath(path)
        if folder in others:
            return folder
    last = base.rstrip("/").rpartition("/")[2].casefold()
    named = [folder for folder in others if folder.rpartition("/")[2].casefold() == last]
    return named[0] if len(named) == 1 else None


def _find_on_hub(
    repository: str,
    revision: str | None,
    subfolder: str | None,
    hub: HubAccess,
    known: KnownModel | None = None,
    *,
    asked: str,
) -> ModelFolder:
    """Find a model in a hub repository.

    Args:
        repository: hub id.
        revision: branch, tag or commit.
        subfolder: of the model; None to choose it by `known`, or as the only one.
        hub: how to access the hub.
        known: the model to look for.
        asked: the requested name, for messages.
    """

    def fetch(cached: bool) -> ModelFolder:
        # Configurations first: they are small and show which models there are.
        root = fetch_files(repository, revision, hub, cached, _CONFIGS, asked=asked)
        by_name = None if subfolder else known
        try:
            if by_name is not None:
                chosen = _choose_known(root, by_name, repository)
            else:
                chosen = choose_model(root, subfolder, source=repository)
        except CheckpointError as error:
            if cached and (subfolder or by_name or not models_in(root)):
                raise NotCachedError(str(error)) from error
            raise
        prefix = f"{chosen}/" if chosen else ""
        wanted = [escape(prefix) + pattern for pattern in _MODEL_FILES]
        nested = [
            other
            for other in models_in(root, levels=REPOSITORY_LEVELS)
            if other.startswith(prefix) and other != chosen
        ]
        unwanted = [f"{escape(other)}/*" for other in nested]
        if not cached:
            _log.info("fetching %s from the hub", f"{repository}/{chosen}" if chosen else asked)
        fetch_files(repository, root.name, hub, cached, wanted, unwanted, asked=asked)
        if cached:
            try:
                check_complete(root / chosen)
            except CheckpointError as error:
                raise NotCachedError(str(error)) from error
        name = f"{repository}/{chosen}" if chosen else repository
        return ModelFolder(root / chosen, name, root.name, chosen)

    return cache_first(fetch, asked, hub, f" --revision {revision}" if revision else "")


def models_of_repository(root: Path, known: KnownModel | None = None) -> list[str]:
    """Return the folders with a model in a repository's snapshot; "" is the snapshot itself.

    Args:
        root: the snapshot.
        known: take only models that express times as this one does.
    """
    folders = {f: time_tokens_in(root / f) for f in models_in(root, levels=REPOSITORY_LEVELS)}
    return [
        folder
        for folder, time_tokens in folders.items()
        if time_tokens and (known is None or time_tokens == known.time_tokens)
    ]


def _choose_known(root: Path, known: KnownModel, repository: str) -> str:
    """Return the sub-folder that holds a known model.

    Raises:
        CheckpointError: the folders' names do not tell.
    """
    choices = models_of_repository(root, known)
    chosen = choose_folder(known, choices)
    if chosen is None:
        listed = ", ".join(choice or "the repository itself" for choice in choices) or "none"
        raise CheckpointError(
            f"cannot tell which folder of {repository} is {known.name}; choose a model by its "
            f"sub-folder (subfolder=… or --subfolder): {listed}"
        )
    return chosen
