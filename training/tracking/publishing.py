"""Upload a finished run's model to the hub, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from vidground.checkpoints.model_folder import time_tokens_in
from vidground.errors import InputError
from vidground.storage.atomic import write_atomically
from vidground.training.config import RunConfig
from vidground.training.logs import LOG
from vidground.training.tracking.curves import CURVES

CARD = "README.md"
_OBJECTIVES = {
    "sft": "supervised fine-tuning",
    "fpo": "factorized preference optimization",
}


def check_hub(repository: str) -> None:
    """Check that a repository's hub is reachable and somebody is logged in.

    Raises:
        InputError: neither can be said.
    """
    try:
        HfApi().whoami()
    except OSError as error:  # errors of the hub's client derive from it
        raise InputError(
            f"output.hub is {repository}, and the hub refuses access ({_first_line(error)}); log "
            "in with `hf auth login`, or omit output.hub"
        ) from error


def publish(run: Path, config: RunConfig, files: Sequence[str]) -> str:
    """Write a model card into a run's folder and upload the model with it.

    Args:
        run: the run's folder.
        config: of the run; output.hub names the repository.
        files: names of the model's files and folders in `run`; nothing else is uploaded.

    Returns:
        Address of the repository.

    Raises:
        InputError: the hub refuses the upload.
    """
    repository = config.output.hub
    assert repository is not None
    write_atomically(run / CARD, model_card(config, run))
    extra = [name for name in (CARD, CURVES) if (run / name).is_file()]
    try:
        api = HfApi()
        made = api.create_repo(repository, private=config.output.hub_private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=str(run),
            allow_patterns=[p for name in (*files, *extra) for p in (name, f"{name}/*")],
            commit_message="Upload the trained model",
        )
    except OSError as error:
        raise InputError(
            f"the model in {run} could not be uploaded to {repository} ({_first_line(error)}); "
            "repeat with --resume, or upload it with `hf upload`"
        ) from error
    return str(made)


def model_card(config: RunConfig, run: Path) -> str:
    """Return a model card: how the model was trained, its last losses, and how to use it.

    Paths of this machine are left out; annotation files are named without their folders.
    """
    base = config.model.name
    on_hub = base is not None and base.count("/") == 1 and not Path(base).exists()
    header = ["---", "library_name: vidground", "pipeline_tag: video-text-to-text"]
    header += [f"base_model: {base}"] if on_hub else []
    header += ["tags:", "- temporal-grounding", "- dense-captioning", "---"]
    shown_base = base if on_hub else ("a local model" if base else "random weights")
    kind = "An E.T. Chat" if time_tokens_in(run) == "matching" else "A D2VLM"
    lines = [
        *header,
        f"\n# {config.output.hub or run.resolve().name}\n",
        f"{kind} for temporal grounding and dense captioning of videos, trained with vidground by "
        f"{_OBJECTIVES[config.objective]} from {shown_base}.\n",
        "## Use\n\n```python\nfrom vidground import Grounder\n\n"
        f'grounder = Grounder("{config.output.hub or "FOLDER"}")\n'
        'result = grounder.query("video.mp4", "a person opens a door")\n```\n',
        "## Training\n\n| | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(config).items()),
        "\n## Losses\n",
        _losses(run / LOG),
    ]
    if (run / CURVES).is_file():
        lines.append(f"\n![Learning curves]({CURVES})")
    return "\n".join(lines) + "\n"


def _facts(config: RunConfig) -> Mapping[str, Any]:
    schedule, rates = config.schedule, config.parameters
    length = schedule.max_steps
    facts = {
        "annotations": ", ".join(
            Path(file).name for item in config.data.all_sets for file in item.annotations
        ),
        "sampled frames per second": f"{config.data.fps:g}",
        "trained parameters": rates.trained,
        "length": f"{schedule.epochs:g} epochs" if length is None else f"{length} steps",
        "batch": f"{schedule.batch_size} x {schedule.accumulation} accumulated, per device",
        "learning rate": f"{rates.learning_rate:g}, {schedule.decay}",
        "precision": schedule.precision,
        "seed": schedule.seed,
    }
    if rates.trained == "released":
        facts["adapters"] = (
            f"rank {rates.lora.rank}, alpha {rates.lora.alpha}, learning rate "
            f"{rates.lora_learning_rate:g}"
        )
    return facts


def _losses(log: Path) -> str:
    """Return the last training and held-out losses of a log, as a Markdown list."""
    last: dict[str, tuple[int, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        entry = json.loads(line)
        for name in ("loss", "eval_loss"):
            if name in entry:
                last[name] = (entry["step"], entry[name])
    names = {"loss": "training", "eval_loss": "held-out"}
    found = [
        f"- {names[key]} loss after step {step}: {value:.4g}" for key, (step, value) in last.items()
    ]
    return "\n".join(found) or "None were logged."


def _first_line(error: OSError) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
