"""Plan the files of results: beside the videos, or in a tree that mirrors the inputs.

Names are planned for all videos before any work, so that two results with the same file are found
early. Knows neither models nor the content of results.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidground.archive.inputs import InputVideo
from vidground.errors import FormatError, InputError
from vidground.results.formats import format_of, suffix_of
from vidground.storage.files import VIDEO_SUFFIXES, printable


@dataclass(frozen=True, slots=True)
class Job:
    """A video and the results to make of it.

    Attributes:
        path: of the video.
        outputs: the file of each format, in the requested order; None for a format that is not
            written to a file (standard output).
        folder: where the results are recorded (`vidground.archive.manifest`); None for no record.
        name: of the results, relative to that folder, without suffix.
    """

    path: Path
    outputs: Mapping[str, Path | None]
    folder: Path | None = None
    name: str = ""

    def only(self, formats: Iterable[str]) -> "Job":
        """Return the same job for some of its formats."""
        return replace(self, outputs={name: self.outputs[name] for name in formats})


def plan_outputs(
    videos: Iterable[InputVideo],
    formats: Sequence[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    infix: str = "",
    keep_suffix: bool = False,
    reserved: Iterable[str | os.PathLike[str]] = (),
) -> list[Job]:
    """Return a job per video: `match.mp4` becomes `match.srt`.

    A suffix that is not that of a video (`match.part2`) is part of the name.

    Args:
        videos: to make results of.
        formats: of the results.
        folder: top of the tree that mirrors the inputs; None writes results beside their videos.
        infix: inserted before the format, so that several kinds of results can share a folder:
            `match.mp4` becomes `match.query.json` for infix "query".
        keep_suffix: `match.mp4` becomes `match.mp4.srt`.
        reserved: further files that no result may replace.

    Raises:
        InputError: two results would have the same file, or a result would replace a video or a
            reserved file.
    """
    jobs = []
    for video in videos:
        inner = Path() if folder is None else video.relative.parent
        top = video.path.parent if folder is None else Path(folder)
        stem = _stem(video.path.name, keep_suffix) + (f".{infix}" if infix else "")
        outputs: dict[str, Path | None] = {
            f: top / inner / f"{stem}{suffix_of(f)}" for f in formats
        }
        jobs.append(Job(video.path, outputs, top, os.fspath(inner / stem)))
    _refuse_collisions(jobs, reserved)
    return jobs


def plan_file(
    video: InputVideo,
    path: str | os.PathLike[str],
    *,
    reserved: Iterable[str | os.PathLike[str]] = (),
) -> Job:
    """Return the job for a video whose result goes to a file with a name of its own.

    Args:
        video: the video.
        path: of the file; its suffix names the format.
        reserved: further files that the result may not replace.

    Raises:
        InputError: the suffix is not that of a format, or the result would replace the video or a
            reserved file.
    """
    path = Path(path)
    form = format_of(path)
    if form is None:
        raise InputError(f"{printable(path)}: the suffix is not that of a format")
    name = path.name[: -len(suffix_of(form))]
    job = Job(video.path, {form: path}, path.parent, name)
    _refuse_collisions([job], reserved)
    return job


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written to a path; missing folders are allowed.

    Raises:
        FormatError: it cannot.
    """
    is_file(path)
    folder = Path(path).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise FormatError(
            f"{printable(path)}: cannot be written: {printable(folder)} is not a folder; "
            "choose another folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FormatError(
            f"{printable(path)}: cannot be written: no permission to write to "
            f"{printable(folder)}; choose another folder"
        )


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a file.

    Raises:
        FormatError: the path is not that of a file, or cannot be.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{printable(path)}: cannot be written: {reason}") from error
    if not stat.S_ISREG(mode):
        raise FormatError(
            f"{printable(path)}: cannot be written: a folder or a device has this name; "
            "choose another folder"
        )
    return True


def clash_text(one: Job, other: Job, output: Path, *, more: int = 0) -> str:
    """Return why two jobs cannot both write `output`, with the remedy.

    Args:
        one: a job.
        other: another job.
        output: a file of both.
        more: number of further clashes.
    """
    text = f"{printable(one.path)} and {printable(other.path)} would both write {printable(output)}"
    if more:
        text += f" (and {more} more such clashes)"
    if one.path.name != other.path.name:
        return f"{text}; keep the videos' suffixes in the names of results (--keep-suffix)"
    return f"{text}; mirror the videos' folders, starting at one that holds both (--relative-to)"


def _stem(name: str, keep_suffix: bool) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in VIDEO_SUFFIXES and not keep_suffix else name


def _refuse_collisions(jobs: Sequence[Job], reserved: Iterable[str | os.PathLike[str]]) -> None:
    taken = {os.path.realpath(job.path): f"the input {printable(job.path)}" for job in jobs}
    for path in reserved:
        place = os.path.realpath(path)
        if place in taken:
            raise InputError(f"{printable(path)} would take the place of {taken[place]}; rename it")
        taken[place] = f"the file {printable(path)}"
    writers: dict[str, Job] = {}
    clashes = []
    for job in jobs:
        for output in filter(None, job.outputs.values()):
            place = os.path.realpath(output)
            if place in taken:
                raise InputError(
                    f"the result {printable(output)} of {printable(job.path)} would take the "
                    f"place of {taken[place]}; leave that out, or choose another format or folder"
                )
            other = writers.setdefault(place, job)
            if other is not job:
                clashes.append((other, job, output))
    if clashes:
        raise InputError(clash_text(*clashes[0], more=len(clashes) - 1))
