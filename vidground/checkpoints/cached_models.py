"""List the models that can be loaded by name: known ones, and those in the hub's cache.

Reads folders and file headers only. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from vidground.checkpoints.hub import models_of_repository
from vidground.checkpoints.known_models import (
    KNOWN_MODELS,
    OFFICIAL_LINEAR_OUTPUTS,
    OFFICIAL_LINEAR_WEIGHTS,
    OFFICIAL_PARAMETERS,
    KnownModel,
    choose_folder,
)
from vidground.checkpoints.model_folder import check_complete, has_adapter, weight_files
from vidground.checkpoints.stored_tensors import ModelSize, read_headers, size_of
from vidground.errors import CheckpointError

OFFICIAL_SIZE = ModelSize(OFFICIAL_PARAMETERS, OFFICIAL_LINEAR_WEIGHTS, OFFICIAL_LINEAR_OUTPUTS)
"""Size of the released models, D2VLM and E.T. Chat."""


@dataclass(frozen=True, slots=True)
class CachedCopy:
    """A model on this machine.

    Attributes:
        name: hub id with sub-folder, or known name.
        path: of its folder.
        revision: commit; None for a bundled model.
        disk_bytes: of its weight files.
        size: None for an adapter, which needs its base.
    """

    name: str
    path: Path
    revision: str | None
    disk_bytes: int
    size: ModelSize | None


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that can be loaded by name.

    Attributes:
        name: to load it by.
        known: None for a model that is only in the cache.
        size: None if unknown before loading.
        copies: on this machine.
    """

    name: str
    known: KnownModel | None
    size: ModelSize | None
    copies: tuple[CachedCopy, ...]


def list_models(cache_dir: str | Path | None = None) -> list[ListedModel]:
    """Return known models, then others in the hub's cache.

    Args:
        cache_dir: of the hub; None for its default.
    """
    cached = list(_cached(Path(cache_dir or constants.HF_HUB_CACHE)))
    listed = []
    for known in KNOWN_MODELS.values():
        copies = tuple(copy for name, copy in cached if name == known.name)
        if known.folder is not None:
            copies = tuple(filter(None, [_copy(known.name, known.folder, None)]))
        size = copies[0].size if copies else None
        if size is None and known.repository is not None:
            size = OFFICIAL_SIZE
        listed.append(ListedModel(known.name, known, size, copies))
    others: dict[str, list[CachedCopy]] = {}
    for known_name, copy in cached:
        if known_name is None:
            others.setdefault(copy.name, []).append(copy)
    listed += [
        ListedModel(name, None, found[0].size, tuple(found)) for name, found in others.items()
    ]
    return listed


def _cached(cache: Path) -> Iterator[tuple[str | None, CachedCopy]]:
    """Yield the complete models in a hub cache, each with its known name, if it has one."""
    for snapshot in sorted(cache.glob("models--*/snapshots/*")):
        repository = snapshot.parents[1].name.removeprefix("models--").replace("--", "/")
        folders = models_of_repository(snapshot)
        known = {
            choose_folder(model, models_of_repository(snapshot, model)): model.name
            for model in KNOWN_MODELS.values()
            if model.repository == repository
        }
        for folder in folders:
            name = f"{repository}/{folder}" if folder else repository
            copy = _copy(name, snapshot / folder, snapshot.name)
            if copy is not None:
                yield known.get(folder), copy


def _copy(name: str, folder: Path, revision: str | None) -> CachedCopy | None:
    """Return the model in a folder; None if files are missing or damaged."""
    try:
        check_complete(folder)
        adapter = has_adapter(folder)
        files = sorted(folder.glob("*.safetensors")) if adapter else weight_files(folder)
        size = None
        if not adapter:
            size = size_of({name: t.shape for name, t in read_headers(files).items()})
        disk_bytes = sum(file.stat().st_size for file in files)
    except (CheckpointError, OSError):
        return None
    return CachedCopy(name, folder, revision, disk_bytes, size)
