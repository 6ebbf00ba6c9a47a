"""Check the versions of Python and of the libraries against the bounds of the package."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TYPE_CHECKING

from vidground.doctor.findings import Finding, failed, ok, skipped, warning

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_PACKAGE = "vidground"
_FOR_DEVELOPERS = frozenset({"test", "dev"})


@dataclass
class _Library:
    """A declared dependency; `extras` names those that require it."""

    name: str
    bounds: SpecifierSet
    extras: list[str] = field(default_factory=list)
    needed: bool = False


def check_python() -> Iterator[Finding]:
    """Check the interpreter against Requires-Python."""
    found, bounds = platform.python_version(), metadata(_PACKAGE)["Requires-Python"] or ""
    values = {
        "version": found,
        "bounds": bounds,
        "implementation": platform.python_implementation(),
    }
    message = f"{platform.python_implementation()} {found} (needs {bounds or 'any'})"
    try:
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:
        yield ok("interpreter", message, **values)
        return
    if SpecifierSet(bounds).contains(found, prereleases=True):
        yield ok("interpreter", message, **values)
    else:
        yield failed("interpreter", message, f"make an environment with Python {bounds}", **values)


def check_libraries() -> Iterator[Finding]:
    """Check every declared library, except those for development, against its bounds.

    Libraries that only an extra requires may be missing.
    """
    own = version(_PACKAGE)
    yield ok(_PACKAGE, own, version=own)
    try:
        libraries = _declared()
    except ModuleNotFoundError as error:
        yield skipped("bounds", f"versions cannot be compared with the bounds: {error}")
        return
    absent = []
    for library in libraries:
        try:
            found = version(library.name)
        except PackageNotFoundError:
            if library.needed:
                yield failed(
                    library.name, "not installed", _install(library), version=None,
                    bounds=_shown(library),
                )  # fmt: skip
            else:
                absent.append(f"{library.name} ({', '.join(library.extras)})")
            continue
        yield _compared(library, found)
    if absent:
        yield skipped(
            "extras", f"not installed, each required by its extra only: {', '.join(absent)}"
        )


def _compared(library: _Library, found: str) -> Finding:
    bounds = _shown(library)
    values = {"version": found, "bounds": bounds, "extras": library.extras}
    if library.bounds.contains(found, prereleases=True):
        return ok(library.name, f"{found} (needs {bounds or 'any'})", **values)
    return failed(library.name, f"{found} is outside {bounds}", _install(library), **values)


def _install(library: _Library) -> str:
    return f"pip install '{library.name}{_shown(library)}'"


def _shown(library: _Library) -> str:
    """Return the bounds without repetitions; several extras may state the same."""
    return ",".join(sorted({str(bound) for bound in library.bounds}, reverse=True))


def _declared() -> list[_Library]:
    """Return the declared dependencies, those of extras last.

    Raises:
        ModuleNotFoundError: `packaging`, which parses them, is not installed.
    """
    from packaging.requirements import Requirement

    extras = set(metadata(_PACKAGE).get_all("Provides-Extra") or ()) - _FOR_DEVELOPERS
    libraries: dict[str, _Library] = {}
    for line in requires(_PACKAGE) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        needed = marker is None or marker.evaluate({"extra": ""})
        asking = [] if needed else [e for e in extras if marker and marker.evaluate({"extra": e})]
        if requirement.name == _PACKAGE or not (needed or asking):
            continue
        name = requirement.name.lower().replace("_", "-")
        library = libraries.setdefault(name, _Library(requirement.name, requirement.specifier))
        library.bounds &= requirement.specifier
        library.extras = sorted({*library.extras, *asking})
        library.needed = library.needed or needed
    return sorted(libraries.values(), key=lambda library: not library.needed)


def check_torch_build() -> Iterator[Finding]:
    """Check which devices torch was built for."""
    import torch

    from vidground.doctor.machine import nvidia_driver

    cuda, driver = torch.version.cuda, nvidia_driver()
    values = {"version": torch.__version__, "cuda": cuda, "driver": driver}
    if cuda is not None:
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        yield ok("torch", f"built for CUDA {cuda}, cuDNN {cudnn}", cudnn=cudnn, **values)
    elif driver is None:
        yield ok("torch", "built for the CPU only", **values)
    else:
        yield warning(
            "torch",
            f"built for the CPU only, though the machine has an NVIDIA driver ({driver})",
            "install a torch built for CUDA (https://pytorch.org/get-started/locally) to use the "
            "GPU",
            **values,
        )


def check_video_libraries() -> Iterator[Finding]:
    """Report the FFmpeg libraries bundled with PyAV."""
    from vidground.video.writing import codec_libraries

    versions = codec_libraries()
    yield ok("PyAV", ", ".join(f"{name} {number}" for name, number in versions.items()), **versions)
