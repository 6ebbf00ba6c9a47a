"""`vidground eval run`: every benchmark from a folder of its published form to a table."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers import benchmark_folders as folders
from tests.helpers.training_runs import tiny_model
from vidground.cli.benchmark_run import ROW_NAMES
from vidground.cli.main import cli
from vidground.cli.score import BENCHMARK_NAMES
from vidground.training.evaluation.benchmarks.catalog import BENCHMARKS
from vidground.training.evaluation.benchmarks.published import ROWS
from vidground.training.toy.dataset import write_dataset

FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "etbench": folders.etbench,
    "charades": folders.charades,
    "youcook2": folders.youcook2,
    "mvbench": folders.mvbench,
    "videomme": folders.videomme,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables that a command sets are undone."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, videos=2, seed=3)
    return folder


def run(benchmark: str, *arguments: str | Path | int) -> Result:
    few = ("--device", "cpu", "--bootstrap", 20)
    return CliRunner().invoke(cli, ["eval", "run", benchmark, *map(str, (*few, *arguments))])


@pytest.mark.parametrize("benchmark", FORMS)
def test_a_folder_of_the_published_form_becomes_a_table_beside_published_results(
    benchmark: str, toy: Path, tmp_path: Path
) -> None:
    data, out = FORMS[benchmark](toy, tmp_path / "data"), tmp_path / "out"
    done = run(benchmark, "--model", "toy", "--data", data, "--out", out)
    assert done.exit_code == 0, done.output
    table = (out / "table.md").read_text()
    assert done.stdout == table
    assert table.startswith("This run beside published results")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["published"]["row"] == "d2vlm-fpo"
    columns = {item["column"]: item for item in metrics["published"]["columns"]}
    for item in columns.values():
        if item["ours"] is not None and item["published"] is not None:
            assert item["difference"] == pytest.approx(item["ours"] - item["published"])
            assert item["low"] <= item["ours"] <= item["high"]
    expected = {
        "etbench": ("tvg F1", 60.2),
        "charades": ("R@0.5", 50.3),
        "youcook2": ("F1", 26.4),
        "mvbench": ("Acc", None),
        "videomme": ("Acc", None),
    }
    name, published = expected[benchmark]
    assert columns[name]["published"] == published
    assert 0 <= columns[name]["ours"] <= 100
    if benchmark in ("etbench", "charades"):  # the others ask what it was not trained on
        assert columns[name]["ours"] > 25

    again = run(benchmark, "--model", "toy", "--data", data, "--out", out)
    assert again.exit_code == 0, again.output
    assert f"{out}: 0 answered, " in again.stderr
    assert again.stdout == table


def test_classes_of_questions_are_reported(toy: Path, tmp_path: Path) -> None:
    for benchmark, kind, names in (
        ("mvbench", "task", {"Action Sequence", "Moving Count"}),
        ("videomme", "duration", {"short", "long"}),
    ):
        data = FORMS[benchmark](toy, tmp_path / benchmark)
        out = tmp_path / f"{benchmark}-out"
        done = run(benchmark, "--model", "toy", "--data", data, "--out", out, "--bootstrap", 0)
        assert done.exit_code == 0, done.output
        groups = json.loads((out / "metrics.json").read_text())["groups"]
        assert set(groups[kind]) == names
        assert f"| {kind} | Acc | questions |" in done.stdout


def test_several_processes_give_the_answers_of_one(toy: Path, tmp_path: Path) -> None:
    data = folders.charades(toy, tmp_path / "data")
    shutil.copy(data / "Charades_v1" / "3MSZA.mp4", data / "Charades_v1" / "OTHER.mp4")
    with (data / "charades_sta_test.txt").open("a") as file:
        file.write("OTHER 1 5##a red circle moves left.\n")
    arguments = ("--model", "toy", "--data", data)
    for out, extra in ((tmp_path / "one", ()), (tmp_path / "two", ("--processes", 2))):
        done = run("charades", *arguments, "--out", out, *extra)
        assert done.exit_code == 0, done.output
        assert "0 were there, 0 failed" in done.stderr
    one, two = (tmp_path / name / "predictions.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert not (tmp_path / "two" / "shards").exists()


def test_data_are_checked_before_a_model_is_looked_for(toy: Path, tmp_path: Path) -> None:
    data = folders.charades(toy, tmp_path / "data")
    lines = (data / "charades_sta_test.txt").read_text()
    (data / "charades_sta_test.txt").write_text(lines + "GONE1 1 2##a person sits.\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for benchmark, arguments, reason in (
        ("etbench", (), "E.T. Bench needs --data DIR, a folder with annotations: annotations/evi"),
        ("etbench", ("--data", empty), "has no annotations; needed are annotations: "),
        ("youcook2", ("--data", tmp_path / "none"), "is not a folder"),
        ("charades", ("--data", data), "1 video is missing (GONE1.mp4), with 1 question"),
        ("charades", ("--data", data, "--skip-missing", "--limit", 0), "limit is 0"),
    ):
        refused = run(benchmark, "--model", "no/such-model", "--offline", *arguments)
        assert refused.exit_code == 2, refused.output
        assert reason in refused.stderr
    shutil.rmtree(data / "Charades_v1")
    refused = run("charades", "--model", "no/such-model", "--offline", "--data", data)
    assert "has no folder of videos" in refused.stderr


def test_missing_videos_can_be_left_out(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folders.charades(toy, tmp_path / "data")
    lines = (data / "charades_sta_test.txt").read_text().splitlines()
    (data / "charades_sta_test.txt").write_text(f"{lines[0]}\nGONE1 1 2##a person sits.\n")
    monkeypatch.chdir(tmp_path)
    done = run("charades", "--model", "toy", "--data", data, "--skip-missing")
    assert done.exit_code == 0, done.output
    assert "1 video is missing (GONE1.mp4), with 1 question, left out" in done.stderr
    assert json.loads((tmp_path / "charades-toy" / "metrics.json").read_text())["queries"] == 1


def test_another_published_row_can_be_chosen(toy: Path, tmp_path: Path) -> None:
    data, out = folders.etbench(toy, tmp_path / "data"), tmp_path / "out"
    done = run("etbench", "--model", "toy", "--data", data, "--out", out, "--published", "etchat")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("This run beside published results, official rules")
    assert "| score | ours | 95 % interval | E.T. Chat |" in done.stdout


def test_both_ways_of_saying_times_pass_one_benchmark(toy: Path, tmp_path: Path) -> None:
    """D2VLM and E.T. Chat answer the same questions, whose times are `<vid>` tokens."""
    data = folders.etbench_vid(toy, tmp_path / "data")
    tiny_model(time_tokens="matching").save_pretrained(tmp_path / "tiny-etchat")
    asked = {}
    for model, row in (("toy", "d2vlm-fpo"), (tmp_path / "tiny-etchat", "etchat")):
        out = tmp_path / f"out-{row}"
        few = ("--max-new-tokens", 32)
        done = run("etbench", "--model", model, "--data", data, "--out", out, *few)
        assert done.exit_code == 0, done.output
        assert json.loads((out / "metrics.json").read_text())["published"]["row"] == row
        lines = [json.loads(x) for x in (out / "predictions.jsonl").read_text().splitlines()]
        asked[row] = {(line["task"], line["idx"]) for line in lines}
        assert not any("error" in line for line in lines)
        staged = row != "etchat"
        assert {line.get("staged", True) for line in lines} == {staged}
        assert {"</evi>" in line["a"] for line in lines} == {staged}
    assert asked["d2vlm-fpo"] == asked["etchat"]
    assert ("rvq", 0) in asked["etchat"]


def test_the_names_that_help_lists_are_those_there_are() -> None:
    assert set(BENCHMARK_NAMES) == set(BENCHMARKS)
    assert set(ROW_NAMES) == set(ROWS)
