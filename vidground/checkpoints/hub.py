"""Finds a model's files: a known name, a folder, or a hub repository. Knows no tensors."""

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
    is_d2vlm,
    local_folder,
    models_in,
    read_json,
)
from vidground.errors import CheckpointError, InputError
from vidground.language.tokenizers import QUESTION_FOLDER
from vidground.settings import DEFAULT_MODEL

QUESTION_TOKENIZER = "bert-base-uncased"
"""Repository of the Q-Former's tokenizer, for checkpoints that do not carry it."""

REPOSITORY_LEVELS = 4
"""How deep in a hub repository models are looked for."""

_log = logging.getLogger(__name__)

_CONFIGS = ["config.json", "*/config.json"]
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_TOKENIZER_FILES = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model lies.

    name: finds it again (folder, known name, hub id with sub-folder). revision: the hub's commit;
    None for a folder. subfolder: where in the hub repository; "" for the repository itself.
    """

    path: Path
    name: str
    revision: str | None = None
    subfolder: str = ""

    @property
    def repository(self) -> str:
        """The hub id without the sub-folder."""
        return self.name.removesuffix(f"/{self.subfolder}") if self.subfolder else self.name

    @property
    def root(self) -> Path:
        """The folder of the hub repository."""
        return self.path.parents[self.subfolder.count("/")] if self.subfolder else self.path


def find_model(
    model: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    hub: HubAccess | None = None,
) -> ModelFolder:
    """The folder of a model, downloaded if need be.

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "toy"), a folder, or a hub repository
            ("owner/name", or "owner/name/sub/folder" for one of several models in it). A folder
            that is called like a known name is taken if it holds a model, and always as a `Path`
            or with "./" before it.
        revision: branch, tag or commit of the hub repository.
        subfolder: where in the folder or repository the model lies, if it holds several.
        hub: how the hub is used; None for its cache first, then the network.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
        InputError: a revision is asked of something that is not on the hub.
    """
    name = str(model)
    if isinstance(model, Path) and known_model(name):
        name = f"./{name}"
    known, folder = known_model(name), local_folder(name, subfolder)
    if folder is not None:
        if not folder.is_dir():
            raise CheckpointError(
                f"this installation lacks the bundled model {name!r} (looked in {folder}); "
                "install vidground again"
            )
        if revision is not None:
            raise InputError(f"revision is {revision!r}, but {name} is a folder and has none")
        if known is not None and known.folder != folder and not name.startswith("."):
            name = f"./{name}"  # else the known model would be found where this folder is gone
        chosen = choose_model(folder, subfolder, source=name)
        return ModelFolder(folder / chosen, f"{name}/{chosen}" if chosen else name)
    hub = hub or HubAccess()
    if known is not None and known.repository is not None:
        asked = f"{known.repository}/{subfolder}" if subfolder else name
        return _find_on_hub(known.repository, revision, subfolder, hub, known, asked=asked)
    if Path(name).expanduser().exists():
        raise CheckpointError(f"{name} is a file; give the folder of the model")
    if name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no folder {name}")
    owner, *rest = name.split("/")
    if len(rest) > 1 and subfolder is None:
        name, subfolder = f"{owner}/{rest[0]}", "/".join(rest[1:])
    asked = f"{name}/{subfolder}" if subfolder else name
    known = KNOWN_MODELS[DEFAULT_MODEL] if name == OFFICIAL_REPOSITORY else None
    return _find_on_hub(name, revision, subfolder, hub, known, asked=asked)


def find_base(found: ModelFolder, hub: HubAccess | None = None) -> ModelFolder:
    """The model that an adapter was trained on, as named in the adapter's configuration.

    A relative folder is looked for inside the adapter's folder, beside it, then from here. For an
    adapter on the hub, a model in its repository is also taken if its folder has the name of the
    base, as the base's path was one of the machine that it was trained on.

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


def _base_beside(found: ModelFolder, base: str) -> str | None:
    """The sub-folder of an adapter's repository that holds its base, going by the base's path."""
    others = [
        folder
        for folder in models_in(found.root, levels=REPOSITORY_LEVELS)
        if folder and folder != found.subfolder
    ]
    here = found.subfolder or "."
    for near in (f"{here}/{base}", f"{here}/../{base}", base):
        place = posixpath.normpath(near)
        if place in others:
            return place
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
    """A model of a repository. known: which, if no sub-folder says it. asked: for messages."""

    def fetch(cached: bool) -> ModelFolder:
        # Configurations first: they say which models there are, and are all small.
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


def models_of_repository(root: Path) -> list[str]:
    """Folders with a D2VLM in a repository's snapshot; "" is the snapshot itself."""
    folders = models_in(root, levels=REPOSITORY_LEVELS)
    return [folder for folder in folders if is_d2vlm(root / folder)]


def _choose_known(root: Path, known: KnownModel, repository: str) -> str:
    """The sub-folder that holds a known model.

    Raises:
        CheckpointError: it is not clear which one does.
    """
    choices = models_of_repository(root)
    chosen = choose_folder(known, choices)
    if chosen is None:
        listed = ", ".join(choice or "the repository itself" for choice in choices) or "none"
        raise CheckpointError(
            f"{repository} has no folder that is clearly {known.name}; choose a model by its "
            f"sub-folder (subfolder=… or --subfolder): {listed}"
        )
    return chosen
