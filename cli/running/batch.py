"""One call of a command over many videos: find them, plan their results, do the work, count.

What the work is, is the command's matter (`caption`, `query`).
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

from vidground.archive.inputs import (
    MOST_COUNTED,
    FoundVideos,
    InputVideo,
    find_videos,
    parse_list,
)
from vidground.archive.manifest import RecordError
from vidground.archive.outputs import Job, plan_file, plan_outputs, require_writable
from vidground.archive.planning import Plan
from vidground.cli.options.files import (
    STDOUT,
    FileOptions,
    check_named_file,
    named_file,
    require_streamable,
)
from vidground.cli.options.run_options import RunOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.faults import reported_faults
from vidground.cli.reporting.make_reporter import Reporter, on_terminal, reporting, shown
from vidground.cli.running.finish import FAILED, end_with, end_with_error
from vidground.cli.running.runner import Load, Runner, set_environment
from vidground.errors import VidgroundError
from vidground.results.formats import format_of
from vidground.storage.files import VIDEO_SUFFIXES, printable

_MISSING_SHOWN = 3
_SUFFIXES_SHOWN = 5


def run_batch(
    options: RunOptions,
    load: Load,
    *,
    noun: str,
    asked: Mapping[str, Any],
    infix: str = "",
    answers: bool = False,
) -> NoReturn:
    """Run over all inputs and end the program: 0 all well, 1 something failed, 130 Ctrl-C, ….

    Args:
        options: of the command.
        load: see `Runner`.
        noun: what a result is counted in, for the log.
        asked: see `Runner`.
        infix: see `plan_outputs`.
        answers: print results, stored ones too, even if standard error is not a terminal. Results
            that go to standard output are not printed twice.
    """
    log, control = options.log, options.control
    set_environment(options)
    names, passed_over = _names(options.files)
    found = _find(names, passed_over, options.files)
    check_outputs(options, several=len(found.videos) > 1)
    with usage_errors():
        jobs = plan_jobs(found.videos, options, infix)
    total = len(jobs) + len(found.missing)
    printed = (answers or on_terminal()) and options.files.output_dir != STDOUT
    with reporting(
        log.log_format, noun=noun, total=total, quiet=log.quiet, answers=printed
    ) as reporter:
        for name in passed_over:
            reporter.warn(f"{printable(name)}: a result, no video; passed over")
        if others := told_passed_over(found):
            reporter.warn(others)
        try:
            with (
                reported_faults(),
                closing(Runner(options, load, asked=asked, reporter=reporter)) as runner,
            ):
                if control.dry_run:
                    code = _tell_plans(jobs, runner.plans(jobs), found, reporter)
                    raise click.exceptions.Exit(code)
                summary = runner.run(
                    jobs,
                    missing=found.missing,
                    max_failures=control.failures_allowed,
                    stored=answers,
                )
        except VidgroundError as error:
            end_with_error(error, reporter)
        end_with(summary, log, reporter)


def check_outputs(options: RunOptions, *, several: bool) -> None:
    """Refuse, before any work, places that no results can go to. several: videos."""
    files, summary = options.files, options.log.summary
    if files.output_dir == STDOUT and sys.stdout is None:  # as after `>&-`
        raise click.UsageError("-o - needs standard output, which is closed; name a folder.")
    if files.output_dir == STDOUT and several:
        require_streamable(files.formats[0], inputs="several videos", option="--out")
    file = named_file(files)
    if file is not None:
        check_named_file(file, formats=files.formats, several=several)
    elif files.output_dir is not None and Path(files.output_dir).is_file():
        raise click.UsageError(f"--output-dir {shown(files.output_dir)} is a file; name a folder.")
    if summary is not None:
        require_writable(summary)


def plan_jobs(videos: Sequence[InputVideo], options: RunOptions, infix: str = "") -> list[Job]:
    """Return a job per video: its result files, and the folder of its record.

    Raises:
        InputError: two results would have the same file; see `plan_outputs`.
    """
    files, summary = options.files, options.log.summary
    to_stdout = files.output_dir == STDOUT
    reserved = () if summary is None else (summary,)
    file = named_file(files)
    if file is not None:
        jobs = [plan_file(video, file, reserved=reserved) for video in videos]
    else:
        jobs = plan_outputs(
            videos,
            () if to_stdout else files.formats,
            folder=files.output_dir,
            infix=infix,
            keep_suffix=files.keep_suffix,
            reserved=reserved,
        )
    if to_stdout:
        return [Job(job.path, dict.fromkeys(files.formats)) for job in jobs]
    return jobs if options.control.manifest else [replace(job, folder=None) for job in jobs]


def _names(files: FileOptions) -> tuple[list[str], list[str]]:
    """Return the inputs, and apart from them the files that are results of earlier runs.

    A shell that expands archive/* also names the results beside the videos.
    """
    names = list(files.inputs)
    if files.from_file is not None:
        with usage_errors():
            names += parse_list(files.from_file.read())
    if not names:
        raise click.UsageError("No input: name videos, folders or patterns, or use --from-file.")
    results = [name for name in names if _is_result(name)]
    return [name for name in names if name not in set(results)], results


def _is_result(name: str) -> bool:
    ours = format_of(name) is not None and Path(name).suffix.lower() not in VIDEO_SUFFIXES
    hidden = Path(name).name.startswith(".vidground")
    return (ours or hidden) and "\0" not in name and Path(name).is_file()


def told_passed_over(found: FoundVideos) -> str:
    """Return a line on what was found and not taken; "" if there is nothing to say.

    Suffixes of results are not counted, since results lie beside their videos.
    """
    counts = {
        suffix: count
        for suffix, count in found.passed_over.items()
        if format_of(f"x{suffix}") is None
    }
    parts = []
    if counts:
        often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{suffix or 'none'} {count}" for suffix, count in often[:_SUFFIXES_SHOWN]]
        named += ["\N{HORIZONTAL ELLIPSIS}"] if len(often) > _SUFFIXES_SHOWN else []
        total = sum(counts.values())
        parts.append(
            f"{total} {'file' if total == 1 else 'files'} with other suffixes "
            f"({', '.join(named)}) passed over"
        )
    if found.in_subfolders:
        least = "at least " if found.in_subfolders >= MOST_COUNTED else ""
        noun = "video" if found.in_subfolders == 1 else "videos"
        parts.append(
            f"{least}{found.in_subfolders} {noun} in subfolders passed over (see --recursive)"
        )
    return "; ".join(parts)


def _find(names: Sequence[str], passed_over: Sequence[str], files: FileOptions) -> FoundVideos:
    with usage_errors():
        found = find_videos(
            names,
            recursive=files.recursive,
            relative_to=files.relative_to,
            exclude=files.exclude,
            count_subfolders=True,
        )
    if not found.videos:
        reasons = [shown(str(error)) for _, error in found.missing]
        reasons += [f"{printable(name)}: a result, no video" for name in passed_over]
        if len(reasons) > _MISSING_SHOWN:
            reasons[_MISSING_SHOWN:] = [f"and {len(reasons) - _MISSING_SHOWN} more"]
        if others := told_passed_over(found):
            reasons.append(others)
        raise click.UsageError("No video found. " + "; ".join(reasons))
    return found


def _tell_plans(
    jobs: Sequence[Job],
    plans: Sequence[Plan | VidgroundError],
    found: FoundVideos,
    reporter: Reporter,
) -> int:
    """Say what would be done; the exit code is 1 if something is sure to fail."""
    failing: list[tuple[str, VidgroundError]] = [*found.missing]
    damaged: set[str] = set()
    for job, plan in zip(jobs, plans, strict=True):
        if isinstance(plan, VidgroundError):
            # A damaged record concerns all its videos, and is reported once.
            if not (isinstance(plan, RecordError) and str(plan) in damaged):
                failing.append((str(job.path), plan))
            damaged.add(str(plan))
            continue
        outputs = [str(job.outputs[name] or "standard output") for name in plan.formats]
        reporter.plan(str(job.path), plan.action, plan.reason, outputs)
    for name, error in failing:
        reporter.plan(name, "failed", str(error), [])
    failed = any(isinstance(plan, Plan) and plan.action == "failed" for plan in plans)
    return FAILED if failing or failed else 0
