"""`vidground data`: check, convert and make training data."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.make_reporter import shown
from vidground.training.data.annotations import (
    Annotation,
    AnnotationReport,
    Kind,
    Problem,
    check_annotations,
    counted,
    kind_of,
    load_annotations,
    videos_of,
)
from vidground.training.data.conversion.datasets import DATASETS, DatasetName, Task
from vidground.training.data.perturbation import PerturbationSettings

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_PERTURBATION = PerturbationSettings()


@click.group()
def data() -> None:
    """Check, convert and make training data."""


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option(
    "--kind",
    type=click.Choice(["sft", "fpo"]),
    help="sft: one answer for each sample. fpo: a chosen answer and rejected ones. By default what "
    "the first sample is.",
)
@click.option(
    "--video-root",
    "video_roots",
    type=_FOLDER,
    multiple=True,
    metavar="DIR",
    help="Folder that the samples' videos are relative to, with any suffix; they must exist. May "
    "be given several times.",
)
@click.option("--videos", is_flag=True, help="Also open every video and compare its duration.")
def validate(
    files: tuple[Path, ...], kind: Kind | None, video_roots: tuple[Path, ...], videos: bool
) -> None:
    """Check every field of every sample of annotation files.

    FILE is a JSON list or JSON Lines (.jsonl). Prints a line with file, sample (counted from 0)
    and reason for each sample that cannot be trained on, repeats another one or has an empty list
    of times, and for each missing video; exits with code 1 if there is any.

    \b
    vidground data validate sft.json --video-root videos --videos
    vidground data validate pairs.json
    """
    if videos and not video_roots:
        raise click.UsageError("--videos needs the folder of the videos, --video-root.")
    kind = kind or kind_of(files)
    report = check_annotations(files, video_root=video_roots, kind=kind, strict=True)
    problems = list(report.problems)
    if videos:
        problems += _video_problems(report.annotations)
    found = [*problems, *report.missing]
    for problem in sorted(found, key=lambda item: _place(item, files)):
        click.echo(shown(str(problem)))
    _print_counts(report, files)
    click.echo(counted(len(problems), "problem") if problems else "no problems", err=True)
    if report.missing:
        samples = counted(len(report.missing), "sample")
        missing = counted(len(report.missing_videos), "missing video")
        click.echo(f"{samples} of {missing}", err=True)
    if found:
        raise click.exceptions.Exit(1)


@data.command()
@click.argument("dataset", type=click.Choice(DATASETS))
@click.argument("source", metavar="SOURCE", type=_FILE)
@click.argument("target", metavar="SFT.json", type=_FILE)
@click.option(
    "--task",
    type=click.Choice(["dvc", "tvg"]),
    help="Of activitynet-captions: all captions of a video in one sample (dvc, if not given), or "
    "one sample for each sentence (tvg).",
)
@click.option(
    "--video-root",
    type=_FOLDER,
    metavar="DIR",
    help="Folder of the videos, with any suffix; samples of missing ones are left out and counted.",
)
@click.option(
    "--durations",
    type=_FILE,
    metavar="CSV",
    help="Of charades-sta, which lists no durations: Charades_v1_train.csv. If not given, the "
    "videos in --video-root are measured.",
)
@click.option("--overwrite", is_flag=True, help="Replace SFT.json if it exists.")
def convert(
    dataset: DatasetName,
    source: Path,
    target: Path,
    task: Task | None,
    video_root: Path | None,
    durations: Path | None,
    overwrite: bool,
) -> None:
    """Convert a public data set to training data.

    SOURCE is charades_sta_train.txt, ActivityNet Captions' train.json, QVHighlights'
    highlight_train_release.jsonl, or et_instruct_164k_txt.json or _vid.json. A target that ends in
    .jsonl is written as JSON Lines.

    \b
    vidground data convert charades-sta charades_sta_train.txt sft.json --video-root Charades_v1
    vidground data convert et-instruct et_instruct_164k_vid.json sft.jsonl
    """
    _refuse_existing(target, overwrite)
    if dataset == "charades-sta" and video_root is None and durations is None:
        raise click.UsageError("charades-sta lists no durations; give --durations or --video-root.")
    if dataset != "charades-sta" and durations is not None:
        raise click.UsageError(f"{dataset} lists its durations; leave out --durations.")
    from vidground.training.data.annotation_files import write_samples
    from vidground.training.data.conversion.datasets import convert_dataset

    with usage_errors():
        found = convert_dataset(dataset, source, task=task, videos=video_root, durations=durations)
    for problem in found.problems:
        click.echo(f"left out: {shown(problem)}", err=True)
    for video in found.missing_videos:
        click.echo(f"missing: {shown(video)}", err=True)
    for reason, count in found.dropped.items():
        click.echo(f"{count} left out because {reason}", err=True)
    if not found.samples:
        click.echo(f"{target}: not written, because no sample is left", err=True)
        raise click.exceptions.Exit(1)
    write_samples(target, found.samples)
    click.echo(f"{target}: {counted(len(found.samples), 'sample')}", err=True)


@data.command()
@click.option(
    "--out", "-o", type=_FOLDER, required=True, metavar="DIR", help="Folder of the data set."
)
@click.option("--videos", type=int, required=True, help="Number of videos.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another seed makes another set."
)
@click.option(
    "--size",
    type=int,
    default=112,
    show_default=True,
    help="Width and height of the videos, in pixels.",
)
@click.option(
    "--test-share",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of videos for testing; 1 for a set that is only for testing.",
)
def toy(out: Path, videos: int, seed: int, size: int, test_share: float) -> None:
    """Make a small data set of moving shapes: videos, training samples and a benchmark.

    The same seed makes the same files. An interrupted call continues where it stopped; one with
    more videos adds to the existing ones.

    \b
    vidground data toy --out toy-data --videos 500
    vidground train sft --config toy-sft
    """
    # Here, so that --help needs no PyAV.
    from vidground.training.toy.dataset import write_dataset

    with usage_errors(), bar("video", videos) as on_progress:
        write_dataset(
            out,
            videos=videos,
            seed=seed,
            size=size,
            test_share=test_share,
            on_progress=on_progress,
        )
    click.echo(f"{out}: {counted(videos, 'video')}", err=True)


def _perturbation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the values of `PerturbationSettings`, each with its default."""
    helps = {
        "max_iou": "Limit of the overlap (IoU) of a changed interval with the true ones.",
        "min_changed_words": "Number of words in which a changed text differs.",
        "repeats": "How often a repeated caption occurs.",
        "fps": "Frames per second in which intervals are compared.",
        "seed": "Seed of all random choices.",
    }
    for field in reversed(fields(PerturbationSettings)):
        default = getattr(_PERTURBATION, field.name)
        command = click.option(
            "--" + field.name.replace("_", "-"),
            type=type(default),
            default=default,
            show_default=True,
            help=helps[field.name],
        )(command)
    return command


@data.command()
@click.argument("source", metavar="SFT.json", type=_FILE)
@click.argument("target", metavar="FPO.json", type=_FILE)
@_perturbation_options
@click.option("--overwrite", is_flag=True, help="Replace FPO.json if it exists.")
def perturb(source: Path, target: Path, overwrite: bool, **settings: Any) -> None:
    """Make preference pairs: for each right answer, answers that are wrong in one way.

    A rejected answer has a shifted, added, missing or merged interval, or an exchanged or
    repeated caption; nothing else in it is changed.

    \b
    vidground data perturb toy-data/sft.json toy-data/fpo.json
    vidground train fpo --config toy-fpo
    """
    _refuse_existing(target, overwrite)
    from vidground.training.data.annotation_files import read_samples, write_samples
    from vidground.training.data.perturbation import preference_annotations

    with usage_errors():
        chosen = PerturbationSettings(**settings)
    load_annotations([source])  # only a right answer can be made wrong in one way
    samples = read_samples(source)
    pairs = list(preference_annotations(samples, chosen))
    write_samples(target, pairs)
    click.echo(
        f"{target}: {len(pairs)} samples with rejected answers, made of {len(samples)}", err=True
    )


@data.command()
@click.option(
    "--predicted", type=_PATH, required=True, metavar="PATH", help="A result, or a folder of them."
)
@click.option(
    "--corrected", type=_PATH, required=True, metavar="PATH", help="Your corrections of it."
)
@click.option(
    "--out",
    "-o",
    type=_FILE,
    default=Path("fpo.json"),
    show_default=True,
    metavar="FPO.json",
    help="File for the pairs; JSON Lines if it ends in .jsonl.",
)
@click.option(
    "--videos",
    type=_FOLDER,
    metavar="DIR",
    help="Folder that the pairs' videos are relative to; needed if the results name them by "
    "absolute paths.",
)
@click.option("--overwrite", is_flag=True, help="Replace FPO.json if it exists.")
def pairs(
    predicted: Path, corrected: Path, out: Path, videos: Path | None, overwrite: bool
) -> None:
    """Make preference pairs of results that you have corrected.

    A result is the JSON that `caption` or `query` writes. A correction is a copy of it with edited
    times and texts, or what a subtitle editor or an annotation tool saved: SRT, WebVTT, Label
    Studio's JSON export, ELAN (.eaf) or VIA (JSON or CSV). The prediction is rejected: its times
    with your texts, and its texts with your times, each in a pair of its own. In folders, files of
    the same name belong together; an export of many videos is matched by their names.

    \b
    vidground data pairs --predicted match.json --corrected match.fixed.json
    vidground data pairs --predicted match.json --corrected match.srt
    vidground data pairs --predicted results --corrected project-1.json --videos archive
    """
    _refuse_existing(out, overwrite)
    from vidground.training.data.annotation_files import write_samples
    from vidground.training.data.correction_pairs import pairs_of_files

    with usage_errors():
        found = pairs_of_files(predicted, corrected, videos=videos)
    for name in found.unmatched:
        click.echo(f"left out: {shown(name)} has no counterpart", err=True)
    for failure in found.failures:
        click.echo(f"failed: {shown(failure)}", err=True)
    if found.failures and not found.samples:
        click.echo(f"{out}: not written, because there is no pair", err=True)
        raise click.exceptions.Exit(1)
    write_samples(out, found.samples)
    counts = ", ".join(f"{count} of {name}" for name, count in found.counts.items())
    click.echo(
        f"{out}: {counted(len(found.samples), 'pair')} ({counts}) from "
        f"{counted(found.answers, 'answer')}, of which {found.identical} unchanged",
        err=True,
    )
    if found.failures:
        raise click.exceptions.Exit(1)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists; name another file, or use --overwrite.")


def _video_problems(annotations: Sequence[Annotation]) -> list[Problem]:
    # Here, so that checking texts alone needs no PyAV.
    from vidground.training.data.video_checks import measure_videos, video_problems

    with bar("video", len(videos_of(annotations))) as on_progress:
        measured = measure_videos(annotations, on_progress=on_progress)
    return video_problems(annotations, measured)


def _place(problem: Problem, files: Sequence[Path]) -> tuple[int, int]:
    return files.index(problem.file), -1 if problem.index is None else problem.index


def _print_counts(report: AnnotationReport, files: Sequence[Path]) -> None:
    """Print how many samples there are, and how many of them training drops by default."""
    from vidground.training.data.dataset import within_limits

    usable = report.annotations
    click.echo(
        f"{counted(len(usable), 'sample')} of {counted(len(videos_of(usable)), 'video')} in "
        f"{counted(len(files), 'file')} can be trained on",
        err=True,
    )
    for reason, count in within_limits(usable).dropped.items():
        click.echo(f"{count} of them left out by default: {reason}", err=True)
