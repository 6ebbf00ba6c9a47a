"""`vidground eval`: from a small toy set and a tiny model to scores, tables and plots."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers.paths import GOLDEN
from tests.helpers.training_runs import tiny_model
from vidground.cli.main import cli
from vidground.training.toy.dataset import write_dataset

PREDICTIONS = GOLDEN / "etbench" / "predictions.json"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables that a command sets are undone."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy set with one film for testing, and a tiny model."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, videos=2, seed=3, size=32)
    tiny_model().save_pretrained(folder / "model")
    return folder


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)])


def predict(data: Path, out: Path, *arguments: str | int) -> Result:
    files = ("--annotations", data / "etbench", "--videos", data, "--out", out)
    few = ("--max-new-tokens", 6, "--device", "cpu")
    return call("predict", "--model", data / "model", *files, *few, *arguments)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_from_questions_to_scores(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    absent = ("--absent", str(data / "absent.json"))
    first = predict(data, out, "--tasks", "tvg,dvc", "--limit", 1)
    assert first.exit_code == 0, first.output
    assert first.stdout == ""
    loading, counts = first.stderr.splitlines()
    assert loading.startswith(f"Loading {data / 'model'} (")
    assert counts == f"{out}: 2 answered, 0 were there, 0 failed"
    done = predict(data, out, *absent, "--batch-size", 3)  # batches are no setting of a result
    assert done.exit_code == 0, done.output
    asked = [s for file in (data / "etbench").glob("*.json") for s in json.loads(file.read_text())]
    queries = json.loads((data / "absent.json").read_text())
    new = len(asked) + len(queries) - 2
    counts = done.stderr.splitlines()[-1]
    assert counts == f"{out}: {new} answered, 2 were there, 0 failed"
    lines = lines_of(out / "predictions.jsonl")
    assert {(line["task"], line["idx"]) for line in lines} == {(s["task"], s["idx"]) for s in asked}
    assert all(isinstance(line["a"], str) and "moments" in line for line in lines)
    assert len(lines_of(out / "absent.jsonl")) == len(queries)

    scored = call("score", out, "--bootstrap", 20, "--no-similarity")
    assert scored.exit_code == 0, scored.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["samples"], metrics["asked"], metrics["failures"]) == (len(asked),) * 2 + (0,)
    assert metrics["made_with"]["model"] == str(data / "model")
    assert "dvc" in metrics["facts"]
    assert set(metrics["official"]["tasks"]) == {s["task"] for s in asked}
    assert scored.stdout == (out / "table.md").read_text()
    assert "Facts of the captions" in scored.stdout


def test_other_settings_need_another_folder(data: Path, tmp_path: Path) -> None:
    few = ("--tasks", "tvg", "--limit", 1)
    assert predict(data, tmp_path, *few).exit_code == 0
    before = (tmp_path / "predictions.jsonl").read_bytes()
    other = predict(data, tmp_path, *few, "--option-penalty", 1.0)
    assert other.exit_code == 1
    assert "option_penalty 1.2, now 1.0" in other.stderr
    assert (tmp_path / "predictions.jsonl").read_bytes() == before
    assert predict(data, tmp_path, *few, "--option-penalty", 1.0, "--overwrite").exit_code == 0


def test_a_video_that_fails_gives_exit_code_one(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tvg.json"
    (sample, *_) = json.loads((data / "etbench" / "tvg.json").read_text())
    file.write_text(json.dumps([sample | {"video": "gone\n.mp4"}, sample | {"idx": 1}]))
    out = tmp_path / "out"
    done = predict(data, out, "--annotations", str(file))  # the last one given counts
    assert done.exit_code == 1
    _, failure, counts = done.stderr.splitlines()  # the first says what is loaded
    assert failure.startswith("failed: ")
    assert "gone\\n.mp4" in failure
    assert counts == f"{out}: 1 answered, 0 were there, 1 failed"
    scored = call("score", out, "--bootstrap", 0, "--rules", "strict")
    assert scored.exit_code == 0, scored.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["samples"], metrics["failures"]) == (2, 1)
    assert "official" not in metrics

    (out / "predictions.jsonl").write_text("")
    header = json.loads((out / "run.json").read_text())
    assert header["asked"] == {"samples": 2, "absent": 0}


def test_wrong_usage_is_reported_before_a_model_is_loaded(data: Path, tmp_path: Path) -> None:
    for arguments, reason in (
        (("--tasks", "tvgg"), "task is 'tvgg'"),
        (("--limit", 0), "limit is 0"),
        (("--annotations", str(tmp_path)), "holds no samples"),
        (("--fps", 0), "fps is 0"),
        (("--option-penalty", 0), "repetition_penalty is 0"),
    ):
        refused = predict(data, tmp_path / "out", *arguments)
        assert refused.exit_code == 2, refused.output
        assert reason in refused.stderr
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_says_so(data: Path, tmp_path: Path) -> None:
    assert predict(data, tmp_path, "--tasks", "tvg,gvq", "--limit", 1).exit_code == 0
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text()[:-5])
    scored = call("score", tmp_path, "--bootstrap", 0)
    assert scored.exit_code == 0, scored.output
    note = "1 of 2 samples have predictions, and only these are scored"
    assert f"note: {note}" in scored.stderr
    assert note in json.loads((tmp_path / "metrics.json").read_text())["notes"][0]


def test_predictions_of_other_programs_are_scored(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    scored = call("score", PREDICTIONS, "--out", out, "--bootstrap", 0, "--no-similarity")
    assert scored.exit_code == 0, scored.output
    assert "E.T. Bench, strict rules, in percent" in scored.stdout
    merged = json.loads((out / "metrics.json").read_text())["strict"]["merged"]
    assert 0 < merged["F1(gnd)"] < 1
    assert call("score", PREDICTIONS, "--out", out, "--threshold", 2).exit_code == 2


def test_help_of_the_group_shows_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand there: the data set's folder is called like the bundled model."""
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(cli, ["eval", "--help"]).stdout.splitlines()
    commands = [line.split()[1:] for line in shown if line.strip().startswith("vidground ")]
    assert [command[:2] for command in commands] == [
        ["data", "toy"],
        ["eval", "run"],
        ["eval", "predict"],
        ["eval", "score"],
    ]
    for command in commands:
        few = {"data": ["--size", "64"], "run": ["--limit", "1"], "predict": ["--limit", "1"]}
        extra = few.get(command[0]) or few.get(command[1], [])
        command = ["2" if word == "20" else word for word in command]
        done = CliRunner().invoke(cli, [*command, *extra])
        assert done.exit_code == 0, done.output
    assert "toy" in json.loads(Path("results/run.json").read_text())["settings"]["model"]


def responses_of(path: Path, *, named: bool) -> Path:
    """Golden predictions of one task, without the fields of their samples."""
    fields = ("task", "source", "idx", "a") if named else ("idx", "a")
    lines = [item for item in json.loads(PREDICTIONS.read_text()) if item["task"] == "epm"]
    path.write_text("\n".join(json.dumps({key: item[key] for key in fields}) for item in lines))
    return path


def annotations_of(path: Path) -> Path:
    lines = [item for item in json.loads(PREDICTIONS.read_text()) if item["task"] == "epm"]
    samples = [{key: value for key, value in item.items() if key != "a"} for item in lines]
    path.write_text(json.dumps([{"q": "when?"} | sample for sample in samples]))
    return path


@pytest.mark.parametrize("named", [True, False])
def test_predictions_are_scored_against_annotations_given_separately(
    tmp_path: Path, named: bool
) -> None:
    responses = responses_of(tmp_path / "responses.jsonl", named=named)
    annotations = annotations_of(tmp_path / "annotations.json")
    options = ("--bootstrap", 0, "--out", tmp_path / "out")
    assert call("score", responses, *options).exit_code == 1  # alone they lack their targets
    scored = call("score", responses, "--annotations", annotations, *options)
    assert scored.exit_code == 0, scored.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    golden = json.loads((GOLDEN / "etbench" / "expected.json").read_text())
    for rules in ("official", "strict"):
        (expected,) = golden[rules]["epm"].values()
        assert metrics[rules]["tasks"]["epm"]["F1"] == pytest.approx(expected["F1"], abs=1e-5)

    answered = responses.read_text().splitlines()
    responses.write_text("\n".join(answered[:-2]))
    scored = call("score", responses, "--annotations", annotations, *options)
    assert "2 samples of" in scored.stderr
    assert f"only the other {len(answered) - 2} are scored" in scored.stderr


def test_shards_make_one_run(data: Path, tmp_path: Path) -> None:
    few = ("--tasks", "tvg,dvc", "--limit", 2)
    assert predict(data, tmp_path / "whole", *few).exit_code == 0
    out = tmp_path / "shards"
    for shard in ("1/2", "2/2"):
        done = predict(data, out, *few, "--shard", shard)
        assert done.exit_code == 0, done.output
    assert not (out / "predictions.jsonl").exists()
    for folder in (out, tmp_path / "whole"):
        assert call("score", folder, "--bootstrap", 0, "--no-similarity").exit_code == 0
    tables = [(folder / "table.md").read_text() for folder in (out, tmp_path / "whole")]
    assert tables[0] == tables[1]
    merged = predict(data, out, *few)
    assert "0 answered, " in merged.stderr
    for name in ("predictions.jsonl", "run.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for arguments, reason in (
        (("--shard", "3/2"), "shard is 3/2; it must be one of 1/2 to 2/2"),
        (("--shard", "half"), "must be like 2/8"),
        (("--shard", "1/2", "--processes", 2), "cannot be combined"),
        (("--shard", "1/2", "--overwrite"), "would remove other parts' answers"),
    ):
        refused = predict(data, out, *arguments)
        assert refused.exit_code == 2, refused.output
        assert reason in refused.stderr


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    moments = [[0.0, 10.0, 0.9]]
    line = {"task": "tvg", "source": "s", "idx": 0, "video": "v.mp4", "tgt": [0, 9]}
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(line | {"a": "</evi> 0 - 10", "moments": moments}) + "\n")
    assert call("score", file, "--bootstrap", 0).exit_code == 0
    for name in ("recall_official", "recall_strict", "reliability"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_missing_packages_disable_only_what_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("matplotlib.figure", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    scored = call("score", PREDICTIONS, "--out", tmp_path, "--bootstrap", 0)
    assert scored.exit_code == 0, scored.output
    notes = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    assert "Sim(cap), are not computed: text similarity needs the package" in notes[0]
    assert "no plots are drawn: plots need the package matplotlib" in notes[1]
    assert scored.stderr.count("note: ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "table.md"]


def test_sim_is_computed_with_a_sentence_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Encoder:
        def __init__(self, model: str, **_: object) -> None:
            assert model == "some/model"

        def encode(self, texts: list[str], **_: object) -> list[list[float]]:
            return [[1.0, 0.0]] * len(texts)

    class Package:
        SentenceTransformer = Encoder

    monkeypatch.setitem(sys.modules, "sentence_transformers", Package)  # type: ignore[arg-type]
    options = ("--similarity-model", "some/model", "--bootstrap", 0, "--rules", "strict")
    scored = call("score", PREDICTIONS, "--out", tmp_path, *options)
    assert scored.exit_code == 0, scored.output
    tasks = json.loads((tmp_path / "metrics.json").read_text())["strict"]["tasks"]
    assert tasks["dvc"]["Sim_parsed"] == pytest.approx(1.0)


def test_a_named_sentence_model_must_exist(tmp_path: Path) -> None:
    named = ("--similarity-model", str(tmp_path / "none"), "--bootstrap", 0)
    scored = call("score", PREDICTIONS, "--out", tmp_path / "scores", *named)
    assert scored.exit_code == 1
    assert "cannot be loaded" in scored.stderr or "needs the package" in scored.stderr
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", PREDICTIONS, "--benchmark", "charades", "--rules", "strict"),
        ("score", PREDICTIONS, "--benchmark", "youcook2", "--threshold", 0.5),
        ("score", PREDICTIONS, "--benchmark", "charades", "--no-similarity"),
        ("score", PREDICTIONS, "--no-similarity", "--similarity-model", "m"),
        ("convert", "charades", "a.txt", "a.json", "--subset", "validation"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(arguments: tuple[Any, ...]) -> None:
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert arguments[-2] in refused.stderr or arguments[-1] in refused.stderr


def test_other_benchmarks(tmp_path: Path) -> None:
    source, target = tmp_path / "sta.txt", tmp_path / "sta.json"
    source.write_text("AAA 1 5##a person sits\n")
    done = call("convert", "charades", source, target)
    assert (done.exit_code, done.stderr) == (0, f"{target}: 1 sample\n")
    (sample,) = json.loads(target.read_text())
    target.write_text(json.dumps([sample | {"a": "</evi> 1 - 5"}]))
    scored = call("score", target, "--benchmark", "charades", "--bootstrap", 10)
    assert scored.exit_code == 0, scored.output
    assert "| R@0.3 | R@0.5 | R@0.7 | mIoU |" in scored.stdout
    assert call("convert", "charades", source, target).exit_code == 2
    assert call("convert", "youcook2", source, target, "--overwrite").exit_code == 1
    source.write_text(
        json.dumps(
            {
                "database": {
                    "BBB": {
                        "subset": "training",
                        "duration": 9,
                        "annotations": [{"segment": [0, 5], "sentence": "stir the pot"}],
                    }
                }
            }
        )
    )
    options = ("--overwrite", "--subset", "training")
    assert call("convert", "youcook2", source, target, *options).exit_code == 0
    (sample,) = json.loads(target.read_text())
    target.write_text(json.dumps([sample | {"a": "</evi>0 - 5, stir the pot"}]))
    scored = call("score", target, "--benchmark", "youcook2", "--bootstrap", 10)
    assert scored.exit_code == 0, scored.output
    assert "YouCook2, times 100, 1 video, 0 unreadable" in scored.stdout


@pytest.mark.parametrize("command", ["", "run", "predict", "score", "convert"])
def test_help_needs_no_torch(command: str) -> None:
    program = (
        "import sys; from vidground.cli.evaluate import evaluate\n"
        f"try: evaluate([*{command.split()!r}, '--help'])\n"
        "finally: assert not {'torch', 'transformers', 'av'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr
