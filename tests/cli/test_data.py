"""`vidground data`: what is printed where, which files appear, and the exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.annotation_files import fpo_sample, sft_sample, write
from tests.helpers.video_files import make_video
from vidground.cli.data import data
from vidground.training.data.annotations import AnnotationError, load_annotations


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


def test_sound_annotations(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", sft_sample(), sft_sample(duration=400.0))
    done = call("validate", file)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "2 samples of 1 video in 1 file can be trained on",
        "1 of them left out by default: videos longer than 350 s",
        "no problems",
    ]


def test_the_kind_of_samples_is_seen_in_the_first_one(tmp_path: Path) -> None:
    pairs = write(tmp_path / "b.json", fpo_sample())
    for arguments in ((pairs,), ("--kind", "fpo", pairs), (tmp_path / "gone.json", pairs)):
        done = call("validate", *arguments)
        assert "1 sample of 1 video in" in done.stderr, done.output
    assert call("validate", "--kind", "sft", pairs).exit_code == 1


def test_every_problem_is_a_line(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", sft_sample(), sft_sample(duration=0), sft_sample(task="\n"))
    second = write(tmp_path / "b.json", fpo_sample())
    done = call("validate", first, second, tmp_path / "no\nfile.json")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(first),
        str(first),
        str(second),
        f"{tmp_path}/no\\nfile.json",
    ]
    assert "sample 1: duration is 0" in lines[0]
    assert "sample 2: task is '\\n'" in lines[1]
    assert done.stderr.endswith("\n4 problems\n")


def test_videos_are_opened_on_request(tmp_path: Path) -> None:
    make_video(tmp_path / "short.mp4", frames=10, fps=5)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    samples = [sft_sample(video=name) for name in ("short.mp4", "none.mp4", "bad.mp4")]
    file = write(tmp_path / "a.json", *samples)
    assert call("validate", file).exit_code == 0
    found = call("validate", file, "--video-root", tmp_path)
    assert [line.split(": ")[1] for line in found.stdout.splitlines()] == ["sample 1"]
    opened = call("validate", file, "--video-root", tmp_path, "--videos")
    assert opened.exit_code == 1
    lines = opened.stdout.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["sample 0", "sample 1", "sample 2"]
    assert "lasts 2.0 s" in lines[0]
    assert "cannot be read" in lines[2]
    assert call("validate", file, "--videos").exit_code == 2


def test_a_toy_set_is_made_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = call("toy", "--out", out, "--videos", 2, "--seed", 1, "--size", 32)
    assert done.exit_code == 0, done.output
    assert (done.stdout, done.stderr) == ("", f"{out}: 2 videos\n")
    assert call("validate", out / "sft.json", "--video-root", out, "--videos").exit_code == 0
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("videos/*")}
    assert call("toy", "--out", out, "--videos", 3, "--seed", 1, "--size", 32).exit_code == 0
    second = {path.name: path.stat().st_mtime_ns for path in out.glob("videos/*")}
    assert len(second) == 3
    assert first.items() <= second.items()
    refused = call("toy", "--out", out, "--videos", 3, "--seed", 2, "--size", 32)
    assert refused.exit_code == 2
    assert "another seed" in refused.stderr
    assert call("toy", "--out", out, "--videos", 1).exit_code == 2


def test_pairs_are_made_of_right_answers(tmp_path: Path) -> None:
    source = write(tmp_path / "sft.json", sft_sample(duration=60.0), sft_sample(video="b.mp4"))
    target = tmp_path / "fpo.json"
    done = call("perturb", source, target, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    pairs = load_annotations([target], kind="fpo")
    assert done.stderr == f"{target}: {len(pairs)} samples with rejected answers, made of 2\n"
    assert len(pairs) >= 1
    assert pairs[0].response == load_annotations([source])[0].response

    refused = call("perturb", source, target)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    before = target.read_bytes()
    assert call("perturb", source, target, "--seed", 5, "--overwrite").exit_code == 0
    assert target.read_bytes() == before
    assert call("perturb", source, target, "--seed", 6, "--overwrite").exit_code == 0
    assert target.read_bytes() != before


def test_wrong_annotations_are_not_perturbed(tmp_path: Path) -> None:
    source = write(tmp_path / "sft.json", sft_sample(tgt=[1, 2]))
    refused = call("perturb", source, tmp_path / "fpo.json")
    assert isinstance(refused.exception, AnnotationError)
    assert not (tmp_path / "fpo.json").exists()
    good = write(tmp_path / "sft.json", sft_sample())
    assert call("perturb", good, tmp_path / "fpo.json", "--max-iou", 2).exit_code == 2


def test_accents_stay_readable(tmp_path: Path) -> None:
    source = tmp_path / "sft.json"
    sample = sft_sample(duration=60.0)
    sample["conversations"][0]["value"] = "Où?"
    source.write_text(json.dumps([sample]), encoding="utf-8")
    assert call("perturb", source, tmp_path / "fpo.json").exit_code == 0
    assert "Où?" in (tmp_path / "fpo.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["", "validate", "convert", "toy", "perturb", "pairs"])
def test_help_needs_no_torch(command: str) -> None:
    program = (
        "import sys; from vidground.cli.data import data\n"
        f"try: data([*{command.split()!r}, '--help'])\n"
        "finally: assert not {'torch', 'transformers', 'av'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_missing_videos_and_repeated_samples_are_reported(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a.mkv").touch()
    names = ("a.mp4", "gone.mp4", "gone.mp4", "a.avi")
    samples = [sft_sample(video=name, duration=20.0 + i % 3) for i, name in enumerate(names)]
    file = write(tmp_path / "a.json", *samples)
    done = call(
        "validate", file, "--video-root", tmp_path / "one", "--video-root", tmp_path / "two"
    )
    assert done.exit_code == 1
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == [
        "sample 1",
        "sample 2",
        "sample 3",
    ]
    assert "repeats sample 0" in done.stdout
    assert done.stderr.splitlines()[-2:] == ["1 problem", "2 samples of 1 missing video"]
