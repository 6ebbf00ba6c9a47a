"""A damaged record is refused by name, reported once for a run, and made again from the results."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.archive_runs import Work, jobs_of, make_archive, run
from tests.helpers.hostile_records import DOCUMENTS, VALUES, WHOLE, Damage
from tests.helpers.result_makers import PROVENANCE, VIDEO, captions
from vidground.archive.manifest import MANIFEST, Manifest, RecordError
from vidground.archive.manifest_rows import BadValueError, packed, unpacked
from vidground.archive.outputs import Job
from vidground.archive.planning import Recipe, changes
from vidground.archive.record_rebuild import check_record, rebuild_record
from vidground.archive.stored_results import find_stored
from vidground.cli.main import cli
from vidground.errors import FormatError
from vidground.results.types import Captions, Event
from vidground.storage.files import file_sha256

OPTIONS = {
    "command": "caption",
    "fps": 1.0,
    "loop_tokens": 512,
    "model": "toy",
    "subfolder": None,
    "temperature": 0.0,
    "weights": None,
    "window_s": None,
}


class TrueWork(Work):
    """Returns results with the video's own size, which a rebuilt record is judged by."""

    def __call__(self, job: Job, rest: object) -> Captions:
        super().__call__(job, rest)
        video = replace(
            VIDEO,
            path=str(job.path),
            sha256=file_sha256(job.path),
            size_bytes=job.path.stat().st_size,
        )
        made = replace(PROVENANCE, decoding={"loop_tokens": 512, "temperature": 0.0, "seed": 0})
        return replace(captions(Event(0.0, 1.0, "a goal")), video=video, provenance=made)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The results of one film, with their record."""
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert run(jobs_of(tmp_path), TrueWork(), options=OPTIONS).done == 1
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("damage", [pytest.param(d, id=n) for n, d in WHOLE.items()])
def test_a_damaged_record_is_refused_by_every_reader(results: Path, damage: Damage) -> None:
    damage(results)
    manifest = Manifest(results)
    for use in (manifest.require_whole, manifest.names, lambda: manifest.entry("film")):
        with pytest.raises(RecordError, match=r"is damaged \(.*vidground record rebuild"):
            use()


@pytest.mark.parametrize("damage", [pytest.param(d, id=n) for n, d in VALUES.items()])
def test_a_wrong_value_is_named(results: Path, damage: Damage) -> None:
    damage(results)
    with pytest.raises(RecordError, match="is damaged"):
        Manifest(results).entry("film")
    assert len(check_record(results).problems) == 1


@pytest.mark.parametrize("damage", [pytest.param(d, id=n) for n, d in DOCUMENTS.items()])
def test_a_wrong_result_or_name_is_a_problem_of_the_check(results: Path, damage: Damage) -> None:
    damage(results)
    assert len(check_record(results).problems) == 1
    said = command("record", "check", str(results))
    assert said.exit_code == 1
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(d, id=n)
        for n, d in (WHOLE | VALUES | DOCUMENTS).items()
        if n not in ("folder", "pipe")
    ],
)
def test_a_rebuilt_record_is_whole_and_nothing_is_done_again(results: Path, damage: Damage) -> None:
    damage(results)
    damaged = (results / MANIFEST).read_bytes()
    rebuilt = rebuild_record(results)
    assert (rebuilt.kept, rebuilt.made, rebuilt.left_out) == (0, 1, ())
    assert rebuilt.old is not None
    assert rebuilt.old.read_bytes() == damaged
    assert check_record(results).problems == ()
    work = TrueWork()
    summary = run(jobs_of(results), work, options=OPTIONS)
    assert (summary.skipped, work.done) == (1, [])


def test_the_check_counts_entries_and_needs_a_record(results: Path, tmp_path: Path) -> None:
    assert check_record(results).entries == 1
    assert command("record", "check", str(results)).stdout == "1 readable, 0 damaged\n"
    (tmp_path / "empty").mkdir()
    said = command("record", "check", str(tmp_path / "empty"))
    assert said.exit_code == 1
    assert "no record of results here" in said.stderr
    said = command("record", "rebuild", str(tmp_path / "empty"))
    assert said.exit_code == 1
    assert "no result (JSON)" in said.stderr


def test_readable_entries_are_kept_and_what_is_no_result_is_left_out(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "in", 4)
    out = tmp_path / "out"
    run(jobs_of(archive, out), TrueWork(), options=OPTIONS)
    (out / "broken.json").write_text('{"schema_version": 1, "kind": "captions"}')
    edited = json.loads((out / "00.json").read_text())
    edited["provenance"]["corrected"] = True
    (out / "corrected.json").write_text(json.dumps(edited))
    (out / "run.json").write_text('{"done": 4}')
    rebuilt = rebuild_record(out)
    assert (rebuilt.kept, rebuilt.made) == (4, 0)
    assert [path.name for path, _ in rebuilt.left_out] == ["broken.json", "corrected.json"]
    assert check_record(out).entries == 4


def test_a_changed_option_makes_a_rebuilt_result_again(results: Path) -> None:
    (results / MANIFEST).unlink()
    rebuild_record(results)
    entry = Manifest(results).entry("film")
    assert entry is not None
    assert changes(entry, Recipe(OPTIONS | {"seed": 3, "subfolder": "deep"})) is None
    change = changes(entry, Recipe(OPTIONS | {"fps": 2.0}))
    assert change == "fps was 1.0, is 2.0"


def test_the_journal_of_the_damaged_record_is_not_applied_to_the_new_one(results: Path) -> None:
    (results / MANIFEST).unlink()  # SQLite looks at a journal only beside its database
    (results / f"{MANIFEST}-journal").write_bytes(b"hot")
    assert rebuild_record(results).old is None
    assert (results / f"{MANIFEST}.old-1-journal").read_bytes() == b"hot"
    assert not (results / f"{MANIFEST}-journal").exists()


def test_a_damaged_record_is_reported_once_and_other_folders_go_on(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, 6)  # two of them in a folder of their own
    jobs = jobs_of(archive)
    assert run(jobs, Work()).done == 6
    WHOLE["no_outputs"](archive)
    (archive / "deep/05.srt").unlink()
    summary = run(jobs, Work())
    assert (summary.done, summary.skipped, summary.failed, summary.unfinished) == (1, 1, 1, 4)
    failed = [report for report in summary.reports if report.status == "failed"]
    assert failed[0].path == str(archive / MANIFEST)
    assert "4 videos are left out" in str(failed[0].error)


def test_a_search_for_results_goes_on_after_a_damaged_record(results: Path) -> None:
    WHOLE["no_entries"](results)
    found = find_stored([results])
    assert [file.path.name for file in found.files] == ["film.json"]
    assert [name for name, _ in found.missing] == [str(results / MANIFEST)]
    said = command("convert", str(results), "--to", "vtt")
    assert (said.exit_code, (results / "film.vtt").is_file()) == (1, True)


def test_results_are_packed_and_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unpacked(packed("é")) == "é"
    assert unpacked(packed(None)) is None
    monkeypatch.setattr("vidground.archive.manifest_rows.MOST_DOCUMENT_BYTES", 1000)
    assert unpacked(packed("a" * 1000)) == "a" * 1000
    with pytest.raises(BadValueError, match="more than 1,000 bytes"):
        unpacked(packed("a" * 1001))


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a folder"):
        rebuild_record(tmp_path / "none")
