"""Public annotation files become samples that validate; what cannot be used is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers.annotation_files import sft_sample, turns, write
from tests.helpers.video_files import make_video
from vidground.cli.data import data
from vidground.errors import InputError
from vidground.language.prompts import captioning_question, grounding_question
from vidground.training.data.annotations import load_annotations
from vidground.training.data.conversion.datasets import convert_dataset

CHARADES = "AAA 1.0 3.5##a person sits down.\nAAA 9 4##rises\nBBB 50.0 60.0##late\n"
DURATIONS = "id,subject,length\nAAA,x,8.0\nBBB,y,30.5\n"
ACTIVITYNET = {
    "v_1": {"duration": 20.0, "timestamps": [[10, 25], [0, 4.5]], "sentences": ["Rain.", "A cat "]},
    "v_2": {"duration": 5.0, "timestamps": [[6, 7]], "sentences": ["After the end."]},
}
QVHIGHLIGHTS = {
    "qid": 1,
    "query": "A chef cooks.",
    "duration": 150,
    "vid": "x_60.0_210.0",
    "relevant_windows": [[20, 30], [2, 8]],
    "saliency_scores": [[1, 2, 3]],
}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(data, ["convert", *map(str, arguments)])


def test_charades_sta(tmp_path: Path) -> None:
    source, table = tmp_path / "train.txt", tmp_path / "train.csv"
    source.write_text(CHARADES)
    table.write_text(DURATIONS)
    done = call("charades-sta", source, tmp_path / "sft.json", "--durations", table)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [
        "1 left out because they lie wholly outside their videos",
        f"{tmp_path / 'sft.json'}: 2 samples",
    ]
    first, second = load_annotations([tmp_path / "sft.json"])
    question = grounding_question("a person sits down.", domain="indoor activities")
    assert first.question == f"<image>\n{question}"
    assert (first.task, first.source, first.video) == ("tvg", "charades_sta", "AAA.mp4")
    assert first.response.text == "<evi></evi>The event happens in <evi>."
    assert (first.response.tgt, first.duration_s) == ((1.0, 3.5), 8.0)
    assert second.response.tgt == (4.0, 8.0)  # swapped, and clipped to the video


def test_durations_are_measured_where_no_table_says_them(tmp_path: Path) -> None:
    source = tmp_path / "train.txt"
    source.write_text(CHARADES + "CCC 1 2##x\n")
    make_video(tmp_path / "AAA.mkv", frames=40, fps=5)
    (tmp_path / "CCC.mp4").write_bytes(b"no video")
    done = call("charades-sta", source, tmp_path / "a.jsonl", "--video-root", tmp_path)
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()
    assert "CCC.mp4" in lines[0]
    assert lines[1:] == [
        "missing: BBB.mp4",
        "1 left out because their videos are missing",
        "1 left out because the durations of their videos are unknown",
        f"{tmp_path / 'a.jsonl'}: 2 samples",
    ]
    first, _ = load_annotations([tmp_path / "a.jsonl"], video_root=tmp_path)
    assert (first.video, first.duration_s) == ("AAA.mkv", pytest.approx(8.0))


def test_activitynet_captions(tmp_path: Path) -> None:
    source = tmp_path / "train.json"
    source.write_text(json.dumps(ACTIVITYNET))
    dense = convert_dataset("activitynet-captions", source)
    (sample,) = dense.samples
    assert sample["conversations"] == turns(
        f"<image>\n{captioning_question()}", "<evi><evi></evi><evi>, A cat. <evi>, Rain."
    )
    assert (sample["task"], sample["tgt"]) == ("dvc", [0.0, 4.5, 10.0, 20.0])
    assert dense.dropped == {"they lie wholly outside their videos": 1}
    grounding = convert_dataset("activitynet-captions", source, task="tvg")
    assert [s["tgt"] for s in grounding.samples] == [[10.0, 20.0], [0.0, 4.5]]
    assert grounding_question("Rain.") in grounding.samples[0]["conversations"][0]["value"]


def test_qvhighlights(tmp_path: Path) -> None:
    source = tmp_path / "train.jsonl"
    source.write_text(json.dumps(QVHIGHLIGHTS) + "\n\n")
    (sample,) = convert_dataset("qvhighlights", source).samples
    assert (sample["video"], sample["tgt"]) == ("x_60.0_210.0.mp4", [2.0, 8.0, 20.0, 30.0])
    answer = sample["conversations"][1]["value"]
    assert answer == "<evi><evi></evi>The event happens in <evi>, and <evi>."


def test_et_instruct(tmp_path: Path) -> None:
    good = sft_sample(conversations=turns("When?", "In <vid> - <vid>."), tgt=[2, 4])
    bad = sft_sample(conversations=turns("When?", "In <vid>."), tgt=[2, 4])
    late = sft_sample(conversations=turns("When?", "In <vid> - <vid>."), tgt=[30, 40])
    source = write(tmp_path / "vid.json", good, bad, "text", late, good | {"video": "gone.mp4"})
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.webm").touch()
    found = convert_dataset("et-instruct", source, videos=tmp_path)
    (sample,) = found.samples
    assert sample["video"] == "clips/a.webm"
    assert sample["conversations"][1]["value"] == "<evi></evi>In <evi>."
    assert [p.removeprefix(f"{source}: ").split(":")[0] for p in found.problems] == [
        "sample 1",
        "sample 2",
        "sample 3",
    ]
    assert found.missing_videos == ("gone.mp4",)
    assert found.dropped == {"their videos are missing": 1}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("charades-sta", "AAA 1 2 no sentence", "line 1 is 'AAA"),
        ("activitynet-captions", "[]", "holds no videos"),
        ("activitynet-captions", "{", "is not JSON"),
        ("activitynet-captions", '{"v": {"duration": 0}}', "v: duration is 0"),
        (
            "activitynet-captions",
            '{"v": {"duration": 9, "timestamps": [[1, 2]], "sentences": []}}',
            "1 timestamps and 0 sentences",
        ),
        ("qvhighlights", '{"vid": "a", "query": "b"}', "line 1: has no relevant_windows"),
        ("qvhighlights", "\n", "holds no queries"),
        ("et-instruct", "{}", "annotations are a list"),
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, name: Any, text: str, reason: str
) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=reason):
        convert_dataset(name, tmp_path / "a")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "b.json"
    source.write_text(CHARADES)
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n")
    for arguments, reason in (
        (("charades-sta", source, out), "give --durations or --video-root"),
        (("qvhighlights", source, out, "--durations", table), "leave out --durations"),
        (("charades-sta", source, out, "--durations", table), "no columns id and length"),
        (("charades-sta", source, out, "--durations", table, "--task", "dvc"), "no task 'dvc'"),
        (("charades-sta", source, source, "--durations", table), "--overwrite"),
    ):
        refused = call(*arguments)
        assert refused.exit_code == 2, refused.output
        assert reason in refused.stderr
    assert not out.exists()
