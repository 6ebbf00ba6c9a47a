"""Exported graphs compute what torch computes, say what they are, and are measured truthfully."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result

import vidground
from tests.helpers.onnx_exports import exported, frames, golden_folder, golden_model
from tests.helpers.video_files import make_video
from vidground.cli.main import cli
from vidground.errors import CheckpointError, InputError
from vidground.export import onnx as export_module
from vidground.export.onnx import export_onnx, float_blocks
from vidground.export.parity import Agreement, Difference, Parity, interval_overlaps, measure_parity
from vidground.export.quantization import quantize_products, signed_variant
from vidground.features.onnx_encoder import OnnxVision
from vidground.features.onnx_folder import read_export
from vidground.model.weight_digests import rounded_digest

CPU = ["CPUExecutionProvider"]
NEAR = {"rtol": 1e-4, "atol": 1e-4}


def run(path: Path, **feeds: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=CPU)
    (output,) = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})
    return torch.from_numpy(output)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares tracing: the vision encoder's graph in float32 is that of an earlier export."""
    graph = exported("fp32", "vision", "compressor").path / "vision.onnx"
    monkeypatch.setitem(export_module._TRACERS, "vision", lambda *_: ir.load(graph))


@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_the_vision_graph_equals_torch_for_any_number_of_frames(count: int) -> None:
    export = exported("fp32", "vision", "compressor")
    found = run(export.path / "vision.onnx", pixel_values=frames(count))
    torch.testing.assert_close(found, golden_model().encode_frames(frames(count)), **NEAR)


@pytest.mark.parametrize(("count", "words"), [(1, 1), (3, 9)])
@torch.inference_mode()
def test_the_compressor_graph_equals_torch_for_any_question(count: int, words: int) -> None:
    export = exported("fp32", "vision", "compressor")
    patches = golden_model().encode_frames(frames(count))
    ids = torch.arange(5, 5 + count * words).reshape(count, words)
    mask = torch.ones_like(ids)
    mask[:1, words // 2 + 1 :] = 0  # the first question is padded
    found = run(
        export.path / "compressor.onnx", patches=patches, question_ids=ids, question_mask=mask
    )
    torch.testing.assert_close(found, golden_model().compress(patches, ids, mask), **NEAR)


def test_an_export_describes_its_model() -> None:
    export, model = exported("fp32", "vision", "compressor"), golden_model()
    details = json.loads((export.path / "export.json").read_text())
    assert details["model"] == str(golden_folder())
    assert details["vidground_version"] == vidground.__version__
    assert (details["opset"], details["dtype"]) == (20, "float32")
    assert details["preprocessing"]["image_size"] == 56
    assert details["preprocessing"]["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert details["preprocessing"]["std"] == [0.26862954, 0.26130258, 0.27577711]
    for part in ("vision", "compressor"):
        graph = onnx.load(export.path / f"{part}.onnx")
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        digest = rounded_digest(getattr(model, part))
        assert details["parts"][part]["weights_digest"] == digest
        assert properties["vidground.weights_digest"] == digest
        assert properties["vidground.model"] == str(golden_folder())
        assert json.loads(properties["vidground.preprocessing"]) == details["preprocessing"]
        assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 20
    assert read_export(export.path) == export


@pytest.mark.usefixtures("traced")
def test_large_weights_are_stored_in_a_separate_file(tmp_path: Path) -> None:
    whole = exported("fp32", "vision", "compressor").path / "vision.onnx"
    beside = export_onnx(golden_model(), tmp_path, external_bytes=100_000).path / "vision.onnx"
    data = tmp_path / "vision.onnx.data"
    assert beside.stat().st_size < 300_000 < data.stat().st_size
    assert run(beside, pixel_values=frames(2)).equal(run(whole, pixel_values=frames(2)))
    # An export in its place that does not need the file takes it away.
    export_onnx(golden_model(), tmp_path)
    assert not data.exists()
    assert run(beside, pixel_values=frames(1)).equal(run(whole, pixel_values=frames(1)))


@torch.inference_mode()
def test_half_precision_graphs_have_half_precision_inputs_and_outputs() -> None:
    export = exported("fp16", "vision")
    found = run(export.path / "vision.onnx", pixel_values=frames(2).half())
    assert found.dtype == torch.float16
    wanted = golden_model().encode_frames(frames(2))
    assert (found - wanted).abs().max() < 0.01 * wanted.abs().max()


@pytest.mark.usefixtures("traced")
@torch.inference_mode()
def test_eight_bit_graphs_are_close_and_a_third_of_the_size() -> None:
    export = exported("int8", "vision")
    found = run(export.path / "vision.onnx", pixel_values=frames(3))
    wanted = golden_model().encode_frames(frames(3))
    assert 0.999 < torch.cosine_similarity(found, wanted, dim=-1).min() < 0.9999999
    part = export.parts["vision"]
    assert (part.file, part.vnni_file, part.dtype) == ("vision.onnx", "vision_vnni.onnx", "int8")
    whole = exported("fp32", "vision", "compressor").path / "vision.onnx"
    assert (export.path / "vision.onnx.data").stat().st_size < 0.34 * whole.stat().st_size
    operators = [node.op_type for node in onnx.load(export.path / part.file).graph.node]
    assert operators.count("MatMulIntegerToFloat") == 3 * 4


@pytest.mark.usefixtures("traced")
def test_an_earlier_export_leaves_no_graphs_behind(tmp_path: Path) -> None:
    export_onnx(golden_model(), tmp_path, dtype="int8")
    export_onnx(golden_model(), tmp_path, parts=("compressor",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compressor.onnx", "export.json"]


@pytest.mark.usefixtures("traced")
def test_chosen_blocks_stay_in_float(tmp_path: Path) -> None:
    export = export_onnx(golden_model(), tmp_path, dtype="int8", blocks_in_float=2)
    operators = [node.op_type for node in onnx.load(tmp_path / "vision.onnx").graph.node]
    assert operators.count("MatMulIntegerToFloat") == 4
    assert export.details["blocks_in_float"] == 2
    assert (float_blocks(39), float_blocks(3)) == (2, 0)


def product_graph(weights: np.ndarray, *, gelu: bool) -> ir.Model:
    """x (rows, in) times weights, behind a Gelu or not."""
    given = ir.val("x", ir.DataType.FLOAT, ["rows", weights.shape[0]])
    constant = ir.val("w", const_value=ir.tensor(weights, name="w"))
    first = ir.node("Gelu", [given]) if gelu else ir.node("Identity", [given])
    product = ir.node("MatMul", [first.outputs[0], constant])
    last = ir.node("Identity", product.outputs)
    last.outputs[0].name = "y"
    last.outputs[0].dtype = ir.DataType.FLOAT
    nodes = [first, product, last]
    graph = ir.Graph([given], last.outputs, nodes=nodes, opset_imports={"": 20})
    graph.register_initializer(constant)
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("gelu", [False, True])
def test_an_eight_bit_product_is_the_rounded_one_row_by_row(tmp_path: Path, gelu: bool) -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(32, 8)).astype(np.float32)
    weights[1::2] = 0  # so that no sum of two products runs over on CPUs without VNNI
    x = torch.from_numpy(random.normal(size=(5, 32)).astype(np.float32))
    x[3] = 0
    # By hand: weights in 127ths of their column's largest, inputs in 127ths of their row's
    # largest, or behind a Gelu in 255ths of the way up from its lowest value.
    low = -0.16997121
    inputs = torch.nn.functional.gelu(x).numpy() if gelu else x.numpy()
    above = inputs - low if gelu else inputs
    step = np.maximum(np.abs(above).max(1, keepdims=True), 1e-12) / (255 if gelu else 127)
    rounded = np.rint(above / step) * step + (low if gelu else 0)
    scale = np.abs(weights).max(0) / 127
    wanted = rounded @ (np.rint(weights / scale) * scale)

    model = product_graph(weights, gelu=gelu)
    assert quantize_products(model.graph) == 1
    ir.save(model, tmp_path / "unsigned.onnx")
    signed_variant(model.graph)
    ir.save(model, tmp_path / "signed.onnx")
    found = run(tmp_path / "unsigned.onnx", x=x)
    # A value that lies between two steps may go to either; no more than that.
    np.testing.assert_allclose(found, wanted, atol=float(step.max() * scale.max() * 127))
    assert np.abs(found.numpy() - wanted).mean() < 1e-4
    assert run(tmp_path / "signed.onnx", x=x).equal(found)
    # A row's product does not depend on the other rows.
    large = torch.cat((x, 100 * torch.ones(1, 32)))
    assert run(tmp_path / "unsigned.onnx", x=large)[:5].equal(found)
    assert run(tmp_path / "unsigned.onnx", x=x[:1]).equal(found[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, "it must be one of fp32, fp16, int8"),
        ({"parts": ("head",)}, "they must be of vision, compressor"),
        ({"parts": ()}, "they must be of vision, compressor"),
        ({"dtype": "int8", "parts": ("compressor",)}, "int8 is for the vision encoder"),
        ({"blocks_in_float": 1}, "with fp32 all blocks are in float"),
        ({"dtype": "int8", "blocks_in_float": 3}, "blocks_in_float is 3; it must be from 0 to 2"),
    ],
)
def test_impossible_exports_are_refused(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(golden_model(), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "four.mp4", frames=40, fps=10)


def test_parity_covers_features_and_answers(
    video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vidground.export.parity._ANSWER_TOKENS", 40)
    export = exported("fp32", "vision", "compressor")
    parity = measure_parity(golden_model(), export, [video])
    assert parity.passed
    assert parity.frames == 4
    assert parity.parts["vision"].features == 4 * 16
    assert parity.parts["compressor"].features == 4
    assert 0 < parity.parts["vision"].largest < 1e-4
    assert parity.agreement is not None
    assert (parity.agreement.answers, parity.agreement.complete) == (1, True)
    parity.save(tmp_path)
    saved = json.loads((tmp_path / "parity.json").read_text())
    assert saved["passed"] is True
    assert saved["parts"]["vision"]["largest"] == parity.parts["vision"].largest


@pytest.mark.usefixtures("traced")
def test_parity_fails_above_the_tolerance(video: Path) -> None:
    export = exported("int8", "vision")
    near = measure_parity(golden_model(), export, [video], answers=False)
    assert near.passed
    assert near.tolerance == 1e-3
    error = near.parts["vision"].error
    assert error > 1e-9
    far = measure_parity(golden_model(), export, [video], answers=False, tolerance=error / 2)
    assert not far.passed


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_features_that_are_not_finite_fail(
    video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: float
) -> None:
    """As when a graph in half precision overflows."""
    encode = OnnxVision.encode_frames

    def overflow(vision: OnnxVision, pixel_values: torch.Tensor) -> torch.Tensor:
        features = encode(vision, pixel_values)
        features[0, 3, 7] = number
        return features

    monkeypatch.setattr(OnnxVision, "encode_frames", overflow)
    export = exported("fp32", "vision", "compressor")
    parity = measure_parity(golden_model(), export, [video], answers=False)
    assert not parity.passed
    assert parity.parts["vision"].error == 2
    parity.save(tmp_path)
    assert not {"NaN", "Infinity"} & set((tmp_path / "parity.json").read_text().split())


def test_parity_compares_the_requested_frames(video: Path) -> None:
    export = exported("fp32", "vision", "compressor")
    parity = measure_parity(golden_model(), export, [video, video], answers=False, max_frames=6)
    assert (parity.frames, parity.agreement) == (6, None)
    with pytest.raises(InputError, match="0 videos"):
        measure_parity(golden_model(), export, [])


def test_a_different_answer_fails_in_float32() -> None:
    part = Difference(1, 0.0, 0.0, 1.0, 1.0)
    other = Agreement(answers=2, same_tokens=1, intervals=3, same_intervals=3, agreeing_intervals=3)
    parity = Parity(("a.mp4",), 1, "float32", "", 1e-5, {"vision": part}, other)
    assert not parity.passed
    assert Parity(("a.mp4",), 1, "int8", "", 1e-5, {"vision": part}, other).passed


def test_intervals_are_compared_in_order() -> None:
    def answer(*spans: tuple[int, int]) -> SimpleNamespace:
        return SimpleNamespace(evidence=[SimpleNamespace(first=a, last=b) for a, b in spans])

    mine = answer((0, 4), (10, 13), (20, 21))
    other = answer((0, 4), (12, 15))
    assert interval_overlaps(mine, other) == [1.0, 2 / 6, 0.0]


def export_command(*arguments: str | Path) -> Result:
    given = ["export", "onnx", "--model", golden_folder(), "--features-only", *arguments]
    return CliRunner().invoke(cli, [str(argument) for argument in given])


@pytest.mark.usefixtures("traced")
def test_the_command_exports_and_compares(video: Path, tmp_path: Path) -> None:
    done = export_command("--out", tmp_path / "new", "--frames", video, "--dtype", "int8")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "passed: tolerance 0.001" in done.stderr
    assert json.loads((tmp_path / "new" / "parity.json").read_text())["passed"]
    assert read_export(tmp_path / "new").dtype == "int8"
    again = export_command("--out", tmp_path / "new", "--frames", video)
    assert again.exit_code == 1
    assert "is not empty; give another folder, or --overwrite" in again.stderr


@pytest.mark.usefixtures("traced")
def test_the_command_fails_above_the_tolerance(video: Path, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path, "--frames", video, "--dtype", "int8", "--tolerance", "1e-9")
    done = export_command(*arguments)
    assert done.exit_code == 1
    assert "FAILED: tolerance 1e-09" in done.stderr
    assert "--float-blocks leaves more" in done.stderr
    assert not json.loads((tmp_path / "parity.json").read_text())["passed"]


def test_the_command_names_missing_options_and_packages(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_frames = export_command("--out", tmp_path)
    assert no_frames.exit_code == 2
    assert "Give --frames VIDEO" in no_frames.stderr
    blocks = export_command("--out", tmp_path, "--frames", video, "--float-blocks", "1")
    assert blocks.exit_code == 2
    nothing = export_command("--out", tmp_path, "--frames", video, "--tolerance", "nan")
    assert nothing.exit_code == 2
    broken = tmp_path.with_suffix(".mp4")
    broken.write_bytes(b"no video")
    unread = export_command("--out", tmp_path, "--frames", video, "--frames", broken)
    assert unread.exit_code == 1
    assert broken.name in unread.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    no_tools = export_command("--out", tmp_path, "--frames", video)
    assert no_tools.exit_code == 1
    assert "exporting needs onnx, onnxscript, onnxruntime; pip install" in no_tools.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("traced")
def test_an_interrupted_export_is_not_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(golden_model(), tmp_path)

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(export_module._TRACERS, "vision", fails)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(golden_model(), tmp_path)
    with pytest.raises(CheckpointError, match="holds no export"):
        read_export(tmp_path)
