"""Who may import whom, and what stays light: read from the import statements themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PACKAGES = {
    "vidground": "vidground",
    "cli": "vidground.cli",
    "training": "vidground.training",
    "export": "vidground.export",
}

# Lower layers first; a module may import its own layer and those before it.
LAYERS = (
    {"errors", "settings", "types", "progress", "plaintext"},
    {"configuration", "batch_sizes", "files", "atomic", "quality", "windows", "sampling", "cues"},
    {"bounded_folder", "row_file"},
    {"overlaps", "shaping", "editing"},
    {"packets", "bitstream", "timeline"},
    {"chapters", "timed_text", "edit_lists", "fcpxml", "result_files"},
    {"subtitles", "tables", "documents", "formats", "tokens", "prompts", "parsing", "evidence"},
    {
        "orientation",
        "preprocessing",
        "cuda_decoding",
        "pictures",
        "decoding",
        "footage",
        "video",
        "inputs",
        "arrivals",
        "outputs",
    },
    {"channel", "decoder_worker", "decoder_process", "isolation"},
    {"thumbnails", "video_places", "ranking", "plots"},
    {"report_data", "report_page", "report", "search"},
    {"containers", "ffmpeg", "cuts", "timed_video", "result_videos", "moment_choice"},
    {"clips", "subtitle_tracks"},
    {"manifest", "claims", "planning", "ledger", "outcomes", "conditions"},
    {"work", "filing", "ray_worker", "ray_connection", "ray_engine"},
    {"workload", "ceilings", "stage_meter", "decode_comparison", "benchmark_report"},
    {"cache", "packed_linear", "int8_linear", "compressor", "vision", "modeling"},
    {"lora", "released", "weights", "model_folder", "hub", "model_identity", "checkpoint"},
    {
        "sequences",
        "kept",
        "prompt_start",
        "step_graph",
        "decoder",
        "token_choice",
        "generation",
        "random_model",
        "released_procedure",
    },
    {"onnx_folder", "onnx_vision"},
    {"encoding", "packing", "sources", "encoded_video", "stored_video", "feature_cache"},
    {"shared_model", "pipeline", "asked_model", "answers", "provenance", "engine", "reading"},
    {"grounder", "captioner", "archive", "replay"},
    {"staged_run", "benchmark"},
)
NO_TORCH = ("types", "settings", "errors", "formats", "prompts", "parsing", "windows", "inputs")


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").as_posix().replace("/", ".")
            yield f"{package}.{inner}", path


MODULES = dict(modules())


@cache
def imports(name: str) -> frozenset[str]:
    """Everything that a module imports when it is run, not what it needs for types or later."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _run_at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return frozenset(found)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_at_import(child)


@cache
def all_imports(name: str) -> frozenset[str]:
    """Everything that a module imports anywhere, in functions and for types too."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    plain = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return frozenset(
        plain | {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    )


def importers(package: str) -> set[str]:
    return {
        name
        for name in MODULES
        if any(found == package or found.startswith(package + ".") for found in all_imports(name))
    }


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def test_every_module_has_its_layer() -> None:
    core = {name.removeprefix("vidground.") for name in MODULES if name.count(".") == 1}
    assert core - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("name", sorted(set().union(*LAYERS)))
def test_a_module_imports_only_its_layer_and_lower_ones(name: str) -> None:
    found = {
        module.removeprefix("vidground.")
        for module in imports(f"vidground.{name}")
        if module.startswith("vidground.")
    }
    assert {module for module in found if layer(module) > layer(name)} == set()


def test_nobody_imports_the_command_line() -> None:
    outside = {name for name in importers("vidground.cli") if not name.startswith("vidground.cli.")}
    assert outside == set()


def test_the_sdk_imports_neither_training_nor_export() -> None:
    for package in ("vidground.training", "vidground.export"):
        sdk = {name for name in importers(package) if name.count(".") == 1}
        assert sdk == set(), package


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("av", {"vidground.video.video_file", "vidground.video.pixels", "vidground.video.nvdec"}),
        ("onnxruntime", {"vidground.features.onnx_encoder"}),
        ("ffmpeg", {"vidground.media.ffmpeg"}),
        ("imageio_ffmpeg", {"vidground.media.ffmpeg"}),
        ("pysubs2", {"vidground.results.timed_text"}),
        ("opentimelineio", {"vidground.results.edit_lists"}),
        ("jinja2", {"vidground.review.report_page"}),
        ("ray", {"vidground.archive.ray_connection"}),
    ],
)
def test_one_module_alone_knows_a_library(library: str, home: set[str]) -> None:
    sdk = {name for name in importers(library) if not name.startswith("vidground.training.")}
    assert sdk == home


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
