"""Print constraints that hold every package of pyproject.toml at the lowest version it allows.

    python .ci/lowest_versions.py > lowest.txt && pip install -c lowest.txt ".[test]"

torch is left out: older builds for CPUs are not always on offer.
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
NOT_HELD = {"vidground", "torch"}


def lowest(requirements: list[str]) -> dict[str, str]:
    """Return the lower bound of each package that has one."""
    found = {}
    for requirement in map(Requirement, requirements):
        bounds = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        if bounds and requirement.name not in NOT_HELD:
            (found[requirement.name],) = bounds
    return found


def main() -> None:
    """Print a line for each package that the tests use."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    tested = [extra for extra in extras if f"vidground[{extra}]" in extras["test"]]
    names = project["dependencies"] + extras["test"] + [r for e in tested for r in extras[e]]
    for name, version in sorted(lowest(names).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
