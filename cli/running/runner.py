"""What one call of a command needs to run over videos: the model, loaded when there is work for
it, what is done already, and who is told; and how the program ends then.

Knows neither which videos there are nor what the work is (`caption`, `query`).
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from vidground.archive.events import RunSummary
from vidground.archive.job_steps import write_file
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job
from vidground.archive.planning import Plan, Recipe
from vidground.archive.run import OnEvent, run_archive
from vidground.archive.workers import Outcomes, Worker
from vidground.cli.options.run_options import RunOptions
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.make_reporter import Reporter, bars_wanted
from vidground.errors import CheckpointError, VidgroundError
from vidground.faults import as_internal
from vidground.memory import is_out_of_memory
from vidground.progress import OnProgress
from vidground.results.conditions import first_objection
from vidground.results.cues import UNSHAPED
from vidground.results.formats import render
from vidground.settings import WEIGHT_BITS, CacheSettings

Load = Callable[[RunOptions], Worker]
"""Loads the model and returns the worker. Can be pickled by cloudpickle for other processes."""


class Runner:
    """Runs over videos, once or again and again, with one model and one ledger; to be closed.

    Args:
        load: called only if there is work.
        asked: what the command asks of a video, by option, in JSON's terms.
    """

    def __init__(
        self,
        options: RunOptions,
        load: Load,
        *,
        asked: Mapping[str, Any],
        reporter: Reporter,
    ) -> None:
        self._options = options
        self._load = load
        self._reporter = reporter
        self._worker: Worker | None = None
        self._ending = ExitStack()
        self._ledger = Ledger(
            _recipe(options, asked),
            overwrite=options.files.overwrite,
            retry_failed=options.control.retry_failed,
        )

    def load(self) -> Worker:
        """Load the model, or start the processes that will load it, on the first call.

        Raises:
            CheckpointError: the model cannot be loaded.
            click.UsageError: an option is not supported by the model.
        """
        if self._worker is None:
            with usage_errors():
                self._worker = self._start()
        return self._worker

    def close(self) -> None:
        """Stop the processes that were started for the work."""
        self._ending.close()

    def doubt(self, path: Path) -> None:
        """From now on compare this video by its content; see `Ledger.doubt`."""
        self._ledger.doubt(path)

    def plans(self, jobs: Sequence[Job]) -> list[Plan | VidgroundError]:
        """Return what to do about every job, or the error that prevents it."""
        plans: list[Plan | VidgroundError] = []
        for job in jobs:
            try:
                plans.append(self._ledger.plan(job))
            except VidgroundError as error:  # which `run_archive` meets again and reports
                plans.append(error)
            except Exception as error:  # noqa: BLE001 - likewise
                plans.append(as_internal(error, job.path))
        return plans

    def run(
        self,
        jobs: Sequence[Job],
        *,
        missing: Sequence[tuple[str, VidgroundError]] = (),
        max_failures: int | None = None,
        wait: bool = True,
        before: int = 0,
        on_event: OnEvent | None = None,
        stored: bool = False,
    ) -> RunSummary:
        """Do the jobs; see `run_archive`.

        before: how many inputs earlier runs have reported on. on_event: told instead of the
        reporter.

        Raises VidgroundError if the model cannot be loaded, click.UsageError if an option is not
        for this model.
        """
        plans = self.plans(jobs)
        try:
            if any(isinstance(plan, Plan) and plan.action == "work" for plan in plans):
                self.load()  # before the first video's turn, so that its time is its own
        except KeyboardInterrupt:
            return RunSummary((), unfinished=len(jobs) + len(missing), interrupted=True)
        total = before + len(jobs) + len(missing)
        self._reporter.expect(_weights(jobs, plans), total=total)
        conditions = self._options.control.fail_on
        with usage_errors():  # which loading elsewhere meets only now
            return run_archive(
                jobs,
                self._work,
                missing=missing,
                ledger=self._ledger,
                judge=functools.partial(first_objection, conditions) if conditions else None,
                max_failures=max_failures,
                wait=wait,
                stored=stored,
                render=functools.partial(render, cues=self._options.cues),
                write=_write,
                on_event=on_event or self._reporter.event,
                on_progress=self._reporter.progress,
            )

    def _work(self, jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:
        """Load the model on the first job."""
        for first in jobs:
            yield from self.load()(chain((first,), jobs), on_progress)

    def _start(self) -> Worker:
        options, engine = self._options, self._options.engine
        if engine.engine == "local":
            return _loaded(self._load, options)
        from vidground.archive.ray_workers import RayWorkers

        # An actor does one video at a time; an open file cannot be pickled.
        sent = replace(
            options,
            files=replace(options.files, from_file=None),
            batch=replace(options.batch, videos=1),
        )
        workers = RayWorkers(
            functools.partial(_loaded, self._load, sent),
            address=engine.ray_address,
            workers=engine.ray_workers,
            device=options.model.device,
        )
        return self._ending.enter_context(closing(workers))


def _loaded(load: Load, options: RunOptions) -> Worker:
    try:
        return load(options)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{options.model.model} does not fit into memory; use another --device, or "
            "--dtype bfloat16 for half the size"
        ) from error


def set_environment(options: RunOptions) -> None:
    """Tell the libraries that are loaded later; they read this when they are imported."""
    if options.model.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not bars_wanted(options.log.log_format, quiet=options.log.quiet):
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _recipe(options: RunOptions, asked: Mapping[str, Any]) -> Recipe:
    """Return what determines the results, as it is recorded; without speed and device."""
    from vidground.checkpoints.fingerprint import known_commit, model_fingerprint, recorded_name

    model, decoding = options.model, asdict(options.decoding)
    if options.decoding.temperature == 0:
        del decoding["seed"]  # it has no effect
    weights = model_fingerprint(model.model, model.subfolder)
    return Recipe(
        options={
            "model": recorded_name(model.model, model.subfolder),
            "weights": weights,
            "revision": model.revision,
            "subfolder": model.subfolder,
            "dtype": model.dtype,
            "vision": model.vision,
            **({"weight_bits": bits} if (bits := WEIGHT_BITS.get(model.weights)) else {}),
            **_vision(model.vision),
            **_features(options.cache),
            **options.sampling.recorded(),
            **decoding,
            **asked,
        },
        revision=None if weights else known_commit(model.model, model.revision),
        shape={} if options.cues == UNSHAPED else asdict(options.cues),
    )


def _features(cache: CacheSettings | None) -> dict[str, int]:
    """Return how features are rounded, if this changes more than the last digits."""
    usual = cache is None or cache.bits == CacheSettings().bits
    return {} if cache is None or usual else {"cache_bits": cache.bits}


def _vision(vision: str) -> dict[str, str | None]:
    """Return the export that encodes frames; nothing for the model itself, as in older records."""
    from vidground.checkpoints.fingerprint import folder_fingerprint

    scheme, _, folder = vision.partition(":")
    return {"vision": folder_fingerprint(Path(folder).expanduser())} if scheme == "onnx" else {}


def _weights(jobs: Sequence[Job], plans: Sequence[Plan | VidgroundError]) -> dict[str, float]:
    """Return the sizes of the videos that the model will process."""
    weights: dict[str, float] = {}
    for job, plan in zip(jobs, plans, strict=True):
        if isinstance(plan, Plan) and plan.action == "work" and job.path.is_file():
            weights[str(job.path)] = float(job.path.stat().st_size)
    return weights


def _write(text: str, path: Path | None) -> None:
    if path is not None:
        write_file(text, path)
        return
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
