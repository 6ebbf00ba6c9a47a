"""`vidground data`: look through training data, make a toy set, make preference pairs."""

import json
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
    load_annotations,
    videos_of,
)
from vidground.training.data.perturbation import PerturbationSettings

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_PERTURBATION = PerturbationSettings()


@click.group()
def data() -> None:
    """Look through training data, make a toy set, make preference pairs."""


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option(
    "--kind",
    type=click.Choice(["sft", "fpo"]),
    default="sft",
    show_default=True,
    help="sft: one answer for each sample. fpo: a chosen one and rejected ones.",
)
@click.option(
    "--video-root",
    type=_FOLDER,
    metavar="DIR",
    help="Folder that the samples' videos are relative to; they must exist in it.",
)
@click.option(
    "--videos", is_flag=True, help="Open every video too, and compare its duration; takes longer."
)
def validate(files: tuple[Path, ...], kind: Kind, video_root: Path | None, videos: bool) -> None:
    """Check every field of every sample of annotation files.

    Prints a line with file, sample (counted from 0) and reason for each sample that cannot be
    trained on, and ends with exit code 1 if there is one.

    \b
    vidground data validate sft.json --video-root videos --videos
    vidground data validate --kind fpo pairs.json
    """
    if videos and video_root is None:
        raise click.UsageError("--videos needs the folder of the videos, --video-root.")
    report = check_annotations(files, video_root=video_root, kind=kind)
    problems = list(report.problems)
    if videos and video_root is not None:
        problems += _video_problems(report.annotations, video_root)
    for problem in sorted(problems, key=lambda found: _place(found, files)):
        click.echo(shown(str(problem)))
    _tell_counts(report, files)
    click.echo(f"{len(problems)} problems" if problems else "no problems", err=True)
    if problems:
        raise click.exceptions.Exit(1)


@data.command()
@click.option("--out", "-o", type=_FOLDER, required=True, metavar="DIR", help="Folder of the set.")
@click.option("--videos", type=int, required=True, help="Videos in all.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, another set.")
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
    help="Share of the videos to test with; 1 for a set that is only for testing.",
)
def toy(out: Path, videos: int, seed: int, size: int, test_share: float) -> None:
    """Make a small data set of moving shapes: videos, training samples and a benchmark.

    The same seed makes the same files. A call that was interrupted goes on where it stopped; one
    with more videos adds to those that are there.

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
    click.echo(f"{out}: {videos} videos", err=True)


def _perturbation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the values of `PerturbationSettings`, each with its default."""
    helps = {
        "max_iou": "A changed interval overlaps the true ones by less than this.",
        "min_changed_words": "Words that a changed text differs in.",
        "repeats": "How often a repeated caption is said.",
        "fps": "Frames per second that intervals are told apart by.",
        "seed": "Seed of all that is drawn.",
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
    """Make preference pairs: to each right answer, ones that are wrong in one way.

    A rejected answer has a shifted, added, missing or merged interval, or an exchanged or
    repeated caption; nothing else of it is changed.

    \b
    vidground data perturb toy-data/sft.json toy-data/fpo.json
    vidground train fpo --config toy-fpo
    """
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists; name another file, or use --overwrite.")
    from vidground.storage.atomic import write_atomically
    from vidground.training.data.perturbation import preference_annotations

    with usage_errors():
        chosen = PerturbationSettings(**settings)
    load_annotations([source])  # what is not right cannot be made wrong in one way
    samples = json.loads(source.read_text(encoding="utf-8"))
    pairs = list(preference_annotations(samples, chosen))
    write_atomically(target, json.dumps(pairs, indent=1, ensure_ascii=False) + "\n")
    click.echo(
        f"{target}: {len(pairs)} samples with rejected answers, made of {len(samples)}", err=True
    )


@data.command()
@click.option(
    "--predicted", type=_PATH, required=True, metavar="PATH", help="A result, or a folder of them."
)
@click.option(
    "--corrected", type=_PATH, required=True, metavar="PATH", help="The same, with your edits."
)
@click.option(
    "--out",
    "-o",
    type=_FILE,
    default=Path("fpo.json"),
    show_default=True,
    metavar="FPO.json",
    help="Where the pairs go.",
)
@click.option(
    "--videos",
    type=_FOLDER,
    metavar="DIR",
    help="Folder that the pairs' videos are to be relative to; needed if the results name them by "
    "absolute paths.",
)
@click.option("--overwrite", is_flag=True, help="Replace FPO.json if it exists.")
def pairs(
    predicted: Path, corrected: Path, out: Path, videos: Path | None, overwrite: bool
) -> None:
    """Make preference pairs of results that you have corrected.

    A result is the JSON that `caption` or `query` writes; edit times and texts in a copy. What
    was predicted is rejected: its times told in your texts, and its texts on your times, each in
    a pair of its own. In folders, files of the same name belong together.

    \b
    vidground data pairs --predicted match.json --corrected match.fixed.json
    vidground data pairs --predicted results --corrected fixed --videos archive -o fpo.json
    """
    if out.exists() and not overwrite:
        raise click.UsageError(f"{out} exists; name another file, or use --overwrite.")
    from vidground.storage.atomic import write_atomically
    from vidground.training.data.correction_pairs import pairs_of_files

    with usage_errors():
        found = pairs_of_files(predicted, corrected, videos=videos)
    for name in found.unmatched:
        click.echo(f"left out: {shown(name)} is in one folder only", err=True)
    for failure in found.failures:
        click.echo(f"failed: {shown(failure)}", err=True)
    if found.failures and not found.samples:
        click.echo(f"{out}: not written, for there is no pair", err=True)
        raise click.exceptions.Exit(1)
    write_atomically(out, json.dumps(found.samples, indent=1, ensure_ascii=False) + "\n")
    counts = ", ".join(f"{count} of {name}" for name, count in found.counts.items())
    click.echo(
        f"{out}: {len(found.samples)} pairs ({counts}) from {found.answers} answers, of which "
        f"{found.identical} were not changed",
        err=True,
    )
    if found.failures:
        raise click.exceptions.Exit(1)


def _video_problems(annotations: Sequence[Annotation], video_root: Path) -> list[Problem]:
    # Here, so that checking texts alone needs no PyAV.
    from vidground.training.data.video_checks import measure_videos, video_problems

    with bar("video", len(videos_of(annotations))) as on_progress:
        measured = measure_videos(annotations, video_root, on_progress=on_progress)
    return video_problems(annotations, measured)


def _place(problem: Problem, files: Sequence[Path]) -> tuple[int, int]:
    return files.index(problem.file), -1 if problem.index is None else problem.index


def _tell_counts(report: AnnotationReport, files: Sequence[Path]) -> None:
    """Say what there is, and what training leaves out of it by default."""
    from vidground.training.data.dataset import within_limits

    usable = report.annotations
    click.echo(
        f"{len(usable)} samples of {len(videos_of(usable))} videos in {len(files)} files can be "
        "trained on",
        err=True,
    )
    for reason, count in within_limits(usable).dropped.items():
        click.echo(f"{count} of them are left out by default: {reason}", err=True)
