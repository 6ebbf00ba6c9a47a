import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from vidground.cli.main import cli
from vidground.errors import CheckpointError
from vidground.grounder import Grounder
from vidground.training.checkpoints import checkpoints
from vidground.training.config import read_config
from vidground.training.logs import StepBar
from vidground.training.run import build_trainer
from vidground.training.saving import write_final
from vidground.training.toy.dataset import write_video
from vidground.training.toy.model import make_toy_model, toy_config

SECONDS = 6
FEW = ["--max-steps", "2", "--batch-size", "2", "--set", "distribution.cpu=true"]


def answer(words: str = "a red circle moves") -> list[dict[str, str]]:
    return [
        {"from": "human", "value": "<image>\nWhat happens?"},
        {"from": "gpt", "value": f"<evi></evi><evi>, {words}."},
    ]


def samples(**fields: Any) -> list[dict[str, Any]]:
    common = {"task": "dvc", "source": "toy", "video": "a.mp4", "duration": float(SECONDS)}
    return [common | fields for _ in range(4)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video, annotations of both kinds, and a tiny model to start from."""
    folder = tmp_path_factory.mktemp("data")
    drawn = np.random.default_rng(0).integers(256, size=(4 * SECONDS, 64, 64, 3), dtype=np.uint8)
    write_video(folder / "a.mp4", iter(drawn), fps=4)
    fine = samples(tgt=[1.0, 3.0], conversations=answer())
    for index, sample in enumerate(fine):
        sample |= {"tgt": [0.0, 1.0 + index], "conversations": answer("a blue " * index + "square")}
    (folder / "sft.json").write_text(json.dumps(fine))
    variants = {"chosen": answer(), "a_b_shift": answer()}
    pairs = samples(tgt={"chosen": [1.0, 3.0], "a_b_shift": [3.0, 5.0]}, conversations=variants)
    (folder / "fpo.json").write_text(json.dumps(pairs))
    sizes = {
        "image_size": 40,
        "patch_size": 10,
        "vision_layers": 1,
        "vision_width": 32,
        "text_width": 32,
    }
    make_toy_model(toy_config(**sizes, text_layers=4)).save_pretrained(folder / "model")
    return folder


def train(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["train", *arguments], catch_exceptions=False)


def sft_arguments(data: Path, run: Path) -> list[str]:
    files = ["--annotations", str(data / "sft.json"), "--videos", str(data), "-o", str(run)]
    return ["sft", "--model", str(data / "model"), *files, *FEW]


def sft(data: Path, run: Path, *arguments: str) -> Result:
    return train(*sft_arguments(data, run), *arguments)


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return result


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    options = ["--set", "parameters.trained=full", "--set", "output.save_every=1"]
    fine(sft(data, tmp_path / "run", *options))
    return tmp_path / "run"


def test_a_run_leaves_a_model_its_log_and_its_configuration(run: Path, data: Path) -> None:
    assert [line["step"] for line in log_of(run)] == [1, 2]
    result = Grounder(str(run), device="cpu").query(str(data / "a.mp4"), "a circle")
    assert len(result.relevance) == SECONDS
    assert Grounder(str(run / "checkpoint-1"), device="cpu") is not None
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "log.jsonl", "checkpoint-1", "checkpoint-2"} <= names


def test_its_configuration_repeats_a_run(run: Path, tmp_path: Path) -> None:
    fine(train("sft", "--config", str(run / "config.yaml"), "-o", str(tmp_path / "again")))
    assert log_of(tmp_path / "again") == log_of(run)
    weights, again = (load_file(r / "model.safetensors") for r in (run, tmp_path / "again"))
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_run_is_not_written_over_unasked(run: Path) -> None:
    before = (run / "log.jsonl").read_bytes()
    result = train("sft", "--config", str(run / "config.yaml"))
    assert result.exit_code == 1
    assert (
        "is not empty; choose another folder, or use --resume to continue its run" in result.stderr
    )
    assert (run / "log.jsonl").read_bytes() == before


def test_overwriting_removes_the_run_and_nothing_else(run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    result = train(
        "sft", "--config", str(run / "config.yaml"), "--overwrite", "--max-steps", "1", "-q"
    )
    assert result.exit_code == 0, result.output
    assert [line["step"] for line in log_of(run)] == [1]
    assert not (run / "checkpoint-2").exists()
    assert (run / "notes.txt").read_text() == "mine"


def test_resuming_continues_with_the_runs_own_configuration(run: Path) -> None:
    first = log_of(run)
    fine(train("sft", "-o", str(run), "--resume", "--max-steps", "4"))
    assert [line["step"] for line in log_of(run)] == [1, 2, 3, 4]
    assert log_of(run)[:2] == first
    ends = [line for line in (run / "log.jsonl").read_text().splitlines() if "runtime" in line]
    assert len(ends) == 2  # the first run's end is kept too: it was not begun anew
    assert "max_steps: 4" in (run / "config.yaml").read_text()


def test_a_run_that_is_over_is_not_trained_further(run: Path) -> None:
    before = {path: path.read_bytes() for path in (run / "log.jsonl", run / "model.safetensors")}
    (run / "model.safetensors").unlink()  # as if it was killed before the model was written
    fine(train("sft", "-o", str(run), "--resume", "--set", "schedule.decay=constant"))
    assert {path: path.read_bytes() for path in before} == before
    assert not (run / "checkpoint-3").exists()


def test_epochs_replace_the_steps_of_a_configuration(run: Path, tmp_path: Path) -> None:
    again = ["--config", str(run / "config.yaml"), "-o", str(tmp_path / "again")]
    fine(train("sft", *again, "--epochs", "2"))
    assert [line["step"] for line in log_of(tmp_path / "again")] == [1, 2, 3, 4]


def test_a_run_may_log_no_step(data: Path, tmp_path: Path) -> None:
    fine(sft(data, tmp_path / "run", "--set", "output.log_every=null"))
    assert log_of(tmp_path / "run") == []


@pytest.fixture
def broken(data: Path, tmp_path: Path) -> list[str]:
    """Options for samples of a video that is there, one that is missing, and one that is none."""
    (tmp_path / "a.mp4").symlink_to(data / "a.mp4")
    (tmp_path / "none.mp4").write_bytes(b"no video")
    mixed = json.loads((data / "sft.json").read_text())
    mixed[1]["video"], mixed[2]["video"] = "missing.mp4", "none.mp4"
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    (tmp_path / "bad.json").write_text(json.dumps(mixed[2:3]))
    return ["--videos", str(tmp_path), "--annotations"]


def test_videos_that_cannot_be_read_are_left_out_on_request(
    broken: list[str], data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [*broken, str(tmp_path / "mixed.json"), "--set", "parameters.lora.rank=4"]
    refused = train("sft", "--model", str(data / "model"), *broken, *FEW, "-o", str(tmp_path / "r"))
    assert refused.exit_code == 1
    assert "sample 1: video is 'missing.mp4'; there is no such file" in refused.stderr
    skipping = [*broken, "--unreadable", "skip", "--quiet"]
    run = ["--model", str(data / "model"), *FEW, "-o", str(tmp_path / "run")]
    fine(train("sft", *run, *skipping))
    reported = [record.getMessage() for record in caplog.records]
    assert "1 of 4 samples are left out: videos that are missing" in reported
    assert "1 of 4 samples are left out: videos that cannot be read" in reported
    assert sum("missing.mp4" in line or "none.mp4" in line for line in reported) == 2
    assert [line["epoch"] for line in log_of(tmp_path / "run")] == [1, 2]  # two samples are left


def test_what_a_worker_cannot_read_is_reported_in_a_line(
    broken: list[str], data: Path, tmp_path: Path
) -> None:
    bad = [*broken, str(tmp_path / "bad.json"), "--workers", "1"]
    result = train("sft", "--model", str(data / "model"), *bad, *FEW, "-o", str(tmp_path / "run"))
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'bad.json'}: sample 0: ")
    assert "Traceback" not in last


def test_a_folder_that_cannot_be_made_is_reported(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    result = sft(data, tmp_path / "run" / "below", "--set", "parameters.lora.rank=4")
    assert result.exit_code == 1
    assert "run/below: cannot be written: a part of its folder is a file" in result.stderr


def test_a_quiet_run_shows_no_bars(data: Path, tmp_path: Path) -> None:
    values = {"model.name": str(data / "model"), "output.dir": str(tmp_path / "run")}
    values |= {"data.annotations": str(data / "sft.json"), "data.videos": str(data)}
    config = read_config("sft", None, values | {"distribution.cpu": True})
    for quiet in (True, False):
        callbacks = build_trainer(config, quiet=quiet).callback_handler.callbacks
        assert any(isinstance(callback, StepBar) for callback in callbacks) != quiet


def test_resuming_with_another_model_is_refused(run: Path, data: Path) -> None:
    result = sft(data, run, "--resume", "--learning-rate", "0.1")
    assert result.exit_code == 1
    assert "contains a run with different parameters settings" in result.stderr


def test_preferences_start_from_a_fine_tuned_run(run: Path, data: Path, tmp_path: Path) -> None:
    files = ["--annotations", str(data / "fpo.json"), "--videos", str(data)]
    held_out = ["--evaluation", str(data / "fpo.json"), "--set", "output.eval_every=1"]
    options = ["--set", "reference=true", "--set", "parameters.lora.rank=4"]
    target = ["-o", str(tmp_path / "fpo"), "--model", str(run)]
    fine(train("fpo", *target, *files, *FEW, *held_out, *options))
    line = log_of(tmp_path / "fpo")[0]
    assert {"text_margin", "text_accuracy", "grounding_margin", "grounding_accuracy"} < line.keys()
    assert line["text_margin"] == pytest.approx(0, abs=1e-4)
    assert "eval_grounding_margin" in (tmp_path / "fpo" / "log.jsonl").read_text()
    assert Grounder(str(tmp_path / "fpo"), device="cpu") is not None


@pytest.mark.parametrize(("objective", "prefix"), [("sft", "loss."), ("fpo", "loss.sft.")])
def test_a_model_is_saved_to_run_as_it_was_trained(
    objective: str,
    prefix: str,
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = ["--annotations", str(data / f"{objective}.json"), "--videos", str(data)]
    target = ["-o", str(tmp_path / "run"), "--model", str(data / "model"), "--max-steps", "1"]
    off = [f"{prefix}evidence_stage=false", f"{prefix}visual_semantics=false"]
    options = [*off, "distribution.cpu=true", "parameters.lora.rank=4"]
    sets = [word for option in options for word in ("--set", option)]
    fine(train(objective, *target, *files, *sets))
    assert "evidence_stage was True in the model and is now False" in caplog.text
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["evidence_stage"], saved["evidence_semantics"]) == (False, False)


def test_features_of_a_frozen_encoder_are_computed_once(data: Path, tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path / "cache"), "--set", "data.frames=patches"]
    options = ["--set", "parameters.lora.rank=4", "--set", "output.tensorboard=true"]
    fine(sft(data, tmp_path / "run", *cache, *options, "--set", "schedule.workers=1"))
    (kept,) = (tmp_path / "cache").glob("*.safetensors")
    assert load_file(kept)["frames"].shape == (SECONDS, 16, 32)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    fine(sft(data, tmp_path / "pixels", "--set", "parameters.lora.rank=4"))
    one, other = log_of(tmp_path / "run")[0], log_of(tmp_path / "pixels")[0]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_states_may_be_recomputed_and_numbers_be_short(data: Path, tmp_path: Path) -> None:
    options = ["--set", "parameters.trained=full", "--set", "output.save_every=null"]
    fine(sft(data, tmp_path / "plain", *options))
    saving = ["--set", "schedule.gradient_checkpointing=true"]
    fine(sft(data, tmp_path / "saving", *options, *saving))
    assert log_of(tmp_path / "saving")[1]["loss"] == pytest.approx(
        log_of(tmp_path / "plain")[1]["loss"], rel=1e-5
    )
    fine(sft(data, tmp_path / "short", *options, "--set", "schedule.precision=bfloat16"))
    loss = log_of(tmp_path / "short")[0]["loss"]
    assert loss == pytest.approx(log_of(tmp_path / "plain")[0]["loss"], rel=1e-2)
    assert loss != log_of(tmp_path / "plain")[0]["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "schedule.stepps=3"], "unknown key schedule.stepps"),
        (["--set", "schedule.epochs"], "needs KEY=VALUE"),
        (["--set", "schedule.epochs=["], "is not a YAML value"),
        (["--max-steps", "0"], "schedule.max_steps is 0"),
        (["--config", "nowhere.yaml"], "cannot be read"),
        (["--config", "fpo"], "run: vidground train fpo"),
        (
            ["--lora-learning-rate", "1", "--set", "parameters.trained=full"],
            "--lora-learning-rate is for adapters, and parameters.trained is 'full'",
        ),
    ],
)
def test_wrong_usage_is_reported_before_any_work(
    arguments: list[str], message: str, data: Path, tmp_path: Path
) -> None:
    result = sft(data, tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_samples_that_cannot_be_used_end_the_run(data: Path, tmp_path: Path) -> None:
    limits = ["--set", "data.limits.min_video_s=100"]
    result = sft(data, tmp_path / "run", *limits)
    assert result.exit_code == 1
    assert "is left; widen data.limits" in result.stderr
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_several_processes_leave_their_group_when_they_have_trained(
    data: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import atexit\n"
        "from pathlib import Path\n"
        "from accelerate import PartialState\n"
        "from vidground.cli.main import cli\n"
        "def threads():\n"
        "    names = [p.read_text() for p in Path('/proc/self/task').glob('*/comm')]\n"
        "    count = sum('gloo' in name for name in names)\n"
        "    print(f'{PartialState().num_processes} processes, {count} threads\\n', end='')\n"
        "atexit.register(threads)\n"
        "cli()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    # Asked for or not, the CPU is what they share where there is no GPU.
    cpu = f"distribution.cpu={str(torch.accelerator.is_available()).lower()}"
    run = [*sft_arguments(data, tmp_path / "run"), "--set", cpu]
    ended = subprocess.run(
        [*command, "--standalone", str(script), "train", *run],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.split("\n")[:2] == ["2 processes, 0 threads"] * 2
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(log_of(tmp_path / "run")) == 2
    assert sum("runtime" in line for line in lines) == 1  # only the first process logs
    assert Grounder(str(tmp_path / "run"), device="cpu") is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_and_says_how_to_continue(workers: int, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--max-steps", "40", "--workers", str(workers)]
    options += ["--set", "parameters.trained=full", "--set", "output.save_every=null"]
    command = [sys.executable, "-m", "vidground.cli.main", "train"]
    process = subprocess.Popen(
        [*command, *sft_arguments(data, run), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 1 of 40: loss "):  # a line, as standard error is no terminal
            break
    os.killpg(process.pid, signal.SIGTERM)  # its workers too, as a batch system does
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, rest
    step = log_of(run)[-1]["step"]
    assert rest.splitlines()[-1] == (
        f"stopped by SIGTERM after step {step} of 40, with a checkpoint; continue with: vidground "
        f"train sft --output-dir {run} --resume"
    )
    assert [path.name for path in checkpoints(run)] == [f"checkpoint-{step}"]
    fine(train("sft", "-o", str(run), "--resume", "--max-steps", str(step + 1)))
    assert [line["step"] for line in log_of(run)] == list(range(1, step + 2))


def test_a_run_killed_while_its_model_is_written_is_finished_by_resuming(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (run / "model.safetensors").read_bytes()

    class Killed(BaseException):
        pass

    def killed(path: Path, target: Path) -> None:
        if target.name == "config.json":
            raise Killed
        path.rename(target)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", killed)
        with pytest.raises(Killed):
            write_final(Copies(run), run, {})
    assert not (run / "config.json").exists()  # so that nobody loads half a model
    with pytest.raises(CheckpointError):
        Grounder(str(run), device="cpu")
    fine(train("sft", "-o", str(run), "--resume"))
    assert (run / "model.safetensors").read_bytes() == expected
    assert Grounder(str(run), device="cpu") is not None
    assert not list(run.glob(".vidground*"))


def test_a_run_without_checkpoints_is_finished_by_resuming_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--set", "parameters.trained=full", "--set", "output.save_every=null"]
    fine(sft(data, tmp_path / "whole", *options))
    assert not list((tmp_path / "whole").glob(".vidground*"))

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    run = tmp_path / "killed"
    with monkeypatch.context() as patched:
        patched.setattr("vidground.training.saving.MergedWriter.write", killed)
        with pytest.raises(Killed):
            sft(data, run, *options)
    steps = log_of(run)
    fine(train("sft", "-o", str(run), "--resume"))
    assert log_of(run) == steps  # nothing is trained again
    expected, found = (load_file(r / "model.safetensors") for r in (tmp_path / "whole", run))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not list(run.glob(".vidground*"))


class Copies:
    """Writes the model of a run's checkpoint again."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def write(self, folder: Path, state: Any) -> None:
        assert state == {}
        folder.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(self.run / "checkpoint-2" / name, folder / name)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = (run / "model.safetensors").read_bytes()
    newest = run / "checkpoint-2" / "trained.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    fine(train("sft", "-o", str(run), "--resume"))
    assert f"{newest.parent} cannot be used (trained.safetensors has" in caplog.text
    assert f"resuming from {run / 'checkpoint-1'}, after 2 samples" in caplog.text
    assert (run / "model.safetensors").read_bytes() == expected


def test_edited_annotations_end_a_resumed_run(data: Path, tmp_path: Path) -> None:
    samples_file = tmp_path / "samples.json"
    samples_file.write_text((data / "sft.json").read_text())
    files = ["--annotations", str(samples_file), "--videos", str(data), "-o", str(tmp_path / "run")]
    rank = ["--set", "parameters.lora.rank=4"]
    fine(train("sft", "--model", str(data / "model"), *files, *FEW, *rank))
    samples_file.write_text(samples_file.read_text() + "\n")
    refused = train("sft", "-o", str(tmp_path / "run"), "--resume", "--max-steps", "3")
    assert refused.exit_code == 1
    assert f"error: {samples_file} has changed since the run began" in refused.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--videos", "nowhere"], "the folder of videos nowhere does not exist"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
        (["--evaluation", "nowhere.json", "--eval-every", "1"], "nowhere.json"),
        (["-o", "/dev/null/run"], "/dev/null/run: cannot be written"),
    ],
)
def test_files_and_folders_are_checked_before_the_model_is_loaded(
    change: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("vidground.training.run.load_start", load)
    arguments = ["sft", "--model", str(data / "model"), *FEW]
    given = ["--annotations", str(data / "sft.json"), "--videos", str(data), "-o", str(tmp_path)]
    for option in change[::2]:
        if option in given:
            place = given.index(option)
            del given[place : place + 2]
    result = CliRunner().invoke(cli, ["train", *arguments, *given, *change])
    assert result.exit_code == 1
    assert message in result.stderr.splitlines()[-1]


def test_the_files_of_a_run_follow_the_umask(data: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        fine(sft(data, tmp_path / "run", "--set", "parameters.lora.rank=4"))
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"model.safetensors", "trained.safetensors", "optimizer.pt"} <= {f.name for f in files}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {
        path.name: "0o640" for path in files
    }


def test_the_model_of_the_best_held_out_loss_is_kept(data: Path, tmp_path: Path) -> None:
    held_out = ["--evaluation", str(data / "sft.json"), "--eval-every", "1"]
    # Steps so large that the first is the best.
    large = ["--learning-rate", "1", "--max-steps", "3", "--set", "schedule.max_grad_norm=0"]
    options = [*held_out, *large, "--set", "parameters.trained=full", "--keep-model", "best"]
    fine(sft(data, tmp_path / "run", *options, "--patience", "1", "--curves"))
    lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    losses = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    best = min(losses, key=losses.__getitem__)
    assert len(losses) == min(3, best + 1)
    final, kept = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "run", tmp_path / "run" / f"checkpoint-{best}")
    )
    assert all(torch.equal(final[name], kept[name]) for name in kept)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 0
    drawn = train("curves", str(tmp_path / "run"), "-o", str(tmp_path / "again.png"))
    assert (drawn.exit_code, (tmp_path / "again.png").exists()) == (0, True)


def test_all_keys_are_listed_on_request() -> None:
    for objective, key in (("sft", "loss.grounding_weight"), ("fpo", "loss.sft.grounding_weight")):
        listed = train(objective, "--keys")
        assert listed.exit_code == 0
        assert f"\n  {key}  (number; default 10.0)\n" in listed.stdout


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from vidground.cli.main import cli\n"
        "result = CliRunner().invoke(cli, ['train', 'sft', '--help'])\n"
        "assert '--resume' in result.output, result.output\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
