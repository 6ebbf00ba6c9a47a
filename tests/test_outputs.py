import os
from pathlib import Path

import pytest

from vidground.errors import FormatError, InputError
from vidground.inputs import InputVideo
from vidground.outputs import Job, plan_outputs, require_writable, still_to_write


def videos(*names):
    return [InputVideo(Path(name), Path(name)) for name in names]


def planned(*names, formats=("srt",), **options):
    jobs = plan_outputs(videos(*names), formats, **options)
    return [[str(output) for output in job.outputs.values()] for job in jobs]


def test_results_lie_beside_their_videos_in_the_order_of_formats():
    (job,) = plan_outputs(videos("a/match.mp4"), ("json", "srt"))
    assert job == Job(
        Path("a/match.mp4"), {"json": Path("a/match.json"), "srt": Path("a/match.srt")}
    )
    assert list(job.outputs) == ["json", "srt"]


def test_or_in_a_tree_that_mirrors_the_inputs():
    inputs = [
        InputVideo(Path("/tv/a/x.mp4"), Path("a/x.mp4")),
        InputVideo(Path("/tv/b/x.mp4"), Path("b/x.mp4")),
    ]
    jobs = plan_outputs(inputs, ("srt",), folder="out")
    assert [str(job.outputs["srt"]) for job in jobs] == ["out/a/x.srt", "out/b/x.srt"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("match.mp4", "match"),
        ("match.MP4", "match"),
        ("match.final.mkv", "match.final"),
        ("part 1. The start", "part 1. The start"),
        ("cam.2024-01-01", "cam.2024-01-01"),
        ("no_suffix", "no_suffix"),
        (".mp4", ".mp4"),
        ("%03d [x]:\n-.mp4", "%03d [x]:\n-"),
    ],
)
def test_only_the_suffix_of_a_video_is_replaced(name, stem):
    assert planned(name) == [[f"{stem}.srt"]]
    assert planned(name, infix="query", formats=("json",)) == [[f"{stem}.query.json"]]
    assert planned(name, keep_suffix=True) == [[f"{name}.srt"]]


def test_two_videos_with_one_result_are_refused_and_keeping_suffixes_helps():
    with pytest.raises(InputError) as caught:
        planned("a/match.mp4", "a/match.mkv")
    for part in ("'a/match.mp4'", "'a/match.mkv'", "'a/match.srt'", "--keep-suffix"):
        assert part in str(caught.value)
    kept = planned("a/match.mp4", "a/match.mkv", keep_suffix=True)
    assert kept == [["a/match.mp4.srt"], ["a/match.mkv.srt"]]


def test_same_names_from_two_folders_are_refused_and_mirroring_helps():
    clash = [InputVideo(Path(f"{folder}/x.mp4"), Path("x.mp4")) for folder in "abc"]
    with pytest.raises(InputError, match=r"1 more such clashes.*--relative-to"):
        plan_outputs(clash, ("srt",), folder="out")
    assert planned("a/x.mp4", "b/x.mp4", folder="out") == [["out/a/x.srt"], ["out/b/x.srt"]]


def test_clashes_are_seen_through_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    with pytest.raises(InputError, match="both write"):
        planned(f"{tmp_path}/real/x.mp4", f"{tmp_path}/alias/x.mkv")


def test_no_result_takes_the_place_of_an_input_or_a_reserved_file(tmp_path):
    with pytest.raises(InputError, match=r"of 'a\.mp4' would take the place of the input 'a\.srt'"):
        planned("a.mp4", "a.srt")
    (tmp_path / "b.srt").symlink_to("b.mp4")
    with pytest.raises(InputError, match="would take the place of the input"):
        planned(f"{tmp_path}/b.mp4")
    with pytest.raises(InputError, match=r"the file 'a\.json'"):
        planned("a.mp4", formats=("json",), reserved=["a.json"])
    with pytest.raises(InputError, match=r"'a\.mp4' would take the place of the input 'a\.mp4'"):
        planned("a.mp4", reserved=["a.mp4"])


def job_of(folder, *names):
    return Job(Path("x.mp4"), {name: folder / f"x.{name}" for name in names})


def test_only_missing_outputs_are_left_to_write(tmp_path):
    job = job_of(tmp_path, "srt", "json")
    assert still_to_write(job) == job
    (tmp_path / "x.srt").touch()  # an empty file is the result of a video without events
    assert still_to_write(job) == job_of(tmp_path, "json")
    assert still_to_write(job, overwrite=True) == job
    (tmp_path / "x.json").touch()
    assert not still_to_write(job).outputs
    assert still_to_write(Job(Path("x.mp4"), {"srt": None})).outputs == {"srt": None}


def test_a_folder_or_a_device_is_no_result_that_exists(tmp_path):
    (tmp_path / "x.srt").mkdir()
    os.mkfifo(tmp_path / "x.json")
    for name in ("srt", "json"):
        for overwrite in (False, True):
            with pytest.raises(FormatError, match="a folder or a device has this name"):
                still_to_write(job_of(tmp_path, name), overwrite=overwrite)


def test_what_cannot_be_written_is_found_before_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="is no folder"):
        still_to_write(job_of(tmp_path / "file", "srt"))
    with pytest.raises(FormatError, match="File name too long"):
        still_to_write(Job(Path("x"), {"srt": tmp_path / f"{'x' * 252}.srt"}))
    require_writable(tmp_path / "not" / "there" / "yet.json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FormatError, match="no permission"):
        still_to_write(job_of(tmp_path / "new", "srt"))
