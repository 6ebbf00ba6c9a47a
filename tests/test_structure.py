"""Who may import whom, and what stays light: read from the import statements themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FOLDERS = {
    "vidground": "vidground",
    "cli": "vidground.cli",
    "training": "vidground.training",
    "export": "vidground.export",
}

# Top floor first: a package imports only from the rows below its own.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"training", "export", "doctor"},
    {"review", "benchmark"},
    {"grounder", "captioner"},
    {"inference"},
    {"features", "archive", "media"},
    {"results", "checkpoints", "generation"},
    {"video", "model"},
    {"faults"},
    {"storage", "language"},
    {"settings", "devices"},
    {"memory", "outcomes", "progress"},
    {"errors", "version"},
)
UPWARDS = {("model", "checkpoints")}
"""`D2VLM.from_pretrained` and `save_pretrained` load and write checkpoints, when called."""
MOST_MODULES = 20
"""In one package."""

NO_TORCH = (
    "archive.inputs",
    "checkpoints.announcement",
    "checkpoints.cached_models",
    "devices",
    "errors",
    "language.prompts",
    "language.response_parsing",
    "language.tokenizers",
    "memory",
    "results.formats",
    "results.types",
    "settings",
    "storage.atomic",
    "storage.bounded_folder",
    "storage.files",
    "video.info",
)
"""So that `vidground --help` and the process that decodes start without it."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").as_posix().replace("/", ".")
            yield f"{package}.{inner}".removesuffix(".__init__"), path


MODULES = dict(modules())


@cache
def imports(name: str) -> frozenset[str]:
    """What a module imports anywhere, in functions and for types too."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    plain = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return frozenset(
        plain | {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    )


def importers(package: str) -> set[str]:
    return {
        name
        for name in MODULES
        if any(found == package or found.startswith(package + ".") for found in imports(name))
    }


def part(module: str) -> str:
    """The package of vidground that a module belongs to, or the module itself."""
    return module.split(".")[1]


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def test_every_package_has_its_floor() -> None:
    assert {part(name) for name in MODULES if "." in name} == set().union(*FLOORS)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if "." in name))
def test_a_module_imports_only_from_lower_floors(name: str) -> None:
    mine = part(name)
    found = {part(module) for module in imports(name) if module.startswith("vidground.")} - {mine}
    allowed = {other for here, other in UPWARDS if here == mine}
    assert {other for other in found - allowed if floor(other) <= floor(mine)} == set()


def test_what_runs_upwards_is_imported_late() -> None:
    """So that an import that goes up closes no circle."""
    for here, above in UPWARDS:
        for name in (name for name in MODULES if name.startswith(f"vidground.{here}.")):
            top = ast.parse(MODULES[name].read_text(encoding="utf-8")).body
            found = {node.module for node in top if isinstance(node, ast.ImportFrom)}
            assert not {m for m in found if m and m.startswith(f"vidground.{above}.")}, name


def test_packages_stay_small_and_their_init_files_hold_a_docstring_alone() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        assert len(list(folder.glob("*.py"))) <= MOST_MODULES + 1
        init = folder / "__init__.py"
        if folder != ROOT / "vidground":
            body = ast.parse(init.read_text(encoding="utf-8")).body
            assert len(body) == 1, init
            assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init


@pytest.mark.parametrize(
    ("library", "home"),
    [
        (
            "av",
            {
                "video.container_facts",
                "video.nvdec",
                "video.pixels",
                "video.pyav",
                "video.video_file",
                "video.writing",
            },
        ),
        ("onnxruntime", {"features.onnx_providers"}),
        ("ffmpeg", {"media.ffmpeg"}),
        ("imageio_ffmpeg", {"media.ffmpeg"}),
        ("pysubs2", {"results.timed_text"}),
        ("opentimelineio", {"results.editors.edit_lists"}),
        ("jinja2", {"review.report_page"}),
        ("ray", {"archive.ray_connection"}),
    ],
)
def test_one_module_alone_knows_a_library(library: str, home: set[str]) -> None:
    users = {name for name in importers(library) if part(name) not in ("training", "export")}
    assert users == {f"vidground.{name}" for name in home}


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted(m.partition('.')[0] for m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("name", NO_TORCH)
def test_light_modules_load_no_torch(name: str) -> None:
    assert not loaded_by(f"import vidground.{name}") & {"torch", "transformers", "av"}


def test_importing_vidground_is_light_and_names_everything_it_offers() -> None:
    assert not loaded_by("import vidground; dir(vidground)") & {"torch", "transformers", "numpy"}
    import vidground

    for name in vidground.__all__:
        assert getattr(vidground, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = vidground.nothing_like_it
