"""`vidground models`: list the models, their purpose, scores and memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.reporting.reporter import shown
from vidground.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from vidground.checkpoints.cached_models import ListedModel
    from vidground.checkpoints.stored_tensors import ModelSize

_SCORES = {
    "ref_acc": "referring {} (accuracy)",
    "gnd_f1": "grounding {} (F1)",
    "cap_f1": "captioning {} (F1)",
    "cap_sim": "{} (similarity)",
    "com_rec": "complex {} (recall)",
}


@click.command()
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Hub cache to search. By default the cache of the Hugging Face hub.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with all fields.")
def models(cache_dir: Path | None, as_json: bool) -> None:
    """List the models that --model accepts by name, and those in the hub's cache.

    Shows for each its purpose, published scores (E.T. Bench, percent), number of parameters, the
    memory that the weights need, and its location. int8 means --weights int8 with everything else
    in bfloat16; loading it needs as much memory as bfloat16. What a run needs beyond the weights
    depends on the free memory. A local folder with a model (config.json) and one of these names
    takes precedence.
    """
    # Here, so that --help answers at once.
    from vidground.checkpoints.cached_models import list_models

    listed = list_models(cache_dir)
    if as_json:
        click.echo(json.dumps({"models": [_to_dict(model) for model in listed]}, indent=2))
        return
    click.echo("\n\n".join("\n".join(_lines(model)) for model in listed))


def _lines(model: ListedModel) -> list[str]:
    from vidground.checkpoints.announcement import spoken_bytes, spoken_count

    lines = [shown(model.name) + (" (default)" if model.name == DEFAULT_MODEL else "")]
    if model.known is not None:
        lines.append(f"  for     {model.known.purpose}")
        if model.known.scores:
            lines.append(f"  scores  {_scores(model.known.scores)}")
    if model.size is not None:
        lines.append(f"  size    {spoken_count(model.size.parameters)} parameters")
        memory = ", ".join(
            f"{name} {spoken_bytes(size)}" for name, size in _memory(model.size).items()
        )
        lines.append(f"  memory  {memory}")
    for copy in model.copies:
        revision = "" if copy.revision is None else f", revision {copy.revision[:8]}"
        place = "here" if copy.revision is None else "cached"
        size = spoken_bytes(copy.disk_bytes)
        lines.append(f"  {place:<6}  {shown(str(copy.path))} ({size}{revision})")
    if not model.copies:
        lines.append(f"  cached  no; download it with: vidground download {model.name}")
    return lines


def _scores(scores: Any) -> str:
    return ", ".join(text.format(scores[key]) for key, text in _SCORES.items() if key in scores)


def _memory(size: ModelSize) -> dict[str, int]:
    """Return the bytes that the weights need, by type."""
    plain = {dtype: size.bytes_in(dtype) for dtype in ("float32", "bfloat16")}
    int8, int4 = size.bytes_with_int8("bfloat16"), size.bytes_with_int4("bfloat16")
    return {**plain, "int8": int8, "int4": int4}


def _to_dict(model: ListedModel) -> dict[str, Any]:
    known, size = model.known, model.size
    return {
        "name": model.name,
        "default": model.name == DEFAULT_MODEL,
        "purpose": None if known is None else known.purpose,
        "scores": {} if known is None else dict(known.scores),
        "repository": None if known is None else known.repository,
        "parameters": None if size is None else size.parameters,
        "memory_bytes": None if size is None else _memory(size),
        "copies": [
            {
                "name": copy.name,
                "path": str(copy.path),
                "revision": copy.revision,
                "disk_bytes": copy.disk_bytes,
            }
            for copy in model.copies
        ],
    }
