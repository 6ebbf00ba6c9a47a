"""The options for the model, its device, sampling, generation and batch sizes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vidground.cli.reporting.loading import announce_model
from vidground.settings import (
    DEFAULT_MODEL,
    FULL_WEIGHTS,
    WEIGHTS,
    DecodingSettings,
    Provider,
    SamplingSettings,
    Vision,
    Weights,
)

if TYPE_CHECKING:
    from vidground.inference.inference_settings import InferenceOptions

_SAMPLING, _DECODING = SamplingSettings(), DecodingSettings()


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and where it runs; None leaves the choice to the SDK."""

    model: str
    revision: str | None
    subfolder: str | None
    device: str | None
    dtype: str | None
    weights: Weights
    vision: Vision
    provider: Provider | None
    offline: bool

    @property
    def load_options(self) -> "InferenceOptions":
        """The load options of `DenseCaptioner` and `Grounder`."""
        options: InferenceOptions = {}
        if self.revision is not None:
            options["revision"] = self.revision
        if self.subfolder is not None:
            options["subfolder"] = self.subfolder
        if self.offline:
            options["local_files_only"] = True
        return options

    def announce(self) -> None:
        """Log that the model is being loaded, before torch is imported; download it if needed."""
        announce_model(
            self.model,
            revision=self.revision,
            subfolder=self.subfolder,
            offline=self.offline,
            device=self.device,
            dtype=self.dtype,
        )


MODEL_HELP = (
    "A name (`vidground models` lists them), a folder, or a repository on the Hugging Face hub."
)

MODEL_OPTIONS = [
    click.option("--model", default=DEFAULT_MODEL, show_default=True, help=MODEL_HELP),
    click.option("--revision", help="Branch, tag or commit of the repository."),
    click.option("--subfolder", help="Subfolder of the model in a repository that holds several."),
    click.option("--device", help="cpu, cuda or cuda:1. By default a GPU if there is one."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Type of the weights. By default bfloat16 on a GPU or CPU with hardware support for "
        "it, else float32.",
    ),
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        default=FULL_WEIGHTS,
        show_default=True,
        help="int8, int4: store the language model's weights in 8 or 4 bits, which saves memory "
        "and changes results; int4 changes them more.",
    ),
    click.option(
        "--vision",
        metavar="torch|onnx:DIR",
        default="torch",
        show_default=True,
        help="Vision encoder: the model itself, or the export of `vidground export onnx` in DIR.",
    ),
    click.option(
        "--provider",
        type=click.Choice(["tensorrt", "cuda", "cpu"]),
        help="Where --vision onnx:DIR runs. By default cuda or cpu, as the model does. "
        "tensorrt first builds an engine, which takes minutes.",
    ),
    click.option(
        "--offline", is_flag=True, help="Use only cached files; never access the network."
    ),
]

RESULT_OPTIONS = [
    click.option(
        "--fps",
        type=float,
        default=_SAMPLING.fps,
        show_default=True,
        help="Frames sampled per second of video; they limit the precision of times.",
    ),
    click.option(
        "--window",
        "window_s",
        type=float,
        metavar="SECONDS",
        default=_SAMPLING.window_s,
        help="Maximum duration that the model sees at once. By default the duration it was "
        "trained on.",
    ),
    click.option(
        "--window-overlap",
        type=float,
        default=_SAMPLING.overlap,
        show_default=True,
        help="Fraction of a window that overlaps with the next one, from 0 to 0.5.",
    ),
    click.option(
        "--stream",
        type=click.IntRange(min=0),
        metavar="N",
        help="Video track to use, by its number among all streams of the file, as ffprobe counts "
        "them. By default the one that a player shows.",
    ),
    click.option(
        "--raw-fps",
        type=float,
        metavar="FPS",
        help="Frame rate of raw H.264 and HEVC streams, which store no times. Other files keep "
        "their own.",
    ),
    click.option(
        "--batch-size",
        type=int,
        help="Batch size of generation: questions, each about one window. By default as large "
        "as the "
        "free memory allows.",
    ),
    click.option(
        "--max-new-tokens",
        type=int,
        default=_DECODING.max_new_tokens,
        show_default=True,
        help="Maximum length of an answer.",
    ),
    click.option(
        "--temperature",
        type=float,
        default=_DECODING.temperature,
        show_default=True,
        help="Sampling temperature; 0 always takes the most likely token.",
    ),
    click.option(
        "--seed",
        type=int,
        default=_DECODING.seed,
        show_default=True,
        help="Random seed, used if the temperature is above 0.",
    ),
    click.option(
        "--repetition-penalty",
        type=float,
        default=_DECODING.repetition_penalty,
        show_default=True,
        help="Values above 1 make tokens less likely that were used before.",
    ),
    click.option(
        "--loop-tokens",
        type=int,
        default=_DECODING.loop_tokens,
        show_default=True,
        help="Stop an answer that has repeated itself for this number of tokens; 0 for never.",
    ),
]

AT_ONCE_OPTIONS = [
    click.option(
        "--videos",
        type=int,
        help="Videos processed at the same time. By default 6 on the CPU and more on a GPU. "
        "After a "
        "run was killed, these are done again. With 1, scores are reproducible to the last digit.",
    ),
    click.option(
        "--readers",
        type=int,
        help="How many of these are decoded at the same time. By default depends on the CPU cores.",
    ),
    click.option(
        "--graphs/--no-graphs",
        default=None,
        help="Record generation steps as CUDA graphs and replay them. By default on a GPU.",
    ),
]
