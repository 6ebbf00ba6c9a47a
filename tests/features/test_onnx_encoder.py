"""The vision part on onnxruntime gives what torch gives, and refuses what it cannot do."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from tests.helpers.onnx_exports import exported, frames, golden_folder, golden_model
from tests.helpers.video_files import make_video
from vidground import (
    CacheSettings,
    CheckpointError,
    DecodingSettings,
    DenseCaptioner,
    Grounder,
    InputError,
)
from vidground.cli.main import cli
from vidground.features.frame_encoding import FittingEncoder
from vidground.features.onnx_encoder import OnnxVision
from vidground.features.onnx_folder import check_weights, read_export, weights_digest
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.results.formats import load

pytestmark = pytest.mark.smoke


SHORT = DecodingSettings(max_new_tokens=20)

CARD_PROVIDERS = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)

NEAR = {"rtol": 1e-3, "atol": 1e-5}  # sums of 32-bit numbers in another order


@pytest.fixture(scope="module")
def folder() -> Path:
    return exported("fp32", "vision", "compressor").path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "six.mp4", frames=60, fps=10)


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    program = "from vidground.features import onnx_providers; onnx_providers.provider_faults()"
    environment = {key: os.environ[key] for key in os.environ.keys() - {"ORT_DISABLE_TELEMETRY"}}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*onnxruntime*")) == []  # it keeps there what it will send


@pytest.mark.parametrize("cache_bytes", [1, 8 << 20])
@torch.inference_mode()
def test_features_are_those_of_torch_however_few_frames_run_at_once(
    folder: Path, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidground.features.onnx_encoder._CPU_CACHE_BYTES", cache_bytes)
    model = golden_model()
    backend = OnnxVision(folder, model)
    assert (backend.provider, backend.device.type, backend.dtype) == ("cpu", "cpu", torch.float32)
    for count in (1, 5):
        patches = model.encode_frames(frames(count))
        torch.testing.assert_close(backend.encode_frames(frames(count)), patches, **NEAR)
        ids, mask = torch.tensor([[7, 8, 9]]), torch.tensor([[True, True, False]])
        wanted = model.compress(patches, ids, mask)
        torch.testing.assert_close(backend.compress(patches, ids, mask), wanted, **NEAR)
        questions = [[7, 8, 9], [4]]
        wanted = model.compress_each(patches, questions)
        torch.testing.assert_close(backend.compress_each(patches, questions), wanted, **NEAR)


@torch.inference_mode()
def test_frames_in_any_memory_order_are_read_right(folder: Path) -> None:
    strided = frames(4).transpose(2, 3)[::2]
    backend, model = OnnxVision(folder, golden_model()), golden_model()
    features = backend.encode_frames(strided)
    torch.testing.assert_close(features, model.encode_frames(strided), **NEAR)


@torch.inference_mode()
def test_what_was_not_exported_runs_on_torch() -> None:
    model = golden_model()
    backend = OnnxVision(exported("fp16", "vision").path, model)
    assert backend.dtype == torch.float16
    patches = backend.encode_frames(frames(2).half())
    wanted = model.compress_each(patches.float(), [[7, 8, 9]])
    assert backend.compress_each(patches, [[7, 8, 9]]).equal(wanted)
    assert str(backend).endswith(" on cpu: vision float16")


def test_features_in_16_bit_go_into_a_model_of_another_16_bit_type(
    video: Path, tmp_path: Path
) -> None:
    folder = exported("fp16", "vision").path
    model = copy.deepcopy(golden_model()).bfloat16()
    for cache in (None, CacheSettings(folder=str(tmp_path), max_gib=1)):
        grounder = Grounder(model, decoding=SHORT, vision=f"onnx:{folder}", cache=cache)
        assert {chunk.patches.dtype for chunk in grounder.encode(video).chunks} == {torch.float16}
        found = grounder.query(video, "a cat")
        assert np.isfinite(found.relevance.values).all()


def test_answers_are_the_same_and_say_what_made_them(folder: Path, video: Path) -> None:
    model = golden_model()
    plain = Grounder(model, decoding=SHORT)
    fast = Grounder(model, decoding=SHORT, vision=f"onnx:{folder}")
    wanted, found = plain.query(video, "a cat"), fast.query(video, "a cat")
    assert found.moments == wanted.moments
    assert found.answer == wanted.answer
    assert found.relevance.values == pytest.approx(wanted.relevance.values, abs=1e-4)
    assert wanted.provenance.runtime["vision"] == "torch"
    used = found.provenance.runtime["vision"]
    assert used.startswith("onnxruntime ")
    assert used.endswith(" on cpu: vision float32, compressor float32")
    captions = DenseCaptioner(model, decoding=SHORT, vision=f"onnx:{folder}").caption(video)
    assert captions.provenance.runtime["vision"] == used
    # What was encoded by one is not passed off as the other's.
    encoded = fast.encode(video)
    assert fast.query(encoded, "a cat") == found
    with pytest.raises(InputError, match="is asked with 'torch'"):
        plain.query(encoded, "a cat")


def test_an_export_of_other_weights_is_refused(folder: Path) -> None:
    other = copy.deepcopy(golden_model())
    with torch.no_grad():
        other.vision.embeddings.class_embedding[0, 0, 0] += 1
    with pytest.raises(CheckpointError, match=r"whose vision weights .* are not those of"):
        OnnxVision(folder, other)
    with torch.no_grad():
        other.vision.embeddings.class_embedding[0, 0, 0] -= 1
        other.compressor.queries[0, 0, 0] += 1
    with pytest.raises(CheckpointError, match="whose compressor weights"):
        OnnxVision(folder, other)
    # The vision encoder alone does not care for the compressor.
    check_weights(exported("fp16", "vision"), other)


def test_weights_are_known_again_in_other_types() -> None:
    part = torch.nn.Linear(4, 3).half()
    digest = weights_digest(part)
    assert weights_digest(copy.deepcopy(part).float()) == digest
    assert weights_digest(copy.deepcopy(part).bfloat16()) == digest
    with torch.no_grad():
        part.bias[0] += 0.5
    assert weights_digest(part) != digest


def test_providers_that_are_not_there_are_refused(folder: Path) -> None:
    model = golden_model()
    for name in ("cuda", "tensorrt"):
        with pytest.raises(InputError, match=f"cannot use provider '{name}' here; the machine has"):
            OnnxVision(folder, model, provider=name)
    with pytest.raises(InputError, match="it must be one of tensorrt, cuda, cpu"):
        OnnxVision(folder, model, provider="npu")
    assert OnnxVision(folder, model, provider="cpu").provider == "cpu"


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, and an onnxruntime that lists CUDA but cannot use it."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(CARD_PROVIDERS))


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_the_cpu_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="was to run on cuda and fell back to cpu"):
        OnnxVision(folder, golden_model(), provider="cuda")
    # Nobody asked for more than the model's own device.
    assert OnnxVision(folder, golden_model()).provider == "cpu"


class Session:
    """Stands for a session on a card; `opened` holds the providers asked for, with options."""

    opened: ClassVar[list[list[tuple[str, dict[str, Any]]]]] = []

    def __init__(self, path: str, options: object, providers: list[Any]) -> None:
        self.opened.append(providers)
        self._cpu = CPU_SESSION(path, options, providers=["CPUExecutionProvider"])
        self._providers = [name for name, _ in providers]

    def get_providers(self) -> list[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu, name)


CPU_SESSION = onnxruntime.InferenceSession


class OnCard:
    """A model that says it is on the second card."""

    device = torch.device("cuda", 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(golden_model(), name)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_card_runs_cuda_and_tensorrt_only_where_it_is_asked_for(
    dtype: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(dtype, "vision").path  # first: torch would look for the GPU, too
    request.getfixturevalue("with_gpu")
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    monkeypatch.setattr("vidground.features.onnx_providers._has_tensorrt", lambda: True)
    monkeypatch.setattr(Session, "opened", [])
    model = cast("D2VLM", OnCard())
    assert OnnxVision(folder, model).provider == "cuda"
    assert OnnxVision(folder, model, provider="tensorrt").provider == "tensorrt"
    by_default, asked = ([dict([one]) for one in providers] for providers in Session.opened)
    assert [next(iter(one)) for one in by_default] == list(CARD_PROVIDERS[1:])
    assert [next(iter(one)) for one in asked] == list(CARD_PROVIDERS)
    for options in (by_default[0][CARD_PROVIDERS[1]], *asked[0].values(), *asked[1].values()):
        assert options["device_id"] == 1
    half = asked[0][CARD_PROVIDERS[0]]["trt_fp16_enable"]
    assert half is (dtype == "fp16")


@pytest.mark.usefixtures("with_gpu")
def test_tensorrt_that_is_not_installed_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidground.features.onnx_providers._has_tensorrt", lambda: False)
    with pytest.raises(InputError, match="'tensorrt' here; TensorRT 10 is not installed"):
        OnnxVision(folder, golden_model(), provider="tensorrt")


class TightSession:
    """A session that runs out of memory so many times."""

    def __init__(self, session: Any, times: int) -> None:
        self._session, self._times = session, times

    def run_with_iobinding(self, binding: object) -> None:
        if self._times:
            self._times -= 1
            states = onnxruntime.capi.onnxruntime_pybind11_state
            raise states.Fail("Status Message: Failed to allocate memory for requested buffer of …")
        self._session.run_with_iobinding(binding)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@torch.inference_mode()
def test_fewer_frames_are_run_when_memory_runs_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.randint(256, (4, 3, 56, 56), dtype=torch.uint8)
    wanted = FittingEncoder(OnnxVision(folder, golden_model()), BatchSize(4)).encode_pixels(pixels)
    for times, size in ((2, 1), (3, None)):
        monkeypatch.setattr(
            "onnxruntime.InferenceSession",
            lambda *given, times=times, **options: TightSession(
                CPU_SESSION(*given, **options), times
            ),
        )
        frames_at_once = BatchSize(4)
        encoder = FittingEncoder(OnnxVision(folder, golden_model()), frames_at_once)
        if size is None:
            with pytest.raises(MemoryError, match=r"onnxruntime: .*Failed to allocate memory"):
                encoder.encode_pixels(pixels)
        else:
            torch.testing.assert_close(encoder.encode_pixels(pixels), wanted, **NEAR)
            assert frames_at_once.now == size


def test_a_graph_that_does_not_fit_is_not_taken_for_a_damaged_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        states = onnxruntime.capi.onnxruntime_pybind11_state
        raise states.RuntimeException("CUDA failure 2: out of memory ; GPU=0")

    monkeypatch.setattr("onnxruntime.InferenceSession", no_room)
    with pytest.raises(MemoryError, match="CUDA failure 2"):
        OnnxVision(folder, golden_model())


def test_eight_bit_is_for_the_cpu(request: pytest.FixtureRequest) -> None:
    folder = exported("int8", "vision").path  # first: torch would look for the GPU, too
    request.getfixturevalue("with_gpu")
    with pytest.raises(InputError, match="int8, which runs on the CPU only; export fp16"):
        OnnxVision(folder, golden_model(), provider="cuda")


@pytest.mark.parametrize(("vnni", "file"), [(True, "vision_vnni.onnx"), (False, "vision.onnx")])
def test_eight_bit_takes_the_graph_that_the_cpu_is_exact_on(
    vnni: bool, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    class Noting(sys.modules["onnxruntime"].InferenceSession):
        def __init__(self, path: str, *arguments: object, **options: object) -> None:
            opened.append(Path(path).name)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr("onnxruntime.InferenceSession", Noting)
    monkeypatch.setattr("vidground.features.onnx_encoder._has_vnni", lambda: vnni)
    OnnxVision(exported("int8", "vision").path, golden_model())
    assert opened == [file]


def test_without_onnxruntime_the_remedy_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'vidground\[onnx\]'"):
        OnnxVision(folder, golden_model())


def test_damaged_exports_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no export: there is no export.json"):
        read_export(tmp_path)
    place = shutil.copytree(folder, tmp_path / "copy")
    graph = place / "vision.onnx"
    graph.write_bytes(graph.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"vision.onnx cannot be run: .*export it again"):
        OnnxVision(place, golden_model())
    graph.unlink()
    with pytest.raises(CheckpointError, match=r"has no vision.onnx"):
        read_export(place)
    values = json.loads((place / "export.json").read_text())
    for changed, message in (
        ({"schema_version": 2}, "schema_version 2"),
        ({"parts": {"vision": {}}}, "is damaged"),
        ({"parts": {}}, "names the parts"),
    ):
        (place / "export.json").write_text(json.dumps(values | changed))
        with pytest.raises(CheckpointError, match=message):
            read_export(place)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vision": "tensorflow"}, "it must be 'torch' or 'onnx:DIR'"),
        ({"provider": "cpu"}, "use it with vision='onnx:DIR'"),
    ],
)
def test_other_backends_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grounder(golden_model(), **options)


def test_the_command_line_runs_on_an_export(folder: Path, video: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> int:
        common = ["--model", str(golden_folder()), "--max-new-tokens", "5", "-o", str(tmp_path)]
        given = ["query", str(video), "--text", "a cat", *common, *arguments]
        return CliRunner().invoke(cli, given).exit_code

    assert run("--vision", f"onnx:{folder}", "--provider", "cpu") == 0
    (result,) = load(tmp_path / "six.query.json")
    assert result.provenance.runtime["vision"].startswith("onnxruntime")
    assert run("--provider", "cpu") == 2
    assert run("--vision", "onnx", "--overwrite") == 2
    assert run("--vision", f"onnx:{tmp_path}", "--overwrite") == 1


def test_features_are_kept_for_the_graphs_that_made_them(
    folder: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CacheSettings(folder=str(tmp_path / "cache"))
    model, half = golden_model(), exported("fp16", "vision").path
    plain = Grounder(model, decoding=SHORT, cache=cache)
    fast, other = (
        Grounder(model, decoding=SHORT, cache=cache, vision=f"onnx:{place}")
        for place in (folder, half)
    )
    wanted = [grounder.query(video, "a cat") for grounder in (plain, fast, other)]
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 3
    monkeypatch.setattr(OnnxVision, "encode_frames", None)
    monkeypatch.setattr(type(model), "encode_frames", None)
    assert [grounder.query(video, "a cat") for grounder in (plain, fast, other)] == wanted
