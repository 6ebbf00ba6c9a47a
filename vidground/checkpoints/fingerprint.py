"""Identify a model before it is loaded: by the content of its files, or by its commit.

Imports no torch.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

from vidground.checkpoints.known_models import known_model
from vidground.checkpoints.model_folder import local_folder
from vidground.errors import CheckpointError
from vidground.language.tokenizers import QUESTION_FOLDER
from vidground.settings import DEFAULT_MODEL

_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt"})
_COMMIT = re.compile(r"[0-9a-f]{40}")
_READ_WHOLE = 8 << 20  # bytes; larger files are sampled
_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10


def recorded_name(model: str, subfolder: str | None = None) -> str:
    """Return the name of a model in records; the same for all names of a model.

    The default model is recorded by its repository.
    """
    known = known_model(model)
    if known is None or (known.folder is None and local_folder(model, subfolder) is not None):
        return model
    default = known.name == DEFAULT_MODEL
    return known.repository if default and known.repository is not None else known.name


def model_fingerprint(model: str, subfolder: str | None = None) -> str | None:
    """Return a digest of a local or bundled model's files; None for a model on the hub.

    Raises:
        CheckpointError: a file cannot be read.
    """
    folder = local_folder(model, subfolder)
    return None if folder is None else folder_fingerprint(folder, subfolder)


def folder_fingerprint(folder: Path, subfolder: str | None = None) -> str:
    """Return a digest of the files of a model, or of an export, in a folder.

    Of large files, which hold weights, 64 evenly spaced pieces are read: training changes weights
    everywhere. The base of an adapter is not included.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(_files(folder / (subfolder or ""))):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            _add_content(digest, path)
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def known_commit(model: str, revision: str | None) -> str | None:
    """Return the commit of a hub model in the cache; None if it is unknown."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    known = known_model(model)
    name = model if known is None or known.repository is None else known.repository
    repository = "--".join(["models", *name.split("/")[:2]])
    reference = Path(constants.HF_HUB_CACHE, repository, "refs", revision or "main")
    try:
        commit = reference.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files that a model is loaded from; a training run may keep others beside them."""
    for place in (folder, folder / QUESTION_FOLDER):
        if place.is_dir():
            yield from (p for p in place.iterdir() if p.suffix in _SUFFIXES and p.is_file())


def _add_content(digest: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{size}\0".encode())
    with path.open("rb") as file:
        if size <= _READ_WHOLE:
            digest.update(file.read())
            return
        for index in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
