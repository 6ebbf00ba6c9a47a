"""`vidground doctor`: what is right passes, and every fault put in is named, with exit code 1."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from tests.helpers import card_stand_in
from tests.helpers.graph_stand_in import Graphs
from vidground.checkpoints.known_models import KNOWN_MODELS
from vidground.checkpoints.loading import load_model
from vidground.cli.main import cli
from vidground.doctor import (
    examination,
    libraries,
    machine,
    places,
    programs,
    recorded_steps,
    self_test,
    shortage,
    videos,
)
from vidground.doctor.film import draw_film
from vidground.doctor.findings import Check, Finding, failed, ok, run_checks, skipped, worst
from vidground.doctor.loading import load_engine
from vidground.doctor.numbers import answers, deviation, golden_numbers, read_golden
from vidground.doctor.report import to_dict, to_lines
from vidground.errors import InputError
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.cuda_graphs import Record, StepOutputs
from vidground.generation.prompt_batch import PromptBatch
from vidground.media.ffmpeg import FfmpegError
from vidground.model.d2vlm import D2VLM

KEYS = {"check", "subject", "status", "message", "remedy", "seconds", "values"}
TOY = KNOWN_MODELS["toy"].folder or Path()
Run = Callable[[], StepOutputs]
Recorded = tuple[Callable[[], None], StepOutputs]


def stale() -> Record:
    """Recordings whose replay does nothing, as of a graph captured on another card's stream."""
    return lambda run: (lambda: None, tuple(output.clone() for output in run()))


def refusing() -> Record:
    def record(_: Run) -> Recorded:
        raise RuntimeError("operation not permitted when stream is capturing")

    return record


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave out all checks but these, so that a test is quick."""
    for group in ("_MACHINE", "_ON_DEVICE"):
        kept = tuple(entry for entry in getattr(examination, group) if entry[0] in names)
        monkeypatch.setattr(examination, group, kept)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "--device", "cpu", *arguments])


def line(result: Result, check: str, status: str = "failed") -> str:
    """The line, with its remedy, of a check with this status."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = result.output.splitlines()
    for number, text in enumerate(lines):
        if text.startswith(f"{status:8}{check} "):
            return "\n".join(lines[number : number + 2])
    raise AssertionError(f"no {status} {check} in:\n{result.output}")


def package(folder: Path, name: str, number: str) -> None:
    """An installed package, as far as its metadata goes."""
    place = folder / f"{name.replace('-', '_')}-{number}.dist-info"
    place.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
    (place / "METADATA").write_text(text)


# What is right


def test_a_sound_installation_passes_and_its_json_has_the_stated_keys() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vidground.cli.main", "doctor", "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(result.stdout)
    wrong = [finding for finding in report["findings"] if finding["status"] == "failed"]
    assert (result.returncode, wrong) == (0, []), result.stderr
    assert set(report) == {
        "schema", "schema_version", "vidground", "status", "seconds", "devices", "findings"
    }  # fmt: skip
    assert (report["schema"], report["schema_version"]) == ("vidground-doctor", 1)
    assert report["devices"] == ["cpu"]
    assert all(set(finding) == KEYS for finding in report["findings"])
    names = {name for name, _ in (*examination._MACHINE, *examination._ON_DEVICE)}
    told = {finding["check"] for finding in report["findings"]}
    assert told == names | {"devices", "card decoding", "two cards"}
    by_subject = {(f["check"], f["subject"]): f for f in report["findings"]}
    assert by_subject["numbers", "cpu, float32"]["values"]["tolerance"] == 1e-3
    assert by_subject["libraries", "torch"]["values"]["version"] == version("torch")
    for check in ("recorded steps", "little memory", "card decoding", "two cards"):
        (found,) = [f for f in report["findings"] if f["check"] == check]
        assert found["status"] == "skipped"
        assert "GPU" in found["message"]


def test_the_shipped_numbers_are_those_of_the_model_in_float64() -> None:
    content = golden_numbers(load_model("toy", dtype=torch.float64))
    shipped, hashes = read_golden()
    assert content["files"] == hashes
    assert content["numbers"]["tokens"] == shipped.tokens
    for name, values in shipped.tensors.items():
        assert len(values) == 64 if name != "relevance" else len(values) > 40
        assert deviation(content["numbers"]["tensors"][name], values) < 1e-6


def test_the_film_is_a_square_that_grows_between_still_pictures() -> None:
    film = draw_film().astype(int)
    assert film.shape == (12, 64, 64, 3)
    green = (film[..., 1] - film[..., 0] > 60).sum((1, 2))
    assert green[:3].tolist() == [0, 0, 0]
    assert (green[3:8] < green[4:9]).all()
    assert green[9:].tolist() == [0, 0, 0]


def test_the_command_loads_torch_only_when_it_runs() -> None:
    code = "import vidground.cli.doctor, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "av", "numpy"} & set(result.stdout.split())


# What is wrong with the model


def install_toy(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the bundled model be the one in this folder."""
    monkeypatch.setitem(KNOWN_MODELS, "toy", replace(KNOWN_MODELS["toy"], folder=folder))


def changed_model(folder: Path) -> Path:
    """The bundled model with a few wrong numbers in one matrix."""
    shutil.copytree(TOY, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "language_model.layers.2.mlp.down_proj.weight"
    tensors[name][:16] *= -1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_wrong_weight_is_named_by_its_hash_and_by_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_toy(monkeypatch, changed_model(tmp_path / "toy"))
    only(monkeypatch, "weights", "numbers")
    result = doctor()
    assert result.exit_code == 1
    assert "differs from the shipped one: model.safetensors" in line(result, "weights")
    assert "pip install" in line(result, "weights")
    assert "is off by" in line(result, "numbers")


def test_a_missing_file_of_the_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(TOY, tmp_path / "toy")
    (tmp_path / "toy" / "tokenizer.json").unlink()
    install_toy(monkeypatch, tmp_path / "toy")
    only(monkeypatch, "weights", "batch")
    result = doctor()
    assert result.exit_code == 1
    assert "missing: tokenizer.json" in line(result, "weights")
    assert "tokenizer" in line(result, "batch")  # fails by itself, and the rest went on


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_failures(value: float) -> None:
    model = load_engine("cpu").model
    with torch.no_grad():
        model.lm_head.weight[3] = value
    found = self_test.compare_numbers("cpu", model, read_golden()[0])
    assert found.status == "failed"
    json.dumps(to_dict([found], []), allow_nan=False)


def test_right_numbers_with_other_answers_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = read_golden()[0]
    other = [*right.tokens[:2], [*right.tokens[2][:-1], 5]]
    monkeypatch.setattr(
        self_test, "read_golden", lambda: (type(right)(right.tensors, other, right.intervals), {})
    )
    (found,) = self_test.check_golden("cpu")
    assert found.status == "failed"
    assert "answers or intervals differ" in found.message


def test_low_precision_is_within_its_tolerance() -> None:
    right = read_golden()[0]
    for dtype in (torch.bfloat16, torch.float16):
        found = self_test.compare_numbers("cpu", load_engine("cpu", dtype).model, right)
        assert found.status == "ok", found.message
        assert found.values["deviation"]["patch_features"] > 1e-3  # which float32 may not be off


def test_a_row_that_depends_on_its_batch_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    (sound,) = self_test.check_batch("cpu")
    assert sound.status == "ok"

    def at_the_last_column(batch: PromptBatch, states: torch.Tensor) -> torch.Tensor:
        del batch
        return states[:, -1]

    monkeypatch.setattr(PromptBatch, "at_end", at_the_last_column)
    (found,) = self_test.check_batch("cpu")
    assert found.status == "failed"
    assert "--batch-size 1" in found.remedy


def test_too_little_memory_for_the_released_weights_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(self_test, "free_bytes", lambda _: 1 << 30)
    monkeypatch.setattr("vidground.devices.cpu_has_bfloat16", lambda: False)
    chosen, room = self_test.check_device("cpu")
    assert chosen.status == "ok"
    assert chosen.values["dtype"] == "float32"
    assert room.status == "warning"
    assert 4 * 4.5e9 < room.values["needed_bytes"] < 4 * 5.5e9
    assert "in float32, chosen because every processor computes in it" in room.message


# Recorded steps


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return load_engine("cpu").model


def test_honest_recordings_pass(model: D2VLM) -> None:
    found = recorded_steps.compare_recorded("cpu", "cpu", model, Graphs())
    assert found.status == "ok", found.message
    assert found.values["recorded"] >= 1
    assert found.values["replayed"] >= found.values["steps"] > 10


def test_a_stale_graph_is_named_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    check = recorded_steps.check_recorded
    monkeypatch.setattr(recorded_steps, "check_recorded", lambda d: check(d, stale))
    only(monkeypatch, "recorded steps")
    result = doctor()
    assert result.exit_code == 1
    assert "replayed" in line(result, "recorded steps")
    assert "--no-graphs" in line(result, "recorded steps")


def test_recordings_that_cannot_be_made_are_a_failure_with_the_reason(model: D2VLM) -> None:
    found = recorded_steps.compare_recorded("cpu", "cpu", model, refusing)
    assert found.status == "failed"
    assert "operation not permitted" in found.message
    assert found.values["replayed"] == 0


def test_two_devices_are_tested_in_turn_and_one_that_is_stale_is_named() -> None:
    found = list(recorded_steps.check_side_by_side(["cpu", "cpu:0"], Graphs()))
    assert [finding.status for finding in found] == ["ok"] * 4
    assert [finding.subject for finding in found] == [
        "cpu, turn 1", "cpu:0, turn 1", "cpu, turn 2", "cpu:0, turn 2"
    ]  # fmt: skip
    made: list[Record] = []

    def second_is_stale() -> Record:
        made.append(stale() if len(made) % 2 else Graphs()())
        return made[-1]

    found = list(recorded_steps.check_side_by_side(["cpu", "cpu:0"], second_is_stale))
    assert worst(found) == "failed"
    assert found[0].status == "ok"


# Memory that runs out


@contextmanager
def room_for(rows: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    add = BatchDecoder.add

    def limited(decoder: BatchDecoder, batch: PromptBatch) -> None:
        if len(decoder) + len(batch.lengths) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        add(decoder, batch)

    with monkeypatch.context() as patched:
        patched.setattr(BatchDecoder, "add", limited)
        yield


@pytest.mark.parametrize("rows", [20, 0, 64])
def test_a_shortage_of_memory_is_survived_with_fewer_rows_or_reported(
    rows: int, model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage, "_ROWS", 24)
    expected = [a.token_ids for a in answers(model, *shortage.many_prompts(model, 4))]
    found = shortage.survive_shortage(
        "cpu", model, expected, lambda: room_for(rows, monkeypatch), graphs=False
    )
    assert found.status == {20: "ok", 0: "failed", 64: "skipped"}[rows]
    assert found.values["rows_in_the_end"] == {20: 12, 0: 1, 64: 24}[rows]
    expected[3] = expected[3][:-1]
    found = shortage.survive_shortage(
        "cpu", model, expected, lambda: room_for(rows, monkeypatch), graphs=False
    )
    assert found.status == "failed"


# Libraries and programs


def test_a_library_below_its_bound_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "transformers", "5.0.0")
    package(tmp_path, "peft", "0.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    only(monkeypatch, "libraries")
    result = doctor()
    assert result.exit_code == 1
    assert "5.0.0 is outside" in line(result, "libraries")
    assert "pip install 'transformers>=5" in line(result, "libraries")
    found = {finding.subject: finding for finding in libraries.check_libraries()}
    assert found["peft"].status == "failed"
    assert found["numpy"].status == "ok"


def test_a_missing_library_fails_only_if_all_users_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = version

    def without(name: str) -> str:
        if name in ("safetensors", "pysubs2"):
            raise libraries.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(libraries, "version", without)
    found = {finding.subject: finding for finding in libraries.check_libraries()}
    assert found["safetensors"].status == "failed"
    assert "pip install 'safetensors>=" in found["safetensors"].remedy
    assert "pysubs2 (formats)" in found["extras"].message


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries.platform, "python_version", lambda: "3.10.4")
    (found,) = libraries.check_python()
    assert found.status == "failed"
    assert "3.11" in found.remedy


def test_a_torch_without_cuda_beside_a_driver_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "nvidia_driver", lambda: "570.1")
    monkeypatch.setattr(torch.version, "cuda", None)
    (found,) = libraries.check_torch_build()
    assert found.status == "warning"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = machine.check_cards()
    assert found.status == "failed"
    assert "570.1" in found.message


def test_both_packages_of_onnxruntime_at_once_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    for name in ("onnxruntime", "onnxruntime-gpu"):
        package(tmp_path, name, "1.21.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    only(monkeypatch, "onnxruntime")
    result = doctor()
    assert result.exit_code == 1
    assert "are both installed" in line(result, "onnxruntime")
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in line(result, "onnxruntime")


@pytest.mark.parametrize("fault", ["raises", "falls back", "computes wrong", "import"])
def test_a_broken_onnxruntime_provider_is_named(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None:
            if fault == "raises":
                raise runtime.capi.onnxruntime_pybind11_state.EPFail("libcudnn.so.9: not found")

        def get_providers(self) -> list[str]:
            return ["Other" if fault == "falls back" else "CPUExecutionProvider"]

        def run(self, _: None, feeds: dict[str, Any]) -> list[Any]:
            return [feeds["x"]]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    if fault == "import":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    only(monkeypatch, "onnxruntime")
    result = doctor()
    assert result.exit_code == 1
    word = {
        "raises": "libcudnn.so.9: not found",
        "falls back": "falls back to Other",
        "computes wrong": "computes [",
        "import": "onnxruntime",
    }[fault]
    assert word in line(result, "onnxruntime")


def test_the_tiny_graph_is_a_sound_onnx_model() -> None:
    onnx = pytest.importorskip("onnx")
    from vidground.features.onnx_providers import _DOUBLING

    onnx.checker.check_model(onnx.load_from_string(_DOUBLING), full_check=True)


def test_a_missing_ffmpeg_is_a_warning_that_names_the_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise FfmpegError("no program ffmpeg was found (a is 4; b does not run); install it")

    monkeypatch.setattr(programs, "find_program", missing)
    (found,) = programs.check_ffmpeg()
    assert found.status == "warning"
    assert "b does not run) (needed by vidground clip, burn and mux only)" in found.message
    assert found.remedy == "install it"


# Folders


def test_a_write_that_fails_is_named(tmp_path: Path) -> None:
    """Files are limited to 64 KiB, which no user and no privilege escapes."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "from vidground.doctor import examination\n"
        "examination._MACHINE = (('folders', 'places:check_folders'),)\n"
        "examination._ON_DEVICE = ()\n"
        "from vidground.cli.main import main; main(['doctor', '--device', 'cpu', '--json'])"
    )
    environment = {**os.environ, "VIDGROUND_CACHE": str(tmp_path / "features")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 1, result.stderr
    folders = [f for f in json.loads(result.stdout)["findings"] if f["check"] == "folders"]
    assert [f["status"] for f in folders] == ["failed"] * 3
    assert all("cannot be written: File too large" in f["message"] for f in folders)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    try:
        found = places.probe("feature cache", place / "features", "choose another")
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert found.status == "failed"
    assert "No space left" in found.message
    assert found.remedy == "free space, or choose another"
    assert found.values["errno"] == errno.ENOSPC


def test_little_space_is_a_warning_and_a_missing_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = places.probe("feature cache", tmp_path / "a" / "b", "choose another")
    assert found.status == "ok"
    assert found.message.endswith("will be created")
    assert list(tmp_path.iterdir()) == []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    assert places.probe("feature cache", tmp_path, "choose another").status == "warning"


def test_the_home_folder_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    assert places.short_path(Path("/home/jane/.cache/x")) == "~/.cache/x"
    assert places.short_path(Path("/data/x")) == "/data/x"


def test_the_memory_of_a_container_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "container_limit_bytes", lambda: 3 << 30)
    monkeypatch.setattr(machine, "system_free_bytes", lambda: 5 << 29)
    system, memory = machine.check_system()
    assert (system.status, memory.status) == ("ok", "ok")
    assert memory.values["container_limit_bytes"] == 3 << 30
    assert memory.values["free_bytes"] == 5 << 29
    assert memory.message.startswith("2.5 GiB free of ")
    assert memory.message.endswith("container limit 3.0 GiB")
    monkeypatch.setattr(machine, "container_limit_bytes", lambda: None)
    monkeypatch.setattr(machine, "system_free_bytes", lambda: 1 << 30)
    memory = list(machine.check_system())[1]
    assert memory.status == "warning"
    assert memory.message.endswith("no container limit")


@pytest.mark.parametrize(
    ("built", "major", "runs"),
    [
        (["sm_80", "sm_90a"], 9, True),
        (["sm_80", "sm_86"], 7, False),
        (["sm_80", "sm_90"], 10, False),
        (["sm_80", "compute_90"], 10, True),
        (["sm_100", "sm_120f"], 12, True),
    ],
)
def test_a_torch_that_was_not_built_for_a_card_is_known(
    built: list[str], major: int, runs: bool
) -> None:
    assert machine.runs_on(built, major) is runs


# Videos


def test_a_picture_at_a_wrong_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.status for finding in videos.check_reading()] == ["ok", "ok"]
    later = tuple(tick + 4 * (number > 3) for number, tick in enumerate(videos.VIDEO_TICKS))
    monkeypatch.setattr(videos, "VIDEO_TICKS", later)
    assert [finding.status for finding in videos.check_reading()] == ["failed", "failed"]


@pytest.mark.parametrize("is_sound", [True, False])
def test_pictures_of_a_card_are_compared_with_the_cpu(
    is_sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(number: int, frame: Any) -> Any:
        if number != 4:
            return frame
        array = frame.to_ndarray() // 2
        other = type(frame).from_ndarray(array, format=frame.format.name)
        other.pts, other.time_base, other.pict_type = frame.pts, frame.time_base, frame.pict_type
        other.color_range, other.colorspace = frame.color_range, frame.colorspace
        return other

    card = (
        card_stand_in.put_in(monkeypatch) if is_sound else card_stand_in.put_in(monkeypatch, change)
    )
    monkeypatch.setattr(videos, "opens_card", lambda _: True)
    (found,) = videos.check_card_decoding(["cuda:0"])
    assert card.frames > 5
    assert found.status == ("ok" if is_sound else "failed"), found.message


def test_a_card_that_cannot_decode_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: str) -> bool:
        raise InputError("its driver lacks the part for video")

    monkeypatch.setattr(videos, "opens_card", refuses)
    (found,) = videos.check_card_decoding(["cuda:0"])
    assert found.status == "warning"


# Checks as such


def test_a_check_that_crashes_is_a_failure_and_the_others_still_run() -> None:
    def crashing() -> Iterator[Finding]:
        yield ok("first", "fine")
        raise KeyError("torch\nversion")

    def refused() -> Iterator[Finding]:
        raise InputError("device is 7")
        yield

    checks = [
        Check("a", "a", crashing),
        Check("b", "b", refused),
        Check("c", "c", lambda: [skipped("third", "nothing to do")]),
    ]
    found = list(run_checks(checks))
    assert [(f.check, f.status) for f in found] == [
        ("a", "ok"), ("a", "failed"), ("b", "failed"), ("c", "skipped")
    ]  # fmt: skip
    assert "crashed after first: KeyError" in found[1].message
    assert "\n" not in found[1].message
    assert "crashing" in found[1].values["traceback"]
    assert found[2].message == "device is 7"
    assert worst(found) == "failed"
    assert worst(found[3:]) == "ok"


def test_a_module_that_does_not_import_is_the_failure_of_its_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = (("video", "no_such_module:check"), ("python", "libraries:check_python"))
    monkeypatch.setattr(examination, "_MACHINE", broken)
    monkeypatch.setattr(examination, "_ON_DEVICE", ())
    result = doctor()
    assert result.exit_code == 1
    assert "ModuleNotFoundError" in line(result, "video")
    assert line(result, "python", "ok")


def test_a_missing_device_is_a_failure_and_an_invalid_one_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "batch")
    result = CliRunner().invoke(cli, ["doctor", "--device", "cuda:77", "--device", "cpu"])
    assert result.exit_code == 1
    assert "cuda:77" in line(result, "devices")
    assert line(result, "batch", "ok")
    result = CliRunner().invoke(cli, ["doctor", "--device", "tpu"])
    assert result.exit_code == 2
    assert "must be cpu, cuda or cuda:N" in result.output


def test_lines_are_aligned_with_the_remedy_below() -> None:
    one = Finding("cpu", "ok", "fine", check="numbers")
    other = failed("cuda:0", "wrong", "reboot")
    first, second = to_lines(one), to_lines(other)
    assert first[0].index("fine") == second[0].index("wrong")
    assert len(first) == 1
    assert second[1].strip() == "remedy: reboot"
