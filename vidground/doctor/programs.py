"""Check ffmpeg, and onnxruntime with its providers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vidground.doctor.findings import Finding, failed, ok, skipped, warning
from vidground.doctor.places import short_path
from vidground.media.ffmpeg import FfmpegError, find_program

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def check_ffmpeg() -> Iterator[Finding]:
    """Report which ffmpeg is used; only `vidground clip`, `burn` and `mux` need one."""
    try:
        program = find_program()
    except FfmpegError as error:
        message, _, remedy = str(error).rpartition("; ")
        yield warning(
            "ffmpeg", f"{message} (needed by vidground clip, burn and mux only)", remedy,
            version=None,
        )  # fmt: skip
        return
    path = short_path(Path(program.path))
    yield ok(
        "ffmpeg",
        f"{program.version} ({program.origin}: {path})",
        version=program.version,
        origin=program.origin,
        path=path,
    )


def check_onnxruntime() -> Iterator[Finding]:
    """Check which onnxruntime is installed, and which providers can compute a tiny graph."""
    installed = {name: found for name in _RUNTIMES if (found := _version(name)) is not None}
    if not installed:
        yield skipped("onnxruntime", "not installed; needed for --vision onnx:DIR only")
        return
    named = " and ".join(f"{name} {number}" for name, number in installed.items())
    if len(installed) > 1:
        yield failed(
            "packages",
            f"{named} are both installed, and the one installed last has overwritten the other",
            f"pip uninstall -y {' '.join(installed)}, then install one of them",
            packages=installed,
        )
    else:
        yield ok("packages", named, packages=installed)
    from vidground.features.onnx_providers import provider_faults

    for name, fault in provider_faults().items():
        if fault is None:
            yield ok(f"provider {name}", "opens a session and computes with it")
        else:
            yield failed(
                f"provider {name}",
                fault,
                "install the CUDA and cuDNN that this onnxruntime was built for, or use "
                "provider 'cpu'"
                if name != "cpu"
                else f"install it again: pip install --force-reinstall {' '.join(installed)}",
            )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
