"""The vision part on onnxruntime gives what torch gives, and refuses what it cannot do."""

import copy
import json
import shutil
import sys
from pathlib import Path

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
from vidground.features.onnx_encoder import OnnxVision
from vidground.features.onnx_folder import check_weights, read_export, weights_digest
from vidground.results.formats import load

pytestmark = pytest.mark.smoke


SHORT = DecodingSettings(max_new_tokens=20)

NEAR = {"rtol": 1e-3, "atol": 1e-5}  # sums of 32-bit numbers in another order


@pytest.fixture(scope="module")
def folder() -> Path:
    return exported("fp32", "vision", "compressor").path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "six.mp4", frames=60, fps=10)


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
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_the_cpu_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="was to run on cuda and fell back to cpu"):
        OnnxVision(folder, golden_model(), provider="cuda")
    # Nobody asked for more than the model's own device.
    assert OnnxVision(folder, golden_model()).provider == "cpu"


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
