from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.result_makers import ASKED, captions
from tests.helpers.workers import worker_of
from vidground.archive.events import FileReport, Started, Waiting
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job
from vidground.archive.run import run_archive
from vidground.errors import CheckpointError, InputError, VideoError, VidgroundError
from vidground.results.types import Event


def jobs_of(folder, *names, formats=("srt",)):
    return [
        Job(folder / f"{name}.mp4", {form: folder / f"{name}.{form}" for form in formats})
        for name in names
    ]


class Work:
    """Gives one event per video, or raises what it is told to; remembers the jobs it was given."""

    def __init__(self, **errors):
        self.errors = errors
        self.jobs = []

    def __call__(self, job, on_progress):
        on_progress(f"at {job.path.stem}")
        self.jobs.append(job)
        if job.path.stem in self.errors:
            raise self.errors[job.path.stem]
        return captions() if job.path.stem == "quiet" else captions(Event(0.0, 1.0, "a goal"))


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def statuses(summary):
    return [(Path(report.path).stem, report.status) for report in summary.reports]


def test_all_videos_are_done_and_counted(tmp_path):
    events = []
    jobs = jobs_of(tmp_path, "a", "quiet", formats=("srt", "json"))
    summary = run_archive(jobs, worker_of(Work()), on_event=events.append)
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\na goal\n\n"
    assert (tmp_path / "quiet.srt").read_text() == ""
    assert files_in(tmp_path) == ["a.json", "a.srt", "quiet.json", "quiet.srt"]
    counts = {"done": 2, "empty": 1, "skipped": 0, "failed": 0, "unfinished": 0}
    assert summary.counts == counts
    assert not summary.interrupted
    first, report = events[:2]
    assert first == Started(str(tmp_path / "a.mp4"), 1, 2)
    assert report == summary.reports[0]
    assert (report.events, report.outputs) == (1, tuple(map(str, jobs[0].outputs.values())))
    assert summary.to_dict()["files"][1]["events"] == 0


def test_what_exists_is_left_alone_unless_overwritten(tmp_path):
    (tmp_path / "a.srt").write_text("mine")
    jobs = jobs_of(tmp_path, "a")
    work = Work()
    summary = run_archive(jobs, worker_of(work))
    assert statuses(summary) == [("a", "skipped")]
    assert summary.reports[0].outputs == (str(tmp_path / "a.srt"),)
    assert (work.jobs, (tmp_path / "a.srt").read_text()) == ([], "mine")
    assert run_archive(jobs, worker_of(work), ledger=Ledger(overwrite=True)).done == 1
    assert "a goal" in (tmp_path / "a.srt").read_text()


def test_only_missing_formats_are_written(tmp_path):
    (tmp_path / "a.srt").write_text("mine")
    work = Work()
    summary = run_archive(jobs_of(tmp_path, "a", formats=("srt", "json")), worker_of(work))
    assert work.jobs == jobs_of(tmp_path, "a", formats=("json",))
    assert summary.reports[0].outputs == (str(tmp_path / "a.json"),)
    assert (tmp_path / "a.srt").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "reason", "failure"),
    [
        (VideoError("'b.mp4': no frame can be decoded"), "'b.mp4': no frame", "input"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error", "system"),
        (MemoryError(), "out of memory", "system"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory", "system"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: x"), "out of memory", "system"),
        (VidgroundError("'b.mp4': the decoder was killed"), "'b.mp4': the decoder", "system"),
    ],
)
def test_a_video_that_fails_fails_alone(tmp_path, error, reason, failure):
    summary = run_archive(jobs_of(tmp_path, "a", "b", "c"), worker_of(Work(b=error)))
    assert statuses(summary) == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert summary.reports[1].error.startswith(reason)
    assert summary.reports[1].failure == failure
    assert (summary.reports[1].traceback, summary.internal_errors) == (None, 0)
    assert files_in(tmp_path) == ["a.srt", "c.srt"]


def test_a_result_that_cannot_be_written_fails_alone_and_costs_no_work(tmp_path):
    (tmp_path / "b.srt").mkdir()
    work = Work()
    summary = run_archive(jobs_of(tmp_path, "b", "a"), worker_of(work))
    assert statuses(summary) == [("b", "failed"), ("a", "done")]
    assert [job.path.stem for job in work.jobs] == ["a"]


def test_a_failed_write_tells_what_was_written_before(tmp_path):
    def write(text, path):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        path.write_text(text)

    jobs = jobs_of(tmp_path, "a", formats=("srt", "json", "txt"))
    (report,) = run_archive(jobs, worker_of(Work()), write=write).reports
    assert (report.status, report.outputs) == ("failed", (str(tmp_path / "a.srt"),))


@pytest.mark.parametrize("error", [CheckpointError("no model"), BrokenPipeError()])
def test_what_every_video_would_meet_ends_the_run(tmp_path, error):
    with pytest.raises(type(error)):
        run_archive(jobs_of(tmp_path, "a", "b"), worker_of(Work(a=error)))


def test_ctrl_c_ends_the_run_with_a_summary(tmp_path):
    missing = [("gone.mp4", VideoError("'gone.mp4': no such file"))]
    jobs = jobs_of(tmp_path, "a", "b", "c")
    summary = run_archive(jobs, worker_of(Work(b=KeyboardInterrupt())), missing=missing)
    assert statuses(summary) == [("gone", "failed"), ("a", "done")]
    assert (summary.interrupted, summary.unfinished) == (True, 2)


def test_inputs_that_were_not_found_are_reported_first(tmp_path):
    missing = [("*.avi", VideoError("'*.avi': no video matches"))]
    summary = run_archive(jobs_of(tmp_path, "a"), worker_of(Work()), missing=iter(missing))
    told = FileReport("*.avi", "failed", error="'*.avi': no video matches", failure="input")
    assert summary.reports[0] == told
    assert (summary.failed, summary.done) == (1, 1)


def test_warnings_are_told_once(tmp_path):
    result = captions(warnings=("damaged", "damaged", "cut"))
    (report,) = run_archive(jobs_of(tmp_path, "a"), worker_of(lambda *_: result)).reports
    assert report.warnings == ("damaged", "cut")
    (report,) = run_archive(jobs_of(tmp_path, "b"), worker_of(lambda *_: ASKED)).reports
    assert report.warnings == ("cut", "old")


def test_progress_reaches_the_caller(tmp_path):
    told = []
    run_archive(jobs_of(tmp_path, "a", "b"), worker_of(Work()), on_progress=told.append)
    assert told == ["at a", "at b"]


def test_a_job_without_files_needs_a_writer():
    job = Job(Path("a.mp4"), {"srt": None})
    with pytest.raises(InputError, match="`write` function"):
        run_archive([job], worker_of(Work()))
    written = []
    run_archive([job], worker_of(Work()), write=lambda text, path: written.append((text[:2], path)))
    assert written == [("1\n", None)]


class Backwards:
    """Takes up to three jobs at once and gives the last one's result first."""

    def __init__(self, work):
        self.work = work
        self.given = []
        self.closed = 0

    def __call__(self, jobs, on_progress):
        try:
            while batch := [job for _, job in zip(range(3), jobs, strict=False)]:
                for job in reversed(batch):
                    self.given.append(job.path.stem)
                    yield from worker_of(self.work)(iter([job]), on_progress)
        finally:
            self.closed += 1


def recorded(folder, *names):
    for name in names:
        (folder / f"{name}.mp4").write_bytes(b"content")
    return [replace(job, folder=folder, name=job.path.stem) for job in jobs_of(folder, *names)]


def test_workers_may_end_several_jobs_in_any_order(tmp_path):
    workers = Backwards(Work(c=VideoError("'c.mp4': no frame can be decoded")))
    summary = run_archive(recorded(tmp_path, "a", "b", "c", "d"), workers)
    expected = [("c", "failed"), ("b", "done"), ("a", "done"), ("d", "done")]
    assert statuses(summary) == expected
    assert workers.given == ["c", "b", "a", "d"]


def test_jobs_that_are_begun_are_kept_from_other_runs_until_they_are_finished(tmp_path):
    jobs = recorded(tmp_path, "a", "b", "c")
    free = []

    def work(*_):
        for other in jobs:
            with Ledger().claim(other) as mine:
                free.extend([other.path.stem] if mine else [])
        free.append("|")
        return captions()

    run_archive(jobs, Backwards(work))
    assert free == ["|", "c", "|", "b", "c", "|"]


def test_a_run_that_ends_early_closes_its_workers_and_frees_their_jobs(tmp_path):
    jobs = recorded(tmp_path, "a", "b", "c", "d")
    workers = Backwards(Work(c=OSError(5, "Input/output error")))
    summary = run_archive(jobs, workers, max_failures=1)
    assert (statuses(summary), summary.unfinished, summary.stopped) == ([("c", "failed")], 3, True)
    assert workers.closed == 1
    with Ledger().claim(jobs[0]) as mine:
        assert mine


def test_a_job_of_another_run_is_waited_for(tmp_path):
    jobs = recorded(tmp_path, "a", "b")
    events = []
    theirs = ExitStack()
    assert theirs.enter_context(Ledger().claim(jobs[0]))

    def on_event(event):
        events.append(event)
        if isinstance(event, Waiting):
            theirs.close()

    summary = run_archive(jobs, worker_of(Work()), on_event=on_event)
    assert statuses(summary) == [("b", "done"), ("a", "done")]
    assert [event.path for event in events if isinstance(event, Waiting)] == [str(jobs[0].path)]


FAULTS = [TypeError("t"), IndexError("i"), KeyError("k"), AssertionError(), ValueError("v")]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_a_mistake_of_the_program_fails_alone_and_is_not_recorded(tmp_path, error):
    jobs = recorded(tmp_path, "a", "b", "c")
    summary = run_archive(jobs, worker_of(Work(b=error)))
    assert statuses(summary) == [("a", "done"), ("b", "failed"), ("c", "done")]
    report = summary.reports[1]
    assert f"internal error: {type(error).__name__}" in report.error
    assert "damaged" not in report.error
    assert report.failure == "internal"
    assert "in __call__" in report.traceback
    assert (summary.failed, summary.internal_errors) == (1, 1)
    document = summary.to_dict()
    assert document["internal_errors"] == 1
    assert document["files"][1]["failure"] == "internal"
    assert "Traceback" in document["files"][1]["traceback"]


@pytest.mark.parametrize("stage", ["render", "write", "judge"])
def test_a_mistake_while_results_are_written_fails_alone(tmp_path, stage):
    jobs = recorded(tmp_path, "a", "b")

    def broken(*_):
        raise KeyError(stage)

    summary = run_archive(jobs[:1], worker_of(Work()), **{stage: broken})
    assert (summary.internal_errors, summary.failed) == (1, 1)
    assert f"KeyError: '{stage}'" in summary.reports[0].error
    assert statuses(run_archive(jobs, worker_of(Work())))[1] == ("b", "done")
    assert run_archive(jobs, worker_of(Work())).failed == 0


def test_a_mistake_while_a_job_is_planned_fails_alone(tmp_path, monkeypatch):
    jobs = recorded(tmp_path, "a", "b")
    plan = Ledger.plan

    def broken(self, job):
        if job.path.stem == "a":
            raise AttributeError("no such column")
        return plan(self, job)

    monkeypatch.setattr(Ledger, "plan", broken)
    summary = run_archive(jobs, worker_of(Work()))
    assert statuses(summary) == [("a", "failed"), ("b", "done")]
    assert summary.reports[0].failure == "internal"


def test_poor_results_and_known_failures_are_told_by_their_kind(tmp_path):
    jobs = recorded(tmp_path, "a", "b")
    work = Work(b=VideoError("'b.mp4': no frame"))
    summary = run_archive(jobs, worker_of(work), judge=lambda _: "empty")
    assert [report.failure for report in summary.reports] == ["quality", "input"]
    (again,) = run_archive(jobs[1:], worker_of(work)).reports
    assert "failed before" in again.error
    assert (again.failure, len(work.jobs)) == ("input", 2)
