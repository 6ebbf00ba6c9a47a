"""The options shared by the commands over many videos, and their conversion to settings.

Defaults come from `vidground.settings` and are shown in --help. Imports nothing heavy.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vidground.cli.options.cache import CACHE_OPTIONS, take_cache
from vidground.cli.options.control import (
    CONTROL_OPTIONS,
    DRY_RUN,
    ControlOptions,
    check_control,
)
from vidground.cli.options.cues import CUE_OPTIONS, check_formats
from vidground.cli.options.engine import ENGINE_OPTIONS, LOCAL, EngineOptions, check_engine
from vidground.cli.options.files import (
    INPUTS,
    STDOUT,
    WATCHED_INPUTS,
    FileOptions,
    check_files,
    file_options,
)
from vidground.cli.options.isolation import ISOLATION_OPTIONS, take_isolation
from vidground.cli.options.log import LOG_OPTIONS, LogOptions
from vidground.cli.options.model import (
    AT_ONCE_OPTIONS,
    MODEL_OPTIONS,
    RESULT_OPTIONS,
    ModelOptions,
)
from vidground.cli.options.usage import usage_errors
from vidground.results.cues import CueSettings
from vidground.settings import (
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
)

if TYPE_CHECKING:
    from vidground.inference.inference_settings import InferenceOptions


@dataclass(frozen=True, slots=True)
class RunOptions:
    """All shared options of one command."""

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

    @property
    def inference(self) -> "InferenceOptions":
        """The keyword arguments of `DenseCaptioner` and `Grounder`."""
        model = self.model
        return {
            "device": model.device,
            "dtype": model.dtype,
            "weights": model.weights,
            "sampling": self.sampling,
            "decoding": self.decoding,
            "batch": self.batch,
            "isolation": self.isolation,
            "decode_on": self.decode_on,
            "cache": self.cache,
            "vision": model.vision,
            "provider": model.provider,
            **model.load_options,
        }


_UNWATCHED: dict[str, Any] = {"from_file": None, "dry_run": False, **LOCAL}
"""Values of the options that commands over watched folders lack."""


def run_options(
    *, formats: str, watched: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the shared options to a command, which receives them as one argument `options`.

    Args:
        formats: the command's default for --out.
        watched: the inputs are folders that are scanned repeatedly, so that options for a list of
            files, a dry run and Ray are left out.
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
            *(WATCHED_INPUTS if watched else INPUTS),
            *file_options(formats),
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
    """Remove the shared options from the values that click parsed and return them."""

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
            stream=values.pop("stream"),
            raw_fps=values.pop("raw_fps"),
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
        raise click.UsageError("--provider has an effect only with --vision onnx:DIR.")
    check_files(files)
    check_engine(options.engine, device=options.model.device, batch=options.batch)
    check_formats(files.formats, options.cues, option="--out")
    summary, to_stdout = options.log.summary is not None, files.output_dir == STDOUT
    check_control(options.control, to_stdout=to_stdout, summary=summary)
