import os
from pathlib import Path

import pytest

from vidground.archive.inputs import InputVideo
from vidground.archive.outputs import Job, is_file, plan_outputs, require_writable
from vidground.errors import FormatError, InputError


def videos(*names):
    return [InputVideo(Path(name), Path(name)) for name in names]


def planned(*names, formats=("srt",), **options):
    jobs = plan_outputs(videos(*names), formats, **options)
    return [[str(output) for output in job.outputs.values()] for job in jobs]


def test_results_lie_beside_their_videos_in_the_order_of_formats():
    (job,) = plan_outputs(videos("a/match.mp4"), ("json", "srt"))
    outputs = {"json": Path("a/match.json"), "srt": Path("a/match.srt")}
    assert job == Job(Path("a/match.mp4"), outputs, folder=Path("a"), name="match")
    assert list(job.outputs) == ["json", "srt"]
    assert job.only(["srt"]).outputs == {"srt": Path("a/match.srt")}


def test_files_for_editing_programs_end_as_those_programs_expect():
    formats = ("edl", "resolve-edl", "premiere-xml", "youtube")
    assert planned("a/match.mp4", formats=formats, infix="query") == [
        [
            "a/match.query.edl",
            "a/match.query.resolve.edl",
            "a/match.query.premiere.xml",
            "a/match.query.youtube.txt",
        ]
    ]
    with pytest.raises(InputError, match=r"would both write 'a/match\.resolve\.edl'"):
        planned("a/match.resolve.mp4", "a/match.mp4", formats=("edl", "resolve-edl"))


def test_or_in_a_tree_that_mirrors_the_inputs():
    inputs = [
        InputVideo(Path("/tv/a/x.mp4"), Path("a/x.mp4")),
        InputVideo(Path("/tv/b/x.mp4"), Path("b/x.mp4")),
    ]
    jobs = plan_outputs(inputs, ("srt",), folder="out", infix="query")
    assert [(job.folder, job.name) for job in jobs] == [
        (Path("out"), "a/x.query"),
        (Path("out"), "b/x.query"),
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


def test_a_folder_or_a_device_is_no_result_that_exists(tmp_path):
    (tmp_path / "x.srt").mkdir()
    os.mkfifo(tmp_path / "x.json")
    for name in ("x.srt", "x.json"):
        with pytest.raises(FormatError, match="a folder or a device has this name"):
            is_file(tmp_path / name)
    assert not is_file(tmp_path / "x.txt")
    (tmp_path / "x.txt").touch()  # an empty file is the result of a video without events
    assert is_file(tmp_path / "x.txt")


def test_what_cannot_be_written_is_found_before_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="is not a folder"):
        require_writable(tmp_path / "file" / "x.srt")
    with pytest.raises(FormatError, match="File name too long"):
        require_writable(tmp_path / f"{'x' * 252}.srt")
    require_writable(tmp_path / "not" / "there" / "yet.json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FormatError, match="no permission"):
        require_writable(tmp_path / "new" / "x.srt")
