"""Check that a wheel holds every file of the packages, and that each module imports."""

import sys
import zipfile
from importlib import import_module
from pathlib import Path

FOLDERS = {
    "vidground": "vidground",
    "cli": "vidground/cli",
    "training": "vidground/training",
    "export": "vidground/export",
}
SUFFIXES = (".py", ".typed", ".yaml", ".json", ".safetensors", ".j2", ".css", ".js")


def main() -> None:
    """Compare the checkout (first argument) with the wheel (second), then import it all."""
    checkout, wheel = Path(sys.argv[1]), Path(sys.argv[2])
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"{target}/{path.relative_to(checkout / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (checkout / folder).rglob("*")
        if path.suffix in SUFFIXES
    }
    packaged = {name for name in names if Path(name).suffix in SUFFIXES}
    if packaged != expected:
        sys.exit(f"missing: {sorted(expected - packaged)}; extra: {sorted(packaged - expected)}")
    for name in sorted(expected):
        if name.endswith(".py") and not name.endswith("__init__.py"):
            module = import_module(name.removesuffix(".py").replace("/", "."))
            if checkout in Path(str(module.__file__)).parents:
                sys.exit(f"{name} was imported from the checkout, not from the wheel")
    print(f"{len(expected)} files in the wheel, and every module imports")


if __name__ == "__main__":
    main()
