"""`vidground export onnx`: export parts of a model, and compare them with the model."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.cli.running.finish import FAILED
from vidground.errors import InputError
from vidground.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from vidground.export.parity import Parity

_COMFORTABLE_BYTES = 8 << 30  # models up to this size are run in float32


@click.group()
def export() -> None:
    """Export parts of a model for other runtimes."""


@export.command("onnx")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="As for `caption`.")
@click.option("--revision", help="Branch, tag or commit of the repository.")
@click.option("--subfolder", help="Subfolder of the model in a repository that holds several.")
@click.option("--offline", is_flag=True, help="Use only cached files; never access the network.")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the graphs, export.json and parity.json.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp16 for GPUs; int8 for CPUs, where it is two to four times as fast.",
)
@click.option(
    "--part",
    type=click.Choice(["vision", "compressor", "all"]),
    default="vision",
    show_default=True,
    help="The vision encoder is 96 % of the work on frames.",
)
@click.option(
    "--float-blocks",
    type=click.IntRange(min=0),
    help="int8: number of first blocks to keep in float. By default one in 16.",
)
@click.option(
    "--frames",
    "videos",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="VIDEO",
    help="Compare the export with the model on this video. Can be repeated. Required, except for "
    "--model toy in a checkout, which contains two example videos.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Maximum of 1 - cosine over all features; above it the command fails. By default 1e-5 for "
    "fp32, 1e-4 for fp16, 1e-3 for int8.",
)
@click.option(
    "--features-only", is_flag=True, help="Skip the comparison of answers, which takes longer."
)
@click.option("--overwrite", is_flag=True, help="Write to a folder that is not empty.")
def onnx(
    model: str,
    revision: str | None,
    subfolder: str | None,
    offline: bool,
    folder: Path,
    dtype: str,
    part: str,
    float_blocks: int | None,
    videos: tuple[str, ...],
    tolerance: float | None,
    features_only: bool,
    overwrite: bool,
) -> None:
    """Export a model's vision encoder to ONNX and compare it with the model on real frames.

    `vidground caption --vision onnx:DIR` then uses the export. It is kept in DIR whatever the
    result of the comparison; the exit code is 1 if it differs by more than the tolerance.

    \b
    vidground export onnx --model toy --out toy-onnx
    vidground export onnx --out d2vlm-int8 --dtype int8 --frames match.mp4 --features-only
    """
    films = list(videos) or _films(model)
    if tolerance is not None and isnan(tolerance):
        raise click.UsageError("--tolerance is nan; give a number.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty; give another folder, or --overwrite")
    _require_tools()
    # Here, so that --help needs no torch.
    from vidground.video.frame_sampler import FrameSampler

    for film in films:  # so that an unreadable video is reported before minutes of exporting
        FrameSampler(film, fps=1.0)
    with loading_shown():
        announce_model(
            model,
            revision=revision,
            subfolder=subfolder,
            offline=offline,
            device="cpu",
            dtype="auto",
        )
        from vidground.checkpoints.loading import load_model

        loaded = load_model(model, revision=revision, subfolder=subfolder, local_files_only=offline)
    from vidground.export.onnx import export_onnx
    from vidground.export.parity import measure_parity

    if sum(p.numel() for p in loaded.parameters()) * 4 <= _COMFORTABLE_BYTES:
        loaded = loaded.float()
    with usage_errors():
        written = export_onnx(
            loaded,
            folder,
            dtype=dtype,
            parts=("vision", "compressor") if part == "all" else (part,),
            blocks_in_float=float_blocks,
        )
    for exported in written.parts.values():
        click.echo(f"{folder / exported.file}: {exported.dtype}", err=True)
    parity = measure_parity(
        loaded, written, films, tolerance=tolerance, answers=not features_only, provider="cpu"
    )
    parity.save(folder)
    _report(parity)
    if not parity.passed:
        raise click.exceptions.Exit(FAILED)


def _films(model: str) -> list[str]:
    """Return the example videos, if this is the toy model in a checkout."""
    import vidground

    folder = Path(vidground.__file__).parent.parent / "examples"
    films = sorted(str(path) for path in folder.glob("film_*.mp4"))
    if model != "toy" or not films:
        raise click.UsageError(
            "Give --frames VIDEO; the export is compared with the model on its frames."
        )
    return films


def _require_tools() -> None:
    """Raise InputError if a package that exporting needs is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"exporting needs {', '.join(missing)}; pip install 'vidground[export,onnx-cpu]', or "
            "with onnx in place of onnx-cpu for NVIDIA GPUs"
        )


def _report(parity: Parity) -> None:
    """Print the measurements to standard error."""
    click.echo(f"{parity.frames} frames of {len(parity.videos)} videos, {parity.ran_on}", err=True)
    for name, part in parity.parts.items():
        click.echo(
            f"  {name}: 1 - cosine {part.error:.2e} at most, {1 - part.cosine_mean:.2e} in the "
            f"mean; difference {part.largest:.2e} at most, {part.mean:.2e} in the mean",
            err=True,
        )
    if parity.agreement is not None:
        same = parity.agreement
        click.echo(
            f"  answers: {same.same_tokens} of {same.answers} have the same tokens; "
            f"{same.same_intervals} of {same.intervals} intervals are the same, "
            f"{same.agreeing_intervals} agree (IoU >= 0.9)",
            err=True,
        )
    verdict = "passed" if parity.passed else "FAILED"
    click.echo(f"  {verdict}: tolerance {parity.tolerance:g} on 1 - cosine", err=True)
    if not parity.passed and parity.dtype == "int8":
        click.echo(
            "  --float-blocks leaves more of the first blocks in float, where errors count most; "
            "--tolerance accepts more",
            err=True,
        )
