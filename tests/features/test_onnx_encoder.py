"""The exported vision part computes the same on onnxruntime as on torch."""

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

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
from vidground.features.onnx_folder import check_weights, read_export
from vidground.memory import BatchSize
from vidground.results.formats import load

pytestmark = pytest.mark.smoke


SHORT = DecodingSettings(max_new_tokens=20)

CPU_SESSION = onnxruntime.InferenceSession

NEAR = {"rtol": 1e-3, "atol": 1e-5}  # float32 sums in another order


@pytest.fixture(scope="module")
def folder() -> Path:
    return exported("fp32", "vision", "compressor").path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "six.mp4", frames=60, fps=10)


@pytest.mark.parametrize("cache_bytes", [1, 8 << 20])
@torch.inference_mode()
def test_features_equal_those_of_torch_for_any_number_of_frames_per_run(
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
def test_frames_may_have_any_memory_layout(folder: Path) -> None:
    strided = frames(4).transpose(2, 3)[::2]
    backend, model = OnnxVision(folder, golden_model()), golden_model()
    features = backend.encode_frames(strided)
    torch.testing.assert_close(features, model.encode_frames(strided), **NEAR)


@torch.inference_mode()
def test_parts_that_were_not_exported_run_on_torch() -> None:
    model = golden_model()
    backend = OnnxVision(exported("fp16", "vision").path, model)
    assert backend.dtype == torch.float16
    patches = backend.encode_frames(frames(2).half())
    wanted = model.compress_each(patches.float(), [[7, 8, 9]])
    assert backend.compress_each(patches, [[7, 8, 9]]).equal(wanted)
    assert str(backend).endswith(" on cpu: vision float16")


def test_float16_features_are_accepted_by_a_bfloat16_model(video: Path, tmp_path: Path) -> None:
    folder = exported("fp16", "vision").path
    model = copy.deepcopy(golden_model()).bfloat16()
    for cache in (None, CacheSettings(folder=str(tmp_path), max_gib=1)):
        grounder = Grounder(model, decoding=SHORT, vision=f"onnx:{folder}", cache=cache)
        assert {chunk.patches.dtype for chunk in grounder.encode(video).chunks} == {torch.float16}
        found = grounder.query(video, "a cat")
        assert np.isfinite(found.relevance.values).all()


def test_answers_are_the_same_and_record_the_runtime(folder: Path, video: Path) -> None:
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
    # Features of one encoder are not accepted by an engine with the other.
    encoded = fast.encode(video)
    assert fast.query(encoded, "a cat") == found
    with pytest.raises(InputError, match="the engine uses 'torch'"):
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
    # An export of the vision encoder alone does not depend on the compressor.
    check_weights(exported("fp16", "vision"), other)


class TightSession:
    """A session that runs out of memory a given number of times."""

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
def test_the_batch_is_halved_when_memory_runs_out(
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


def test_a_graph_too_large_for_the_memory_is_not_reported_as_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        states = onnxruntime.capi.onnxruntime_pybind11_state
        raise states.RuntimeException("CUDA failure 2: out of memory ; GPU=0")

    monkeypatch.setattr("onnxruntime.InferenceSession", no_room)
    with pytest.raises(MemoryError, match="CUDA failure 2"):
        OnnxVision(folder, golden_model())


@pytest.mark.parametrize(("vnni", "file"), [(True, "vision_vnni.onnx"), (False, "vision.onnx")])
def test_int8_uses_the_graph_that_the_cpu_computes_exactly(
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


def test_damaged_exports_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no export: there is no export.json"):
        read_export(tmp_path)
    place = shutil.copytree(folder, tmp_path / "copy")
    graph = place / "vision.onnx"
    graph.write_bytes(graph.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"vision.onnx' cannot be run: .*export it again"):
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


def test_cached_features_are_used_for_the_same_graphs_only(
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
