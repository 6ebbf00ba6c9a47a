"""The options that the commands over many videos share, and the settings they become.

Defaults come from `vidground.settings` and are shown in --help. Imports nothing heavy.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from vidground.cli.cache_options import CACHE_OPTIONS, take_cache
from vidground.cli.control_options import (
    CONTROL_OPTIONS,
    DRY_RUN,
    ControlOptions,
    check_control,
)
from vidground.cli.cue_options import CUE_OPTIONS, check_formats
from vidground.cli.engine_options import ENGINE_OPTIONS, LOCAL, EngineOptions, check_engine
from vidground.cli.isolation_options import ISOLATION_OPTIONS, take_isolation
from vidground.cues import CueSettings
from vidground.errors import InputError
from vidground.formats import FORMATS
from vidground.settings import (
    DEFAULT_MODEL,
    FULL_WEIGHTS,
    WEIGHTS,
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
)

STDOUT = "-"

_SAMPLING, _DECODING = SamplingSettings(), DecodingSettings()


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which videos, and where their results go. output_dir: None for beside the video."""

    inputs: tuple[str, ...]
    from_file: BinaryIO | None
    recursive: bool
    formats: tuple[str, ...]
    output_dir: str | None
    relative_to: str | None
    keep_suffix: bool
    overwrite: bool


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and where it runs. None leaves the choice to the SDK."""

    model: str
    revision: str | None
    subfolder: str | None
    device: str | None
    dtype: str | None
    weights: str
    vision: str
    provider: str | None
    offline: bool

    @property
    def load_options(self) -> dict[str, str | bool]:
        """What `DenseCaptioner` and `Grounder` take as load options."""
        given = {"revision": self.revision, "subfolder": self.subfolder}
        options: dict[str, str | bool] = {k: v for k, v in given.items() if v is not None}
        return options | ({"local_files_only": True} if self.offline else {})


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is told of the run, and how."""

    quiet: bool
    log_format: str
    summary: Path | None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """All shared options of one call."""

    files: FileOptions
    model: ModelOptions
    log: LogOptions
    sampling: SamplingSettings
    decoding: DecodingSettings
    batch: BatchSettings
    cues: CueSettings
    control: ControlOptions
    decode_on: str
    isolation: IsolationSettings | None
    cache: CacheSettings | None
    engine: EngineOptions


@contextmanager
def usage_errors() -> Iterator[None]:
    """An argument that the SDK refuses before any work is an error of usage: exit code 2."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error


def run_options(
    *, formats: str, watched: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options as one argument `options`, a `RunOptions`.

    formats: the command's default for --out. watched: the inputs are folders that are looked at
    again and again, so that neither a list of files nor a dry run makes sense.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def collected(**values: Any) -> None:
            if watched:
                values = {**_UNWATCHED, **values}
            with usage_errors():
                options = _collect(values)
            command(options=options, **values)

        decorators = [
            *(_WATCHED_INPUTS if watched else _INPUTS),
            *_file_options(formats),
            *MODEL_OPTIONS,
            *RESULT_OPTIONS,
            *AT_ONCE_OPTIONS,
            *CUE_OPTIONS,
            *([] if watched else [DRY_RUN]),
            *CONTROL_OPTIONS,
            *ISOLATION_OPTIONS,
            *CACHE_OPTIONS,
            *([] if watched else ENGINE_OPTIONS),
            *LOG_OPTIONS,
        ]
        for option in reversed(decorators):
            collected = option(collected)
        return collected

    return decorate


def _collect(values: dict[str, Any]) -> RunOptions:
    """Take the shared options out of the values that click parsed."""

    def take(kind: Callable[..., Any], *names: str) -> Any:
        return kind(**{name: values.pop(name) for name in names})

    options = RunOptions(
        files=take(FileOptions, *FileOptions.__slots__),
        model=take(ModelOptions, *ModelOptions.__slots__),
        log=take(LogOptions, *LogOptions.__slots__),
        sampling=SamplingSettings(
            fps=values.pop("fps"),
            window_s=values.pop("window_s"),
            overlap=values.pop("window_overlap"),
        ),
        decoding=take(DecodingSettings, *DecodingSettings.__slots__),
        batch=BatchSettings(
            prompts=values.pop("batch_size"),
            videos=values.pop("videos"),
            readers=values.pop("readers"),
            graphs=values.pop("graphs"),
        ),
        cues=take(CueSettings, *CueSettings.__slots__),
        control=take(ControlOptions, *ControlOptions.__slots__),
        decode_on=values.pop("decode_on"),
        isolation=take_isolation(values),
        cache=take_cache(values),
        engine=take(EngineOptions, *EngineOptions.__slots__),
    )
    _check(options)
    return options


def _check(options: RunOptions) -> None:
    """Refuse options that would have no effect."""
    files = options.files
    if options.model.provider is not None and not options.model.vision.startswith("onnx:"):
        raise click.UsageError("--provider is onnxruntime's; give --vision onnx:DIR with it.")
    if files.relative_to is not None and files.output_dir in (None, STDOUT):
        raise click.UsageError("--relative-to needs a folder of results, --output-dir.")
    if files.output_dir == STDOUT and len(files.formats) > 1:
        raise click.UsageError("-o - writes one format; name one with --out.")
    if files.output_dir == STDOUT and files.keep_suffix:
        raise click.UsageError("--keep-suffix names files; -o - writes none.")
    if files.output_dir == STDOUT and files.overwrite:
        raise click.UsageError("--overwrite replaces files; -o - writes none.")
    check_engine(options.engine, device=options.model.device, batch=options.batch)
    check_formats(files.formats, options.cues, option="--out")
    summary, to_stdout = options.log.summary is not None, files.output_dir == STDOUT
    check_control(options.control, to_stdout=to_stdout, summary=summary)


def parse_formats(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """ "srt,json" as a tuple, each format once."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is no format; choose from {', '.join(FORMATS)}.")
    return names


_INPUTS: list[Callable[..., Any]] = [
    click.argument("inputs", nargs=-1, metavar="INPUT..."),
    click.option(
        "--from-file",
        type=click.File("rb"),
        help="Read more inputs from this file, one per line or separated by NUL bytes; "
        "- for standard input.",
    ),
]

_WATCHED_INPUTS: list[Callable[..., Any]] = [
    click.argument(
        "inputs",
        nargs=-1,
        required=True,
        metavar="DIR...",
        type=click.Path(exists=True, file_okay=False),
    ),
]
_UNWATCHED: dict[str, Any] = {"from_file": None, "dry_run": False, **LOCAL}
"""Values of the options that commands which watch folders do not have."""


def _file_options(formats: str) -> list[Callable[..., Any]]:
    return [
        click.option("--recursive", is_flag=True, help="Search folders inside of folders too."),
        click.option(
            "--out",
            "--output-format",
            "-f",
            "formats",
            metavar="FORMATS",
            callback=parse_formats,
            default=formats,
            show_default=True,
            help=f"Formats of the result, with commas between: {', '.join(FORMATS)}.",
        ),
        click.option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="Folder for the results, in which the tree of the inputs is mirrored; - for "
            "standard output. If not given, results lie beside their videos.",
        ),
        click.option(
            "--relative-to",
            metavar="DIR",
            help="Folder that the mirrored tree starts at. If not given: the folder that was "
            "named, the part of a pattern before its first wildcard, a file's own folder.",
        ),
        click.option(
            "--keep-suffix",
            is_flag=True,
            help="Keep the video's suffix in names of results (match.mp4.srt), so that match.mp4 "
            "and match.mkv can lie in one folder.",
        ),
        click.option("--overwrite", is_flag=True, help="Make results again that exist already."),
    ]


MODEL_OPTIONS = [
    click.option(
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        help="A folder, a bundled model or a repository on the Hugging Face hub.",
    ),
    click.option("--revision", help="Branch, tag or commit of the repository."),
    click.option("--subfolder", help="Where the model lies in a repository that holds several."),
    click.option("--device", help="cpu, cuda or cuda:1; by default the GPU if there is one."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Type of the weights; by default bfloat16 on a GPU and float32 on the CPU.",
    ),
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        default=FULL_WEIGHTS,
        show_default=True,
        help="int8: hold the language model's weights in 8 bits, which saves memory and can move "
        "results.",
    ),
    click.option(
        "--vision",
        metavar="torch|onnx:DIR",
        default="torch",
        show_default=True,
        help="What encodes frames: the model itself, or what `vidground export onnx` wrote to DIR.",
    ),
    click.option(
        "--provider",
        type=click.Choice(["tensorrt", "cuda", "cpu"]),
        help="Where --vision onnx:DIR runs; by default the best on the model's device.",
    ),
    click.option("--offline", is_flag=True, help="Use what the cache holds, never the network."),
]

RESULT_OPTIONS = [
    click.option(
        "--fps",
        type=float,
        default=_SAMPLING.fps,
        show_default=True,
        help="Frames to look at per second of video; times are no finer than their distance.",
    ),
    click.option(
        "--window",
        "window_s",
        type=float,
        metavar="SECONDS",
        default=_SAMPLING.window_s,
        help="Longest stretch given to the model at once; by default as long as it was trained on.",
    ),
    click.option(
        "--window-overlap",
        type=float,
        default=_SAMPLING.overlap,
        show_default=True,
        help="Share of a window that the next one sees too, from 0 to 0.5.",
    ),
    click.option(
        "--batch-size",
        type=int,
        help="Questions, each on one window, that are answered at once; by default as many as the "
        "free memory allows.",
    ),
    click.option(
        "--max-new-tokens",
        type=int,
        default=_DECODING.max_new_tokens,
        show_default=True,
        help="Cap on the length of an answer.",
    ),
    click.option(
        "--temperature",
        type=float,
        default=_DECODING.temperature,
        show_default=True,
        help="0 always takes the likeliest token; above 0 tokens are drawn.",
    ),
    click.option(
        "--seed",
        type=int,
        default=_DECODING.seed,
        show_default=True,
        help="Seed of the draws, if the temperature is above 0.",
    ),
    click.option(
        "--repetition-penalty",
        type=float,
        default=_DECODING.repetition_penalty,
        show_default=True,
        help="Above 1 makes tokens less likely that were used before.",
    ),
    click.option(
        "--loop-tokens",
        type=int,
        default=_DECODING.loop_tokens,
        show_default=True,
        help="Stop an answer that has only repeated itself for so many tokens; 0 for never.",
    ),
]

AT_ONCE_OPTIONS = [
    click.option(
        "--videos",
        type=int,
        help="Videos that are worked on at once; by default 6 on the CPU and more on a GPU. A run "
        "that is killed does these again. With 1, scores are the same to the last digit each time.",
    ),
    click.option(
        "--readers",
        type=int,
        help="Of those, videos that are decoded at once; by default as the cores allow.",
    ),
    click.option(
        "--graphs/--no-graphs",
        default=None,
        help="Record decoding steps as CUDA graphs and replay them; by default on a GPU.",
    ),
]

LOG_OPTIONS = [
    click.option("--quiet", "-q", is_flag=True, help="Tell of failures only."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json: an object per line on standard error, without progress bars.",
    ),
    click.option(
        "--summary",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.json",
        help="Write what became of every input to this file.",
    ),
]
