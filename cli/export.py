"""`vidground export onnx`: parts of a model for other runtimes, and how near they are to it."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.errors import InputError
from vidground.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from vidground.export.parity import Parity

_FAILED = 1
_COMFORTABLE_BYTES = 8 << 30  # models up to so large are computed with in float32


@click.group()
def export() -> None:
    """Write parts of a model for other runtimes."""


@export.command("onnx")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="As for `caption`.")
@click.option("--revision", help="Branch, tag or commit of the repository.")
@click.option("--subfolder", help="Where the model lies in a repository that holds several.")
@click.option("--offline", is_flag=True, help="Use what the cache holds, never the network.")
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
    help="int8: leave so many of the first blocks in float; by default one in 16.",
)
@click.option(
    "--frames",
    "videos",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="VIDEO",
    help="Compare the export with the model on this video; give it several times for several. "
    "Needed but for --model toy in a checkout, which has two films.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Fail if 1 - cosine of any feature is above this; by default 1e-5 for fp32, 1e-4 for "
    "fp16, 1e-3 for int8.",
)
@click.option("--features-only", is_flag=True, help="Do not compare answers, which take longer.")
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
    """Write a model's vision part as ONNX and compare it with the model on real frames.

    `vidground caption --vision onnx:DIR` then uses it. The export stays in DIR whatever the
    comparison says; the exit code is 1 if it is further off than the tolerance.

    \b
    vidground export onnx --model toy --out toy-onnx
    vidground export onnx --out d2vlm-int8 --dtype int8 --frames match.mp4 --features-only
    """
    films = list(videos) or _films(model)
    if tolerance is not None and isnan(tolerance):
        raise click.UsageError("--tolerance is nan, above which is nothing; give a number.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty; give another folder, or --overwrite")
    _require_tools()
    # Here, so that --help needs no torch.
    from vidground.video.frame_sampler import FrameSampler

    for film in films:  # one that cannot be read is told before, not after minutes of exporting
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
        raise click.exceptions.Exit(_FAILED)


def _films(model: str) -> list[str]:
    """The films of the toy world, if this is the toy model in a checkout."""
    import vidground

    folder = Path(vidground.__file__).parent.parent / "examples"
    films = sorted(str(path) for path in folder.glob("film_*.mp4"))
    if model != "toy" or not films:
        raise click.UsageError("Give --frames VIDEO, to compare the export with the model on.")
    return films


def _require_tools() -> None:
    """Raise InputError if the packages that exporting needs are not there."""
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"exporting needs {', '.join(missing)}; pip install 'vidground[export,onnx-cpu]', or "
            "with onnx in place of onnx-cpu for NVIDIA GPUs"
        )


def _report(parity: Parity) -> None:
    """Print what was measured, to standard error as all that is no result."""
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
