"""Second runs: what is missing, changed or failed is done, and nothing else."""

import os
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.archive_runs import Work, contents, jobs_of, make_archive, run
from tests.helpers.workers import worker_of
from vidground.archive.ledger import Ledger
from vidground.archive.manifest import MANIFEST, Manifest
from vidground.archive.outputs import Job
from vidground.archive.planning import Recipe
from vidground.archive.run import run_archive
from vidground.errors import FormatError, VideoError
from vidground.faults import program_versions
from vidground.results.formats import render
from vidground.storage.atomic import atomic_path, write_atomically
from vidground.storage.files import file_sha256

NAMES = ["00.mp4", "01.mp4", "02.mp4"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path / "in", 3)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def recorded(folder: Path) -> list[str]:
    """The names of the entries in a folder's record."""
    with sqlite3.connect(folder / MANIFEST) as database:
        rows = database.execute("SELECT name FROM entries ORDER BY name").fetchall()
    return [os.fsdecode(name) for (name,) in rows]


def done_again(jobs: list[Job], **options: object) -> list[str]:
    work = Work()
    assert not run(jobs, work, **options).failed  # type: ignore[arg-type]
    return sorted(work.done)


def test_a_second_run_does_nothing(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    assert done_again(jobs) == NAMES
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.srt")}
    summary = run(jobs, Work())
    assert (summary.skipped, {r.reason for r in summary.reports}) == (3, {"up to date"})
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.srt")} == before
    assert recorded(out) == ["00", "01", "deep/02"]


def test_results_beside_videos_are_recorded_in_each_folder(archive: Path) -> None:
    assert done_again(jobs_of(archive)) == NAMES
    assert recorded(archive) == ["00", "01"]
    assert recorded(archive / "deep") == ["02"]
    assert done_again(jobs_of(archive)) == []


def test_a_video_with_other_content_is_done_again(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    done_again(jobs)
    (archive / "00.mp4").write_bytes(b"VIDEO 0")  # as long as before
    (archive / "01.mp4").write_bytes(b"a longer video")
    os.utime(archive / "deep" / "02.mp4")  # touched, not changed
    work = Work()
    summary = run(jobs, work)
    assert work.done == ["00.mp4", "01.mp4"]
    assert [report.reason for report in summary.reports] == [
        "the video has changed: its content is another",
        "the video has changed: it had 7 bytes, has 14",
        "up to date",
    ]


def test_unchanged_videos_are_not_read_again(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = time.time() - 1000
    for path in archive.rglob("*.mp4"):
        os.utime(path, (long_ago, long_ago))
    jobs = jobs_of(archive, out)
    done_again(jobs)
    read: list[str] = []

    def hashed(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr("vidground.archive.ledger.file_sha256", hashed)
    assert (done_again(jobs), read) == ([], [])
    os.utime(archive / "00.mp4", (long_ago + 5, long_ago + 5))
    assert (done_again(jobs), read) == ([], ["00.mp4"])
    assert (done_again(jobs), read) == ([], ["00.mp4"])  # its new time is known now


def test_other_options_make_results_again(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    done_again(jobs)
    work = Work()
    summary = run(jobs, work, options={"fps": 2.0})
    assert (len(work.done), summary.reports[0].reason) == (3, "fps was 1.0, is 2.0")
    assert done_again(jobs, options={"fps": 2.0}) == []


def test_another_format_or_shape_needs_no_model(archive: Path, out: Path) -> None:
    done_again(jobs_of(archive, out, formats=("srt",)))
    jobs = jobs_of(archive, out, formats=("srt", "json", "txt"))
    summary = run(jobs, Work(errors=dict.fromkeys(NAMES, VideoError("not to be called"))))
    assert (summary.done, summary.reports[0].reason) == (3, "json, txt from the stored result")
    assert summary.reports[0].outputs == (str(out / "00.json"), str(out / "00.txt"))
    assert summary.speed == {}
    made = contents(out)
    assert run(jobs, Work(), shape={"max_line_width": 4}).done == 3
    assert contents(out) == made  # `render` was not told of the shape here
    (out / "00.srt").unlink()
    assert done_again(jobs, shape={"max_line_width": 4}) == []
    assert contents(out) == made


def test_files_that_vidground_did_not_write_stay(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    out.mkdir()
    (out / "00.srt").write_text("mine")
    summary = run(jobs, Work())
    assert (out / "00.srt").read_text() == "mine"
    assert summary.reports[0].outputs == (str(out / "00.json"),)
    assert "00.srt is left alone: vidground did not write it" in summary.reports[0].warnings[0]
    (out / "01.json").write_text("edited")
    assert done_again(jobs) == []
    assert len(done_again(jobs, options={"fps": 2.0})) == 3
    assert ((out / "00.srt").read_text(), (out / "01.json").read_text()) == ("mine", "edited")
    assert len(done_again(jobs, overwrite=True)) == 3
    assert b"mine" not in contents(out)["00.srt"]
    assert b"edited" not in contents(out)["01.json"]
    assert done_again(jobs) == []


def test_the_result_of_another_video_with_the_same_name_stays(tmp_path: Path, out: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"one")
    (tmp_path / "x.mkv").write_bytes(b"two")
    one = [Job(tmp_path / "x.mp4", {"srt": out / "x.srt"}, out, "x")]
    two = [Job(tmp_path / "x.mkv", {"srt": out / "x.srt"}, out, "x")]
    assert done_again(one) == ["x.mp4"]
    assert done_again(two) == []
    assert done_again(two, overwrite=True) == ["x.mkv"]


def test_what_failed_is_told_again_and_tried_when_asked(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    broken = Work(errors={"01.mp4": VideoError("'01.mp4': no frame")})
    assert run(jobs, broken).failed == 1
    work = Work()
    summary = run(jobs, work)
    assert (summary.failed, summary.skipped, work.done) == (1, 2, [])
    assert summary.reports[1].error == (
        "'01.mp4': no frame (failed before; --retry-failed tries again)"
    )
    assert run(jobs, broken, retry_failed=True).failed == 1
    assert done_again(jobs, retry_failed=True) == ["01.mp4"]
    assert done_again(jobs, retry_failed=True) == []


def test_a_failed_video_that_was_mended_is_tried_without_asking(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    run(jobs, Work(errors={"01.mp4": VideoError("no frame")}))
    (archive / "01.mp4").write_bytes(b"fetched again")
    assert done_again(jobs) == ["01.mp4"]


def test_what_is_not_the_videos_fault_is_tried_again(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    errors = {"00.mp4": MemoryError(), "01.mp4": OSError(5, "Input/output error")}
    assert run(jobs, Work(errors=errors)).failed == 2
    assert done_again(jobs) == ["00.mp4", "01.mp4"]


@pytest.mark.parametrize("error", [None, VideoError("'01.mp4': cut off")])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b"it has grown"), "was changed while it was read"),
        (lambda path: path.unlink(), "vanished while it was read"),
    ],
)
def test_a_video_that_changes_while_it_is_read_fails(
    archive: Path, out: Path, change: object, reason: str, error: VideoError | None
) -> None:
    def meanwhile(path: Path) -> None:
        if path.name == "01.mp4":
            change(path)  # type: ignore[operator]

    work = Work(errors={} if error is None else {"01.mp4": error}, meanwhile=meanwhile)
    for jobs in (jobs_of(archive, out), jobs_of(archive, out.with_name("unrecorded"))):
        (archive / "01.mp4").write_bytes(b"video 1")
        summary = run(jobs, work)
        assert [report.status for report in summary.reports] == ["done", "failed", "done"]
        assert reason in (summary.reports[1].error or "")
        assert "01.srt" not in contents(out)
    (archive / "01.mp4").write_bytes(b"it has grown")
    assert done_again(jobs_of(archive, out)) == ["01.mp4"]


def test_a_full_disk_loses_no_result(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(archive, out)

    def full(path: Path, data: object, **options: bool) -> None:
        if path.name == "01.json":
            raise FormatError(f"{path}: cannot be written: the disk is full")
        write_atomically(path, data, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("vidground.archive.job_steps.write_atomically", full)
        summary = run(jobs, Work())
    assert [report.status for report in summary.reports] == ["done", "failed", "done"]
    assert summary.reports[1].outputs == (str(out / "01.srt"),)
    assert sorted(contents(out)) == [
        *("00.json", "00.srt", "01.srt", "deep/02.json", "deep/02.srt"),
    ]
    assert done_again(jobs) == []  # what is missing is written from the stored result
    assert "01.json" in contents(out)


def test_a_run_that_ends_between_two_files_leaves_none_of_the_old_ones_for_good(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(archive, out)
    done_again(jobs)
    (archive / "01.mp4").write_bytes(b"other content")

    def full(path: Path, data: object, **options: bool) -> None:
        if path.name == "01.json":
            raise FormatError(f"{path}: cannot be written: the disk is full")
        write_atomically(path, data, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("vidground.archive.job_steps.write_atomically", full)
        assert run(jobs, Work()).failed == 1
    old = contents(out)["01.json"]
    work = Work()
    summary = run(jobs, work)  # which knows the old file as its own, and puts the new in its place
    assert (work.done, summary.done, summary.skipped) == ([], 1, 2)
    assert contents(out)["01.json"] != old


def test_what_another_run_does_meanwhile_is_not_done_again(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    work = Work()
    errors = {"00.mp4": VideoError("no frame")}
    recipe = Recipe(options={"fps": 1.0})
    begun_before = Ledger(recipe, overwrite=True, retry_failed=True)
    run(jobs, Work(errors=errors), overwrite=True)
    summary = run_archive(jobs, worker_of(work), ledger=begun_before)
    assert (work.done, summary.skipped, summary.failed) == ([], 2, 1)
    run_archive(jobs, worker_of(work), ledger=Ledger(recipe, overwrite=True))
    assert sorted(work.done) == NAMES


def test_a_record_that_cannot_be_written_is_no_success(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(archive, out)

    def full(self: Manifest, *_: object) -> None:
        raise FormatError(f"{self.path}: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "record", full)
        summary = run(jobs, Work(errors={"02.mp4": VideoError("no frame")}))
    assert summary.failed == 3
    assert "the disk is full" in (summary.reports[0].error or "")
    assert summary.reports[2].error == (
        f"no frame; this cannot be recorded either: {out}/.vidground.sqlite3: the disk is full"
    )
    assert contents(out) == {}
    assert done_again(jobs) == NAMES


def test_what_a_killed_run_left_half_written_is_removed(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    done_again(jobs)
    lent = atomic_path(out / "00.srt")
    half = lent.__enter__()  # as if the process had been killed here
    half.write_text("half")
    (out / "00.srt").unlink()
    other = out / ".vidground-of-another-file.srt"
    other.touch()
    assert done_again(jobs) == []
    assert (half.exists(), other.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_to_fails_what_it_lacks(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done_again(jobs_of(archive, out, formats=("srt",)))
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)
    assert run(jobs_of(archive, out, formats=("srt",)), Work()).skipped == 3
    summary = run(jobs_of(archive, out), Work())
    assert summary.failed == 3
    assert "no permission to write to" in (summary.reports[0].error or "")


def test_an_output_folder_that_goes_away_is_made_again(archive: Path, out: Path) -> None:
    jobs = jobs_of(archive, out)
    gone = Work(meanwhile=lambda path: shutil.rmtree(out) if path.name == "01.mp4" else None)
    assert run(jobs, gone).done == 3
    assert sorted(contents(out)) == ["01.json", "01.srt", "deep/02.json", "deep/02.srt"]
    assert recorded(out) == ["01", "deep/02"]
    assert done_again(jobs) == ["00.mp4"]


def test_results_that_are_refused_are_written_and_count_as_failed(archive: Path, out: Path) -> None:
    def judge(result: object) -> str | None:
        return "not good" if "00.mp4" in render(result, "json") else None  # type: ignore[arg-type]

    jobs = jobs_of(archive, out)
    summary = run(jobs, Work(), judge=judge)
    assert [report.status for report in summary.reports] == ["failed", "done", "done"]
    assert (summary.reports[0].error, len(summary.reports[0].outputs)) == ("not good", 2)
    work = Work()
    again = run(jobs, work, judge=judge)
    assert [report.status for report in again.reports] == ["failed", "skipped", "skipped"]
    assert work.done == []
    assert run(jobs, work).failed == 0


@pytest.mark.parametrize(("most", "reports"), [(1, 1), (2, 3), (3, 3)])
def test_a_run_stops_at_so_many_failures(archive: Path, out: Path, most: int, reports: int) -> None:
    errors = {"00.mp4": VideoError("a"), "02.mp4": VideoError("b")}
    summary = run(jobs_of(archive, out), Work(errors=errors), max_failures=most)
    assert len(summary.reports) == reports
    assert (summary.stopped, summary.unfinished) == (reports < 3, 3 - reports)


def failed_before(archive: Path, out: Path) -> list[Job]:
    """Jobs of which the first is recorded as failed."""
    jobs = jobs_of(archive, out)
    error = VideoError("'00.mp4': not a video that can be read; check that it plays")
    assert run(jobs, Work(errors={"00.mp4": error})).failed == 1
    return jobs


@pytest.mark.parametrize("library", ["vidground", "PyAV"])
def test_what_another_version_could_not_read_is_tried_again(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    jobs = failed_before(archive, out)
    work = Work()
    assert run(jobs, work).failed == 1
    assert work.done == []
    now = {**program_versions(), library: "99.0"}
    monkeypatch.setattr("vidground.archive.ledger.program_versions", lambda: now)
    plan = Ledger(Recipe({"fps": 1.0})).plan(jobs[0])
    assert plan.action == "work"
    assert f"failed before with vidground {program_versions()['vidground']}, PyAV " in plan.reason
    assert f"{library} 99.0" in plan.reason
    assert run(jobs, work).failed == 0
    assert work.done == ["00.mp4"]


def forget_versions(manifest: Path) -> None:
    """Turn a record into one from before versions were recorded."""
    with closing(sqlite3.connect(manifest)) as database, database:
        (schema,) = database.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'entries'"
        ).fetchone()
        older = re.sub(r"BLOB,( *-- that JSON.*)\n *program TEXT.*", r"BLOB \1", schema)
        assert older != schema
        names = [name for _, name, *_ in database.execute("PRAGMA table_info(entries)")]
        kept = ", ".join(name for name in names if name != "program")
        database.execute("ALTER TABLE entries RENAME TO newer")
        database.execute(older)
        database.execute(f"INSERT INTO entries ({kept}) SELECT {kept} FROM newer")
        database.execute("DROP TABLE newer")


def test_failures_in_records_without_versions_are_tried_again_once(
    archive: Path, out: Path
) -> None:
    jobs = failed_before(archive, out)
    forget_versions(out / MANIFEST)
    assert Manifest(out).entry("00").program == {}  # type: ignore[union-attr]
    plan = Ledger(Recipe({"fps": 1.0})).plan(jobs[0])
    assert plan.reason.startswith("failed before with an earlier version, tried again with vidg")
    work = Work(errors={"00.mp4": VideoError("'00.mp4': still no video")})
    for _ in range(2):
        summary = run(jobs, work)
        assert (summary.failed, summary.skipped) == (1, 2)
    assert work.done == ["00.mp4"]


def test_what_is_done_stays_done_with_another_version(
    archive: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(archive, out)
    done_again(jobs)
    monkeypatch.setattr(
        "vidground.archive.ledger.program_versions", lambda: {"vidground": "9", "PyAV": "9"}
    )
    assert done_again(jobs) == []


@pytest.mark.parametrize("error", [TypeError("t"), IndexError("i"), AssertionError()])
def test_mistakes_of_the_program_are_tried_again_without_being_asked(
    archive: Path, out: Path, error: Exception
) -> None:
    jobs = jobs_of(archive, out)
    summary = run(jobs, Work(errors={"01.mp4": error}))
    assert (summary.done, summary.failed, summary.internal_errors) == (2, 1, 1)
    assert recorded(out) == ["00", "deep/02"]
    assert done_again(jobs) == ["01.mp4"]
