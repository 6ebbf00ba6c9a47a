"""Exported graphs that are not what they say: refused before they run in this process."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidground.errors import CheckpointError
from vidground.features import onnx_trial
from vidground.features.onnx_trial import Interface, require_sound

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
INTERFACE = Interface({"x": (4,)}, (), (4,))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder without results of earlier trials."""
    monkeypatch.setenv("VIDGROUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache-exports"


def value(name: str, shape: list[Any], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: list[Any] | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
) -> Any:
    """A model that returns x, but for what is given."""
    made = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])] if nodes is None else nodes,
        "g",
        [value("x", ["n", 4])] if inputs is None else inputs,
        [value("y", ["n", 4])] if outputs is None else outputs,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless() -> Any:
    """A model with a loop that never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["more"]),
            helper.make_node("Add", ["a", "a"], ["b"]),
        ],
        "body",
        [
            value("i", [], onnx.TensorProto.INT64),
            value("go", [], onnx.TensorProto.BOOL),
            value("a", ["n", 4]),
        ],
        [value("more", [], onnx.TensorProto.BOOL), value("b", ["n", 4])],
    )
    yes = helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Constant", [], ["go0"], value=yes),
        helper.make_node("Loop", ["", "go0", "x"], ["y"], body=body),
    ]
    return graph(nodes)


def cast(kind: int) -> list[Any]:
    return [helper.make_node("Cast", ["x"], ["y"], to=kind)]


def changed(**changes: Any) -> Callable[[], Any]:
    return lambda: graph(**changes)


DOUBLE, INT64 = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64
HOSTILE = {
    "integers": (changed(nodes=cast(INT64), outputs=[value("y", ["n", 4], INT64)]), "returns"),
    "doubles": (changed(nodes=cast(DOUBLE), outputs=[value("y", ["n", 4], DOUBLE)]), "returns"),
    "no node": (changed(nodes=[]), "cannot be run"),
    "other name": (
        changed(nodes=[helper.make_node("Identity", ["z"], ["y"])], inputs=[value("z", ["n", 4])]),
        "takes z; expected is x",
    ),
    "other type": (
        changed(nodes=cast(FLOAT), inputs=[value("x", ["n", 4], DOUBLE)]),
        "takes x as tensor(double)",
    ),
    "other rank": (changed(inputs=[value("x", ["n", 4, 1])]), "takes x of shape"),
    "fixed batch": (
        changed(inputs=[value("x", [1, 4])], outputs=[value("y", [1, 4])]),
        "cannot be run",
    ),
    "other width": (changed(outputs=[value("y", ["n", 5])]), "declares an output of shape"),
    "two outputs": (
        changed(
            nodes=[
                helper.make_node("Identity", ["x"], ["y"]),
                helper.make_node("Neg", ["x"], ["z"]),
            ],
            outputs=[value("y", ["n", 4]), value("z", ["n", 4])],
        ),
        "has 2 outputs",
    ),
    "fewer frames": (
        changed(
            nodes=[helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
            outputs=[value("y", ["m", 4])],
        ),
        "(declares|returns|cannot be run)",
    ),
}


def saved(folder: Path, model: Any) -> Path:
    onnx.save(model, folder / "g.onnx")
    return folder / "g.onnx"


def tried(file: Path, digest: str = "d") -> None:
    require_sound(file, INTERFACE, ["CPUExecutionProvider"], digest=digest)


@pytest.mark.parametrize(("make", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_graph_is_refused(
    tmp_path: Path, cache: Path, make: Callable[[], Any], reason: str
) -> None:
    file = saved(tmp_path, make())
    with pytest.raises(CheckpointError) as error:
        tried(file)
    assert "export it again" in str(error.value)
    assert "\n" not in str(error.value)
    assert re.search(reason if reason.startswith("(") else re.escape(reason), str(error.value))
    assert not cache.exists()


def test_a_graph_that_never_ends_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_trial, "LIMIT_S", 5.0)
    with pytest.raises(CheckpointError, match="did not compute 2 frames in 5 s"):
        tried(saved(tmp_path, endless()))


def test_files_in_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("onnxruntime.py").write_text("open('ran', 'w')")
    tried(saved(tmp_path, graph()))
    assert not Path("ran").exists()


def test_a_process_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(CheckpointError, match=r"crashes onnxruntime \(exit code 1\)"):
        tried(saved(tmp_path, graph()))


def test_a_sound_graph_is_tried_once_for_its_content(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path, graph())
    tried(file)
    assert [path.name for path in cache.rglob("*.passed")] == ["d-g.onnx.passed"]
    monkeypatch.setattr("sys.executable", "/bin/false")
    tried(file)
    with pytest.raises(CheckpointError):
        tried(file, digest="changed")
