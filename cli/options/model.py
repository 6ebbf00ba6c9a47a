"""Which model, where it runs, how it is asked, and how much at once."""

from dataclasses import dataclass

import click

from vidground.cli.reporting.loading import announce_model
from vidground.settings import (
    DEFAULT_MODEL,
    FULL_WEIGHTS,
    WEIGHTS,
    DecodingSettings,
    SamplingSettings,
)

_SAMPLING, _DECODING = SamplingSettings(), DecodingSettings()


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

    def announce(self) -> None:
        """Log that the model is loaded, before torch is; fetches it if need be."""
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
    click.option("--subfolder", help="Where the model lies in a repository that holds several."),
    click.option("--device", help="cpu, cuda or cuda:1; by default the GPU if there is one."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Type of the weights; by default what suits the device: bfloat16 on a GPU that has "
        "units for it, float32 on the CPU.",
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
        help="Where --vision onnx:DIR runs; by default cuda or cpu, by the model's device. "
        "tensorrt builds an engine first, which takes minutes.",
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
