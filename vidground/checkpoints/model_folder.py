"""The files in a model's folder: its configuration and its weights.

Reads names and JSON only, no tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidground.checkpoints.known_models import RELEASED_MODEL_TYPE, known_model
from vidground.errors import CheckpointError
from vidground.settings import OWN_MODEL_TYPE, TimeTokens
from vidground.storage.reading import read_json_object

_MOST_BYTES = 64 << 20  # of configurations and indexes, which are small

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PARTIAL_WEIGHTS = "pytorch_model.safetensors"
"""Tensors trained in full beside an adapter, in the released format."""

# Pickles with the state of a training run instead of weights.
_RUN_STATE = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")

# Turns pickled weights into safetensors; weights_only keeps the pickles from running code.
_CONVERSION = """\
import torch
from pathlib import Path
from safetensors.torch import save_file
folder = Path({folder!r})
weights = {{}}
for name in {names!r}:
    weights |= torch.load(folder / name, map_location="cpu", weights_only=True)
weights = {{name: tensor.clone().contiguous() for name, tensor in weights.items()}}
save_file(weights, folder / {target!r}, metadata={{"format": "pt"}})
"""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: there is no such file, or it holds no JSON object.
    """
    if not os.path.lexists(path):
        raise CheckpointError(f"{path.parent} has no {path.name}")
    return read_json_object(path, most_bytes=_MOST_BYTES, error=CheckpointError)


def local_folder(name: str, subfolder: str | None = None) -> Path | None:
    """Return the local folder that a model's name means; None if there is none.

    A known name means a folder in the working directory only if that folder holds a model, so that
    an unrelated folder "toy" does not hide the known model. "./toy" always means the folder.
    """
    folder = Path(name).expanduser()
    known = known_model(name)
    if known is None or (folder / (subfolder or "") / CONFIG).is_file():
        return folder if folder.is_dir() else None
    return known.folder


def models_in(root: Path, *, levels: int = 2) -> list[str]:
    """Return the folders with a model in `root`, `levels` deep; "" is `root` itself."""
    configs = [path for depth in range(levels + 1) for path in root.glob("*/" * depth + CONFIG)]
    folders = (path.parent.relative_to(root) for path in configs)
    return sorted("" if folder == Path() else folder.as_posix() for folder in folders)


def choose_model(root: Path, subfolder: str | None, *, source: str) -> str:
    """Return the sub-folder of `root` to load: `subfolder`, the root itself, or the only one.

    Raises:
        CheckpointError: there is no model, or there are several and `subfolder` is None.
    """
    choices = models_in(root)
    if subfolder is not None:
        asked = subfolder.strip("/")
        if (root / asked / CONFIG).is_file():
            return asked
        found = ", ".join(repr(choice) for choice in choices if choice) or "none"
        raise CheckpointError(
            f"{source} has no model in sub-folder {subfolder!r}; sub-folders with one: {found}"
        )
    if "" in choices:
        return ""
    if len(choices) == 1:
        return choices[0]
    if choices:
        raise CheckpointError(
            f"{source} holds {len(choices)} models; choose one by its sub-folder (subfolder=… or "
            f"--subfolder): {', '.join(choices)}"
        )
    raise CheckpointError(f"{source} holds no model: there is no {CONFIG}")


def time_tokens_in(folder: Path) -> TimeTokens | None:
    """Return how the model in a folder expresses times, in either format.

    None for models of earlier stages of training, for parts such as the vision encoder, and for
    damaged files.
    """
    try:
        values = read_json(folder / CONFIG)
    except CheckpointError:
        return None
    kind = values.get("model_type")
    if kind == OWN_MODEL_TYPE:
        return "matching" if values.get("time_tokens") == "matching" else "evidence"
    return time_tokens_of(values) if kind == RELEASED_MODEL_TYPE else None


def time_tokens_of(config: Mapping[str, Any]) -> TimeTokens | None:
    """Return how a model in the released format expresses times; None if it does not."""
    evidence, matching = (bool(config.get(key)) for key in ("use_evidence", "use_matching"))
    if evidence == matching:
        return None
    return "matching" if matching else "evidence"


def has_adapter(folder: Path) -> bool:
    """Return whether the folder holds changes to a base model instead of a full model."""
    return any((folder / name).is_file() for name in (ADAPTER_WEIGHTS, PARTIAL_WEIGHTS))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a full model, one or several shards.

    Raises:
        CheckpointError: there are none (for pickled weights, with a program that converts them),
            or a shard is missing.
    """
    single = (folder / WEIGHTS).is_file()
    if not (folder / WEIGHTS_INDEX).is_file():
        if single:
            return [folder / WEIGHTS]
        raise CheckpointError(_why_no_weights(folder))
    shards = read_json(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{folder / WEIGHTS_INDEX} has no weight_map; fetch it again")
    for name in shards.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(
                f"{folder / WEIGHTS_INDEX}: weight_map names {name!r:.80}, which is not the name "
                "of a file in this folder; fetch it again"
            )
    names = sorted(set(shards.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if single:
        # Saving over another model may leave the other's index or single file behind.
        if missing:
            return [folder / WEIGHTS]
        raise CheckpointError(
            f"{folder} holds two sets of weights, {WEIGHTS} and the {len(names)} files of "
            f"{WEIGHTS_INDEX}; remove the older set"
        )
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(names)} weight files: {', '.join(missing)}; "
            "fetch the model again"
        )
    return [folder / name for name in names]


def remove_weights(folder: Path) -> None:
    """Delete a full model's weight files, so that none of an earlier state is left."""
    for pattern in ("model.safetensors", "model-*-of-*.safetensors", WEIGHTS_INDEX):
        for path in folder.glob(pattern):
            path.unlink()


def check_complete(folder: Path) -> None:
    """Check that no file of a model is missing.

    Raises:
        CheckpointError: a file is missing.
    """
    read_json(folder / CONFIG)
    if not has_adapter(folder):
        weight_files(folder)
    elif (folder / ADAPTER_WEIGHTS).is_file():
        read_json(folder / ADAPTER_CONFIG)


def _why_no_weights(folder: Path) -> str:
    pickles = [
        path.name
        for suffix in ("*.bin", "*.pt", "*.pth")
        for path in sorted(folder.glob(suffix))
        if not path.name.startswith(_RUN_STATE)
    ]
    if not pickles:
        return f"{folder} has no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX}"
    # An adapter and the tensors beside it stay separate files; all others form one model.
    groups: dict[str, list[str]] = {}
    beside_adapter = any(name.startswith("adapter_model.") for name in pickles)
    for name in pickles:
        own = name.startswith("adapter_model.") or beside_adapter
        groups.setdefault(Path(name).stem + ".safetensors" if own else WEIGHTS, []).append(name)
    programs = [
        _CONVERSION.format(folder=str(folder), names=names, target=target)
        for target, names in groups.items()
    ]
    return (
        f"{folder} has weights only as pickles ({', '.join(pickles)}), which can run code when "
        "they are opened; vidground reads safetensors. If you trust their source, convert them "
        "once with this Python program:\n\n" + "\n".join(programs)
    )
