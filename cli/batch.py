"""One call of a command over many videos: find them, plan their results, do the work, count.

What the work is, is the command's matter (`caption`, `query`).
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from vidground.archive import RunSummary, Work, any_work, is_out_of_memory, run_archive
from vidground.atomic import write_atomically
from vidground.cli.options import STDOUT, FileOptions, RunOptions, usage_errors
from vidground.cli.reporting import Reporter, bars_wanted, reporting, shown
from vidground.cues import CueSettings
from vidground.errors import CheckpointError, VidgroundError
from vidground.formats import Result, render, save
from vidground.inputs import FoundVideos, find_videos, parse_list
from vidground.outputs import Job, plan_outputs, require_writable

FAILED, INTERRUPTED = 1, 130

# Formats that name the video in every document or line, so that several can share a stream.
_STREAMABLE = ("json", "jsonl")
_MISSING_SHOWN = 3


def run_batch(
    options: RunOptions, load: Callable[[], Work], *, noun: str, infix: str = ""
) -> NoReturn:
    """Run over all inputs and end the program: 0 all well, 1 something failed, 130 Ctrl-C.

    Args:
        load: loads the model and returns the work; called only if there is some.
        noun: what a result is counted in, for the log.
        infix: see `plan_outputs`.
    """
    log = options.log
    _set_environment(options)
    found = _find(options.files)
    jobs = _plan(found, options, infix)
    total = len(jobs) + len(found.missing)
    with reporting(log.log_format, noun=noun, total=total, quiet=log.quiet) as reporter:
        try:
            summary = _run(jobs, found, options, load, reporter)
        except VidgroundError as error:
            reporter.close()
            reporter.error(str(error))
            raise click.exceptions.Exit(FAILED) from error
        failed = summary.failed > 0
        try:
            _write_summary(summary, log.summary)
        except VidgroundError as error:
            failed = True
            reporter.error(str(error))
        reporter.summary(summary)
    code = FAILED if failed else 0
    raise click.exceptions.Exit(INTERRUPTED if summary.interrupted else code)


def _run(
    jobs: Sequence[Job],
    found: FoundVideos,
    options: RunOptions,
    load: Callable[[], Work],
    reporter: Reporter,
) -> RunSummary:
    @functools.cache
    def loaded() -> Work:
        try:
            with usage_errors():
                return load()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"{options.model.model} does not fit into memory; use another --device, or "
                "--dtype bfloat16 for half the size"
            ) from error

    overwrite = options.files.overwrite
    try:
        if any_work(jobs, overwrite=overwrite):
            loaded()  # before the first video's turn, so that its time is its own
    except KeyboardInterrupt:
        return RunSummary((), unfinished=len(jobs) + len(found.missing), interrupted=True)
    return run_archive(
        jobs,
        lambda job, on_progress: loaded()(job, on_progress),
        missing=found.missing,
        overwrite=overwrite,
        write=functools.partial(_write, cues=options.cues),
        on_event=reporter.event,
        on_progress=reporter.progress,
    )


def _set_environment(options: RunOptions) -> None:
    """Tell the libraries that are loaded later; they read this when they are imported."""
    if options.model.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not bars_wanted(options.log.log_format, quiet=options.log.quiet):
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _find(files: FileOptions) -> FoundVideos:
    names = list(files.inputs)
    if files.from_file is not None:
        names += parse_list(files.from_file.read())
    if not names:
        raise click.UsageError("No input: name videos, folders or patterns, or use --from-file.")
    with usage_errors():
        found = find_videos(names, recursive=files.recursive, relative_to=files.relative_to)
    if not found.videos:
        reasons = [shown(str(error)) for _, error in found.missing]
        if len(reasons) > _MISSING_SHOWN:
            reasons[_MISSING_SHOWN:] = [f"and {len(reasons) - _MISSING_SHOWN} more"]
        raise click.UsageError("No video found. " + "; ".join(reasons))
    return found


def _plan(found: FoundVideos, options: RunOptions, infix: str) -> list[Job]:
    files, summary = options.files, options.log.summary
    to_stdout = files.output_dir == STDOUT
    if to_stdout and len(found.videos) > 1 and files.formats[0] not in _STREAMABLE:
        raise click.UsageError(
            f"-o - with {len(found.videos)} videos needs a format that says which video a result "
            f"is about: --out {' or '.join(_STREAMABLE)}."
        )
    if files.output_dir is not None and Path(files.output_dir).is_file():
        raise click.UsageError(f"--output-dir {shown(files.output_dir)} is a file; name a folder.")
    if summary is not None:
        require_writable(summary)
    with usage_errors():
        jobs = plan_outputs(
            found.videos,
            () if to_stdout else files.formats,
            folder=files.output_dir,
            infix=infix,
            keep_suffix=files.keep_suffix,
            reserved=() if summary is None else (summary,),
        )
    if to_stdout:
        return [Job(job.path, dict.fromkeys(files.formats)) for job in jobs]
    return jobs


def _write_summary(summary: RunSummary, path: Path | None) -> None:
    if path is not None:
        write_atomically(path, json.dumps(summary.to_dict(), indent=2) + "\n")


def _write(result: Result, name: str, path: Path | None, *, cues: CueSettings) -> None:
    if path is not None:
        save(result, path, format=name, cues=cues)
        return
    sys.stdout.buffer.write(render(result, name, cues=cues).encode())
    sys.stdout.buffer.flush()
