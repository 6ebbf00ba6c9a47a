"""Free memory is what can be used, and running out of it is known from whatever says so."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.stated_cards import GIB, StatedCard, state_cards
from vidground.memory import (
    BatchSize,
    container_limit_bytes,
    free_bytes,
    in_parts,
    is_out_of_memory,
    system_free_bytes,
)

CPU = torch.device("cpu")
UNLIMITED_V1 = 9223372036854771712


def test_free_memory_is_measured() -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert whole // 256 < free_bytes(CPU) <= whole


class Host:
    """The files of a Linux system that tell of memory, in a folder."""

    def __init__(self, root: Path, available_gib: float = 64) -> None:
        self.root = root
        self._write(
            "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable: {int(available_gib * 2**20)} kB"
        )

    def groups(self, cgroup: str, *mounts: str) -> None:
        """Lines of /proc/self/cgroup, and of /proc/self/mountinfo."""
        self._write("proc/self/cgroup", cgroup)
        others = "23 1 0:21 / /proc rw - proc proc rw\n24 1 0:22 / /mnt/x rw - fuse.x  rw\n"
        self._write("proc/self/mountinfo", others + "\n".join(mounts))

    def group(self, path: str, **files: object) -> None:
        """A control group's files; a dot in a name is written as two underscores."""
        for name, content in files.items():
            self._write(f"sys/fs/cgroup/{path}/{name.replace('__', '.')}", str(content))

    def free_gib(self) -> float:
        return system_free_bytes(self.root) / GIB

    def limit_gib(self) -> float | None:
        limit = container_limit_bytes(self.root)
        return None if limit is None else limit / GIB

    def _write(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


V2_MOUNT = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


def test_without_limits_it_is_what_the_system_has(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.free_gib() == 64
    assert host.limit_gib() is None
    host.groups("0::/user.slice", V2_MOUNT)
    host.group("user.slice", memory__max="max", memory__high="max", memory__current=5)
    assert host.free_gib() == 64
    assert host.limit_gib() is None


def test_a_container_is_limited_to_its_share(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.groups("0::/", V2_MOUNT)  # in a namespace of its own the group is the top
    host.group(
        "",
        memory__max=4 * GIB,
        memory__current=3 * GIB,
        memory__stat=f"anon 9\ninactive_file {GIB // 2}\nactive_file {GIB}",
    )
    assert host.limit_gib() == 4
    assert host.free_gib() == 1.5  # the idle file cache makes room
    Host(tmp_path, available_gib=1)
    assert host.free_gib() == 1  # of a small host a container gets no more than there is


def test_the_tightest_of_all_groups_above_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    host.groups("0::/slurm/job_7/step_0", V2_MOUNT)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 30, "SC_PAGE_SIZE": 512}.get)
    host.group("slurm", memory__max=100 * GIB, memory__current=90 * GIB)
    host.group("slurm/job_7", memory__max="max", memory__high=6 * GIB, memory__current=2 * GIB)
    host.group("slurm/job_7/step_0", memory__max=30 * GIB, memory__current=2 * GIB)
    assert host.free_gib() == 4
    assert host.limit_gib() == 6
    host.group("slurm/job_7", memory__high=GIB)  # which it is above already
    assert host.free_gib() == 0


V1_MOUNTS = (
    "31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    "32 1 0:28 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    "33 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
)
V1_GROUPS = "4:memory:/docker/c1\n3:cpu,cpuacct:/docker/c1\n1:name=systemd:/\n0::/"


@pytest.mark.parametrize(
    ("top", "group"),
    [("/", "docker/c1"), ("/docker/c1", ""), ("/elsewhere", "")],  # outside, and in containers
)
def test_version_1_of_control_groups(tmp_path: Path, top: str, group: str) -> None:
    host = Host(tmp_path)
    host.groups(V1_GROUPS, *(mount.format(top=top) for mount in V1_MOUNTS))
    files = {
        "memory__limit_in_bytes": 8 * GIB,
        "memory__usage_in_bytes": 6 * GIB,
        "memory__stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
    }
    host.group(f"memory/{group}", **files)
    if group:
        host.group("memory", memory__limit_in_bytes=UNLIMITED_V1, memory__usage_in_bytes=GIB)
    host.group("cpu/docker/c1", **(files | {"memory__limit_in_bytes": 1}))  # no business of memory
    assert host.free_gib() == 3
    assert host.limit_gib() == 8


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert system_free_bytes(tmp_path) == whole // 2


@pytest.mark.parametrize(
    ("card", "gib"),
    [
        (StatedCard(free=9), 9),
        # Of 7 GiB that the driver counts as used, torch holds 4 without using them.
        (StatedCard(free=9, reserved=6, allocated=2), 13),
        (StatedCard(free=9, reserved=6, allocated=2, fraction=0.5), 6),
        (StatedCard(free=1, reserved=6, allocated=2, fraction=0.5), 5),
        (StatedCard(free=9, reserved=6, allocated=6, fraction=0.25), 0),
    ],
)
def test_memory_of_a_card(card: StatedCard, gib: float, monkeypatch: pytest.MonkeyPatch) -> None:
    state_cards(monkeypatch, StatedCard(free=3), card)
    assert free_bytes(torch.device("cuda:1")) == gib * GIB
    assert free_bytes(torch.device("cuda")) == gib * GIB  # the current one
    assert free_bytes(torch.device("cuda:0")) == 3 * GIB


def error_of(home: str, name: str, message: str) -> Exception:
    """An error of a class of onnxruntime."""
    kind: type[Exception] = getattr(pytest.importorskip(home), name)
    return kind(message)


ORT = "onnxruntime.capi.onnxruntime_pybind11_state"
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv "
    "node. Name:'/embeddings/Conv' Status Message: /onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 2830172160"
)
CALL = (
    "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/providers/cuda/"
    "cuda_call.cc:121 CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; expr=cudaStreamCreate"
)
CUBLAS = "[ONNXRuntimeError] : 1 : FAIL : CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be …"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GiB)"),
        error_of(ORT, "RuntimeException", ARENA),
        error_of(ORT, "Fail", CALL),
        error_of(ORT, "Fail", CUBLAS),
        error_of(
            ORT, "RuntimeException", "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"
        ),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[-40:]}",
)
def test_running_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "out of memory.mp4"),
        ValueError("out of memory"),  # no library says it so
        error_of(ORT, "InvalidArgument", "[ONNXRuntimeError] : 2 : Got invalid dimensions"),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[-40:]}",
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_torch_raises_where_memory_is_short() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_what_onnxruntime_raises_where_memory_is_short() -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Expand", ["value", "shape"], ["much"])],
        "much",
        [
            helper.make_tensor_value_info("value", kinds.FLOAT, [1]),
            helper.make_tensor_value_info("shape", kinds.INT64, [1]),
        ],
        [helper.make_tensor_value_info("much", kinds.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model.SerializeToString(), options)
    with pytest.raises(Exception, match="memory") as caught:
        session.run(None, {"value": np.ones(1, np.float32), "shape": np.array([1 << 45])})
    assert not isinstance(caught.value, RuntimeError | MemoryError)
    assert is_out_of_memory(caught.value)


def test_a_size_only_falls() -> None:
    size = BatchSize(2)
    size.halve(8)  # of a batch that began before others made it smaller
    assert size.now == 2


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), error_of(ORT, "Fail", CALL)],
    ids=lambda error: type(error).__name__,
)
def test_parts_are_halved_until_they_fit(error: Exception) -> None:
    sizes: list[int] = []

    def double(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 3:
            raise error
        return 2 * part

    size = BatchSize(12)
    assert in_parts(double, torch.arange(8), size).tolist() == list(range(0, 16, 2))
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert size.now == 2  # and stays


def test_one_that_does_not_fit_and_other_errors_are_raised() -> None:
    def no_room(_: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(MemoryError):
        in_parts(no_room, torch.arange(4), BatchSize(4))
    with pytest.raises(RuntimeError, match="shapes differ"):
        in_parts(broken, torch.arange(4), BatchSize(4))
