"""Execution providers of onnxruntime: which are chosen, and which are refused with a remedy."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, cast

import onnxruntime
import pytest
import torch

from tests.helpers.onnx_exports import exported, golden_model
from vidground import InputError
from vidground.features.onnx_encoder import OnnxVision
from vidground.model.d2vlm import D2VLM

GPU_PROVIDERS = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return exported("fp32", "vision", "compressor").path


def test_onnxruntime_sends_no_usage_reports(tmp_path: Path) -> None:
    program = "from vidground.features import onnx_providers; onnx_providers.provider_faults()"
    environment = {key: os.environ[key] for key in os.environ.keys() - {"ORT_DISABLE_TELEMETRY"}}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert (
        list(tmp_path.rglob("*onnxruntime*")) == []
    )  # it stores reports there before it sends them


def test_unavailable_providers_are_refused(folder: Path) -> None:
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
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(GPU_PROVIDERS))


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_the_cpu_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="was to run on cuda and fell back to cpu"):
        OnnxVision(folder, golden_model(), provider="cuda")
    # Without a requested provider, falling back is accepted.
    assert OnnxVision(folder, golden_model()).provider == "cpu"


class Session:
    """Imitates a session on a GPU; `opened` lists the requested providers with their options."""

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


class OnGpu:
    """A model that claims to be on the second GPU."""

    device = torch.device("cuda", 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(golden_model(), name)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_gpu_runs_cuda_unless_tensorrt_is_requested(
    dtype: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(
        dtype, "vision"
    ).path  # before the GPU is imitated, because torch would use it
    request.getfixturevalue("with_gpu")
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    monkeypatch.setattr("vidground.features.onnx_providers._has_tensorrt", lambda: True)
    monkeypatch.setattr(Session, "opened", [])
    model = cast("D2VLM", OnGpu())
    assert OnnxVision(folder, model).provider == "cuda"
    assert OnnxVision(folder, model, provider="tensorrt").provider == "tensorrt"
    by_default, requested = ([dict([one]) for one in providers] for providers in Session.opened)
    assert [next(iter(one)) for one in by_default] == list(GPU_PROVIDERS[1:])
    assert [next(iter(one)) for one in requested] == list(GPU_PROVIDERS)
    for options in (
        by_default[0][GPU_PROVIDERS[1]],
        *requested[0].values(),
        *requested[1].values(),
    ):
        assert options["device_id"] == 1
    half = requested[0][GPU_PROVIDERS[0]]["trt_fp16_enable"]
    assert half is (dtype == "fp16")


@pytest.mark.usefixtures("with_gpu")
def test_missing_tensorrt_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidground.features.onnx_providers._has_tensorrt", lambda: False)
    with pytest.raises(InputError, match="'tensorrt' here; TensorRT 10 is not installed"):
        OnnxVision(folder, golden_model(), provider="tensorrt")


def test_int8_exports_run_on_the_cpu_only(request: pytest.FixtureRequest) -> None:
    folder = exported(
        "int8", "vision"
    ).path  # before the GPU is imitated, because torch would use it
    request.getfixturevalue("with_gpu")
    with pytest.raises(InputError, match="int8, which runs on the CPU only; export fp16"):
        OnnxVision(folder, golden_model(), provider="cuda")


def test_missing_onnxruntime_is_reported_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'vidground\[onnx\]'"):
        OnnxVision(folder, golden_model())
