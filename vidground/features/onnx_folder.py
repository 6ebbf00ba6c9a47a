"""A folder of exported graphs: export.json, and the graph files that it names.

Checks which weights a graph was made from. Knows no runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidground.checkpoints.model_folder import read_json
from vidground.errors import CheckpointError
from vidground.model.d2vlm import D2VLM
from vidground.model.weight_digests import rounded_digest
from vidground.storage.atomic import write_atomically

MANIFEST = "export.json"
SCHEMA_VERSION = 1
_LONGEST_NAME = 255

PARTS = ("vision", "compressor")
"""Parts of a model that can be exported; names of `D2VLM`'s attributes."""


@dataclass(frozen=True, slots=True)
class ExportedPart:
    """A graph of one part of a model.

    Attributes:
        file: name in the folder.
        dtype: "float32", "float16" or "int8".
        weights_digest: see `weight_digests.rounded_digest`.
        vnni_file: an int8 graph with the same results that is twice as fast on CPUs with VNNI
            instructions, and wrong on others; None if there is none.
    """

    file: str
    dtype: str
    weights_digest: str
    vnni_file: str | None = None


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """The graphs in a folder, and what is known about them.

    Attributes:
        path: of the folder.
        parts: graphs by the part of the model.
        details: the rest of export.json: model, revision, preprocessing, opset, versions.
    """

    path: Path
    parts: Mapping[str, ExportedPart]
    details: Mapping[str, Any]

    @property
    def dtype(self) -> str:
        """Type of the part that does most of the work."""
        return next(self.parts[name] for name in PARTS if name in self.parts).dtype

    def save(self) -> None:
        """Write export.json, which makes the folder an export."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        values = {"schema_version": SCHEMA_VERSION, "parts": parts, **self.details}
        write_atomically(self.path / MANIFEST, json.dumps(values, indent=2) + "\n")


def read_export(path: str | Path) -> ExportFolder:
    """Read export.json.

    Raises:
        CheckpointError: it is missing, damaged, of another version, or names missing files.
    """
    folder = Path(path).expanduser()
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(
            f"{folder} holds no export: there is no {MANIFEST}; make one with `vidground export "
            f"onnx --out {folder}`"
        )
    values = read_json(folder / MANIFEST)
    version = values.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{folder / MANIFEST} has schema_version {version}; this vidground reads "
            f"{SCHEMA_VERSION}: export the model again"
        )
    try:
        parts = {name: ExportedPart(**part) for name, part in values.pop("parts").items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged: {error}; export again") from error
    if not parts or parts.keys() - set(PARTS):
        raise CheckpointError(
            f"{folder / MANIFEST} names the parts {sorted(parts)}; known are {', '.join(PARTS)}"
        )
    for part in parts.values():
        for name in (part.file, part.vnni_file):
            if name is None:
                continue
            # What lies elsewhere is not part of the export.
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "/" in name:
                raise CheckpointError(
                    f"{folder / MANIFEST} names the file {name!r:.40}; it must be the name of a "
                    "file in this folder: export again"
                )
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} has no {name}, which {MANIFEST} names")
    return ExportFolder(folder, parts, values)


def check_weights(export: ExportFolder, model: D2VLM) -> None:
    """Check that the graphs were made from this model's weights.

    Raises:
        CheckpointError: they were made from other weights.
    """
    for name, part in export.parts.items():
        found = rounded_digest(getattr(model, name))
        if found != part.weights_digest:
            raise CheckpointError(
                f"{export.path} was exported from {export.details.get('model', 'another model')}, "
                f"whose {name} weights ({part.weights_digest[:12]}…) are not those of "
                f"{model.name_or_path or 'this model'} ({found[:12]}…); export this model"
            )
