"""`vidground bench`: how fast videos are captioned here, stage by stage."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from vidground.archive.inputs import find_videos
from vidground.archive.outputs import require_writable
from vidground.cli.options.isolation import DECODE_ON
from vidground.cli.options.model import MODEL_HELP
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.cli.reporting.reporter import shown
from vidground.settings import DEFAULT_MODEL, BatchSettings, DecodingSettings
from vidground.storage.atomic import write_atomically

if TYPE_CHECKING:
    from vidground.benchmark.random_model import Size
    from vidground.captioner import DenseCaptioner

STDOUT = "-"


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--recursive", is_flag=True, help="Search subfolders too.")
@click.option("--model", help=f"{MODEL_HELP}  [default: {DEFAULT_MODEL}]")
@click.option(
    "--random-weights",
    type=click.Choice(["official", "mid"]),
    help="Time random weights instead: official is the released size, mid a smaller one for CPUs. "
    "Each answer has --tokens tokens, every tenth of them an <evi>.",
)
@click.option("--device", help="cpu, cuda or cuda:1. By default a GPU if there is one.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Type of the weights. By default bfloat16 on a GPU with hardware support for it, "
    "float32 on "
    "the CPU.",
)
@click.option("--offline", is_flag=True, help="Use only cached files; never access the network.")
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Maximum length of an answer.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Batch size of generation: questions, each about one window. By default as large as "
    "the free "
    "memory allows.",
)
@click.option(
    "--frame-batch",
    type=click.IntRange(min=1),
    help="Batch size of the vision encoder, in frames. By default as large as the free memory "
    "allows.",
)
@click.option(
    "--videos",
    type=click.IntRange(min=1),
    help="Videos processed at the same time when the whole run is timed. By default 6 on the CPU.",
)
@DECODE_ON
@click.option(
    "--baseline",
    is_flag=True,
    help="Also time the procedure of the released code with the same weights, and compare the "
    "answers.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many times the whole run is timed, alternating with the baseline if there is one.",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write all measurements to this file; - for standard output instead of the table.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not report progress.")
def bench(
    inputs: tuple[str, ...],
    recursive: bool,
    model: str | None,
    random_weights: Size | None,
    device: str | None,
    dtype: str | None,
    offline: bool,
    tokens: int,
    batch_size: int | None,
    frame_batch: int | None,
    videos: int | None,
    decode_on: str,
    baseline: bool,
    rounds: int,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Time the captioning of videos, and compare it with the peak speed of the device.

    Prints one row per stage: decode, preprocess, vision, compress, prefill (to the first token of
    an answer), tokens (the others) and write; then the time to caption all videos. Utilization is
    relative to a large matrix product and a large copy, which are measured first. With --decode-on
    other than cpu, decoding is also timed on its own there and on the CPU, and the frames are
    compared. The results are discarded.

    \b
    vidground bench videos --random-weights mid --baseline
    vidground bench match.mp4 --model toy --json bench.json
    """
    if model is not None and random_weights is not None:
        raise click.UsageError("--random-weights replaces the model; leave out --model.")
    if json_path not in (None, STDOUT):
        require_writable(str(json_path))
    found = find_videos(inputs, recursive=recursive)
    if found.missing or not found.videos:
        reasons = "; ".join(shown(str(error)) for _, error in found.missing)
        raise click.UsageError(reasons or "No videos found.")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with usage_errors():
        decoding = DecodingSettings(max_new_tokens=tokens, loop_tokens=0)
        batch = BatchSettings(prompts=batch_size, frames=frame_batch, videos=videos)
    settings = {"decoding": decoding, "batch": batch, "decode_on": decode_on}
    with loading_shown(quiet=quiet):
        if random_weights is None:
            announce_model(model or DEFAULT_MODEL, offline=offline, device=device, dtype=dtype)
        with usage_errors():
            captioner = _load(model, random_weights, device, dtype, settings, offline=offline)
    # Here, so that --help needs no torch.
    from vidground.benchmark.report import to_dict, to_table
    from vidground.benchmark.run import run_benchmark

    measured = run_benchmark(
        captioner,
        [video.path for video in found.videos],
        baseline=baseline,
        rounds=rounds,
        on_step=lambda step: None if quiet else click.echo(shown(step), err=True),
    )
    text = json.dumps(to_dict(measured), indent=2) + "\n"
    if json_path not in (None, STDOUT):
        write_atomically(str(json_path), text, parents=True)
    click.echo(text if json_path == STDOUT else to_table(measured), nl=json_path != STDOUT)


def _load(
    model: str | None,
    random_weights: Size | None,
    device: str | None,
    dtype: str | None,
    settings: dict[str, Any],
    *,
    offline: bool,
) -> DenseCaptioner:
    import torch

    from vidground.benchmark.random_model import random_model
    from vidground.captioner import DenseCaptioner
    from vidground.devices import choose_device

    if random_weights is None:
        options: dict[str, Any] = {"local_files_only": True} if offline else {}
        return DenseCaptioner(
            model or DEFAULT_MODEL,
            device=device,
            dtype=dtype,
            **settings,
            **options,
        )
    kept = None if dtype is None else getattr(torch, dtype)
    weights = random_model(random_weights, device=choose_device(device), dtype=kept)
    return DenseCaptioner(weights, **settings)
