"""One call of a command over many videos: find them, plan their results, do the work, count.

What the work is, is the command's matter (`caption`, `query`).
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import click

from vidground.archive import run_archive
from vidground.atomic import write_atomically
from vidground.cli.options import STDOUT, FileOptions, RunOptions, usage_errors
from vidground.cli.reporting import Reporter, bars_wanted, reporting, shown
from vidground.conditions import first_objection
from vidground.cues import UNSHAPED
from vidground.errors import CheckpointError, VidgroundError
from vidground.files import VIDEO_SUFFIXES, printable
from vidground.filing import write_file
from vidground.formats import FORMATS, render
from vidground.inputs import FoundVideos, find_videos, parse_list
from vidground.ledger import Ledger
from vidground.outcomes import RunSummary
from vidground.outputs import Job, plan_outputs, require_writable
from vidground.planning import Plan, Recipe
from vidground.work import Work, is_out_of_memory

FAILED = 1

# Formats that name the video in every document or line, so that several can share a stream.
_STREAMABLE = ("json", "jsonl")
_MISSING_SHOWN = 3


def run_batch(
    options: RunOptions,
    load: Callable[[], Work],
    *,
    noun: str,
    asked: Mapping[str, Any],
    infix: str = "",
) -> NoReturn:
    """Run over all inputs and end the program: 0 all well, 1 something failed, 130 Ctrl-C, ….

    Args:
        load: loads the model and returns the work; called only if there is some.
        noun: what a result is counted in, for the log.
        asked: what the command asks of a video, by option, in JSON's terms.
        infix: see `plan_outputs`.
    """
    log = options.log
    _set_environment(options)
    names, passed_over = _names(options.files)
    found = _find(names, passed_over, options.files)
    jobs = _plan(found, options, infix)
    total = len(jobs) + len(found.missing)
    with reporting(log.log_format, noun=noun, total=total, quiet=log.quiet) as reporter:
        for name in passed_over:
            reporter.warn(f"{printable(name)}: a result, no video; passed over")
        try:
            ledger = Ledger(
                _recipe(options, asked),
                overwrite=options.files.overwrite,
                retry_failed=options.control.retry_failed,
            )
            plans = _plans(jobs, ledger)
            if options.control.dry_run:
                code = _tell_plans(jobs, plans, found, reporter)
                raise click.exceptions.Exit(code)
            summary = _run(jobs, plans, found, options, ledger, load, reporter)
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
    ending = click.get_current_context().find_root().obj
    code = FAILED if failed else 0
    raise click.exceptions.Exit(ending.exit_code if summary.interrupted else code)


def _run(
    jobs: Sequence[Job],
    plans: Sequence[Plan | VidgroundError],
    found: FoundVideos,
    options: RunOptions,
    ledger: Ledger,
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

    conditions = options.control.fail_on
    try:
        if any(isinstance(plan, Plan) and plan.action == "work" for plan in plans):
            loaded()  # before the first video's turn, so that its time is its own
    except KeyboardInterrupt:
        return RunSummary((), unfinished=len(jobs) + len(found.missing), interrupted=True)
    reporter.expect(_weights(jobs, plans))
    return run_archive(
        jobs,
        lambda job, on_progress: loaded()(job, on_progress),
        missing=found.missing,
        ledger=ledger,
        judge=functools.partial(first_objection, conditions) if conditions else None,
        max_failures=options.control.failures_allowed,
        render=functools.partial(render, cues=options.cues),
        write=_write,
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


def _names(files: FileOptions) -> tuple[list[str], list[str]]:
    """The inputs, and apart from them files that are no videos but results of earlier runs.

    A shell that expands archive/* names the results that lie beside the videos too.
    """
    names = list(files.inputs)
    if files.from_file is not None:
        names += parse_list(files.from_file.read())
    if not names:
        raise click.UsageError("No input: name videos, folders or patterns, or use --from-file.")
    results = [name for name in names if _is_result(name)]
    return [name for name in names if name not in set(results)], results


def _is_result(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    ours = suffix.removeprefix(".") in FORMATS and suffix not in VIDEO_SUFFIXES
    hidden = Path(name).name.startswith(".vidground")
    return (ours or hidden) and "\0" not in name and Path(name).is_file()


def _find(names: Sequence[str], passed_over: Sequence[str], files: FileOptions) -> FoundVideos:
    with usage_errors():
        found = find_videos(names, recursive=files.recursive, relative_to=files.relative_to)
    if not found.videos:
        reasons = [shown(str(error)) for _, error in found.missing]
        reasons += [f"{printable(name)}: a result, no video" for name in passed_over]
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
    return jobs if options.control.manifest else [replace(job, folder=None) for job in jobs]


def _recipe(options: RunOptions, asked: Mapping[str, Any]) -> Recipe:
    """What makes the results, as it is recorded; speed and device do not belong to it."""
    from vidground.model_identity import folder_fingerprint, known_commit

    model, decoding = options.model, asdict(options.decoding)
    if options.decoding.temperature == 0:
        del decoding["seed"]  # it has no effect
    weights = folder_fingerprint(model.model, model.subfolder)
    return Recipe(
        options={
            "model": model.model,
            "weights": weights,
            "revision": model.revision,
            "subfolder": model.subfolder,
            "dtype": model.dtype,
            "vision": model.vision,
            **_vision(model.vision),
            **asdict(options.sampling),
            **decoding,
            **asked,
        },
        revision=None if weights else known_commit(model.model, model.revision),
        shape={} if options.cues == UNSHAPED else asdict(options.cues),
    )


def _vision(vision: str) -> dict[str, str | None]:
    """The export that encodes frames; nothing for the model itself, as in older records."""
    from vidground.model_identity import folder_fingerprint

    scheme, _, folder = vision.partition(":")
    return {"vision": folder_fingerprint(folder)} if scheme == "onnx" else {}


def _plans(jobs: Sequence[Job], ledger: Ledger) -> list[Plan | VidgroundError]:
    """What is to be done about every job as things stand, or why nothing can be."""
    plans: list[Plan | VidgroundError] = []
    for job in jobs:
        try:
            plans.append(ledger.plan(job))
        except VidgroundError as error:  # which `run_archive` meets again and reports
            plans.append(error)
    return plans


def _weights(jobs: Sequence[Job], plans: Sequence[Plan | VidgroundError]) -> dict[str, float]:
    """The sizes of the videos that the model will go through."""
    weights: dict[str, float] = {}
    for job, plan in zip(jobs, plans, strict=True):
        if isinstance(plan, Plan) and plan.action == "work" and job.path.is_file():
            weights[str(job.path)] = float(job.path.stat().st_size)
    return weights


def _tell_plans(
    jobs: Sequence[Job],
    plans: Sequence[Plan | VidgroundError],
    found: FoundVideos,
    reporter: Reporter,
) -> int:
    """Say what would be done; the exit code is 1 if something is sure to fail."""
    failing: list[tuple[str, VidgroundError]] = [*found.missing]
    for job, plan in zip(jobs, plans, strict=True):
        if isinstance(plan, VidgroundError):
            failing.append((str(job.path), plan))
            continue
        outputs = [str(job.outputs[name] or "standard output") for name in plan.formats]
        reporter.plan(str(job.path), plan.action, plan.reason, outputs)
    for name, error in failing:
        reporter.plan(name, "failed", str(error), [])
    failed = any(isinstance(plan, Plan) and plan.action == "failed" for plan in plans)
    return FAILED if failing or failed else 0


def _write_summary(summary: RunSummary, path: Path | None) -> None:
    if path is not None:
        write_atomically(path, json.dumps(summary.to_dict(), indent=2) + "\n")


def _write(text: str, path: Path | None) -> None:
    if path is not None:
        write_file(text, path)
        return
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
