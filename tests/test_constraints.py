"""constraints.txt: whether it locks all that is tested, for every supported Python, in bounds."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def requirements() -> list[Requirement]:
    """What `.[dev,test,docs]` asks for itself, with the extras that it consists of."""
    asked = [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["test"], *EXTRAS["docs"]]
    found = [Requirement(text) for text in asked]
    for requirement in found:
        if requirement.name == "vidground":
            found += [Requirement(text) for extra in requirement.extras for text in EXTRAS[extra]]
    return [requirement for requirement in found if requirement.name != "vidground"]


def locked(python: str) -> dict[str, Version]:
    """The one version of each package for a Python on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    versions: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in versions, line
            versions[canonicalize_name(pin.name)] = Version(specifier.version)
    return versions


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_tested_is_locked_within_its_bounds(python: str) -> None:
    versions = locked(python)
    for requirement in requirements():
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_older_pythons_have_the_versions_they_can_run() -> None:
    assert locked("3.11")["av"].major == 18
    assert {locked(python)["av"].major for python in PYTHONS[1:]} == {19}


def test_the_project_names_the_pythons_it_is_for() -> None:
    start = "Programming Language :: Python :: 3."
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(start)]
    assert tuple(named) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
