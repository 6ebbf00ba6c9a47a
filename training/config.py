"""Configuration of a training run: typed dataclasses, read from YAML and single values.

All keys are checked by name and type before any work begins. Relative paths are relative to the
current folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vidground.errors import InputError
from vidground.settings import TimeTokens
from vidground.training.config_checks import check_combination
from vidground.training.config_files import dump_yaml, put, read_yaml
from vidground.training.config_values import build
from vidground.training.data.annotations import REJECTED_SEED
from vidground.training.data.dataset import SampleLimits
from vidground.training.data.frame_sources import DEFAULT_CACHE_BYTES
from vidground.training.objectives.settings import FpoSettings, ParameterSettings, SftSettings

ObjectiveName = Literal["sft", "fpo"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model that training starts from: either `name` or `init`.

    Attributes:
        name: a known name, a folder or a hub repository.
        init: "toy" for a small model with random weights.
        time_tokens: how a model that gets new heads expresses times: "evidence" gathers intervals
            (D2VLM), "matching" names single frames (E.T. Chat). Null for evidence, or for what a
            trained model does.
        revision: branch, tag or commit of a hub repository.
        subfolder: folder within a hub repository.
        offline: use the local cache and never the network.
        dtype: type of the frozen parameters; null for the stored type, or float32 if
            schedule.precision is float32.
    """

    name: str | None = None
    init: Literal["toy"] | None = None
    time_tokens: TimeTokens | None = None
    revision: str | None = None
    subfolder: str | None = None
    offline: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.init is None):
            raise InputError("model: give a name (known name, folder, hub id) or an init (toy)")
        hub_only = (self.revision, self.subfolder, self.dtype)
        if self.init is not None and (self.offline or any(v is not None for v in hub_only)):
            raise InputError("model: revision, subfolder, offline and dtype need a model.name")


@dataclass(frozen=True, slots=True)
class DataSet:
    """Annotation files whose videos lie together.

    Attributes:
        annotations: files in the format of E.T. Instruct with evidence, or of preference pairs.
        videos: folders that their videos are relative to, searched in order.
        weight: how often each sample is seen in an epoch; 0.25 draws a quarter of them, once.
    """

    annotations: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.annotations:
            raise InputError("data.sets: annotations is empty; name at least one file")
        if not self.videos:
            raise InputError("data.sets: videos is empty; name the folder of the videos")
        _check("data.sets: weight", self.weight, 0 < self.weight <= 100, "above 0 and at most 100")


@dataclass(frozen=True, slots=True)
class DataSource:
    """The training samples.

    Attributes:
        annotations: files in the format of E.T. Instruct with evidence, or of preference pairs.
        videos: folders that the annotations' video paths are relative to, searched in order.
        sets: further data sets, each with its own annotations, videos and weight.
        evaluation: files of held-out samples, evaluated every output.eval_every steps. Their
            videos are looked for in the folders of all data sets.
        fps: sampled frames per second of video, above 0 and at most 60.
        rejected_seed: seed for drawing one rejected response per sample (FPO).
        placement_seed: places the frames before or after questions without `<image>` at random,
            with this seed; null places them before.
        limits: bounds on video and answer length; samples outside are left out and counted.
        unreadable: what a missing or unreadable video does. "error" ends the run; "skip" opens
            all videos before training, and leaves out and counts the samples of unreadable ones.
        frames: what is read for each sample. "pixels"; "patches", features of a frozen vision
            encoder, computed once per video; or "tokens" of a frozen compressor, computed once
            per video and question.
        cache: folder that caches decoded frames, features or tokens; null decodes every time.
        cache_gib: maximum size of the cache, in GiB.
    """

    annotations: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    sets: tuple[DataSet, ...] = ()
    evaluation: tuple[str, ...] = ()
    fps: float = 1.0
    rejected_seed: int = REJECTED_SEED
    placement_seed: int | None = None
    limits: SampleLimits = field(default_factory=SampleLimits)
    unreadable: Literal["error", "skip"] = "error"
    frames: Literal["pixels", "patches", "tokens"] = "pixels"
    cache: str | None = None
    cache_gib: float = DEFAULT_CACHE_BYTES / (1 << 30)

    def __post_init__(self) -> None:
        if not self.annotations and not self.sets:
            raise InputError("data.annotations is empty; name at least one file, or data.sets")
        if not self.videos and not self.sets:
            raise InputError("data.videos is empty; name the folder of the videos")
        if bool(self.annotations) != bool(self.videos):
            given, other = ("annotations", "videos")[:: 1 if self.annotations else -1]
            raise InputError(f"data.{given} is set and data.{other} is empty; name both")
        if self.frames != "pixels" and self.cache is None:
            raise InputError(
                f"data.frames is {self.frames!r}, which needs data.cache; name a folder"
            )
        _check("data.cache_gib", self.cache_gib, self.cache_gib > 0, "above 0")
        _check("data.fps", self.fps, 0 < self.fps <= 60, "above 0 and at most 60")

    @property
    def all_sets(self) -> tuple[DataSet, ...]:
        """The data sets to learn from: `annotations` with `videos`, then `sets`."""
        own = (DataSet(self.annotations, self.videos),) if self.annotations else ()
        return own + self.sets

    @property
    def folders(self) -> tuple[str, ...]:
        """The video folders of all data sets, each once, in order."""
        return tuple(dict.fromkeys(folder for item in self.all_sets for folder in item.videos))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length, batches, learning rate schedule and precision of training.

    Attributes:
        epochs: passes over the data, if max_steps is not set; may be fractional.
        max_steps: optimizer steps; overrides epochs.
        batch_size: samples per device in one forward pass.
        accumulation: forward passes per optimizer step.
        eval_batch_size: held-out samples per device in one forward pass.
        warmup: share of all steps over which the learning rate rises, in [0, 1).
        decay: shape of the learning rate after the warm-up.
        max_grad_norm: gradients are clipped to this norm; 0 disables clipping.
        precision: type of the forward and backward pass. Trainable parameters and optimizer
            states are always float32.
        patience: stop when the held-out loss has not improved in this many evaluations; null
            never stops early.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        workers: processes that read videos; 0 reads in the training process.
        seed: of the sample order, new weights and dropout.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 1
    accumulation: int = 1
    eval_batch_size: int = 1
    warmup: float = 0.03
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    patience: int | None = None
    gradient_checkpointing: bool = False
    workers: int = 0
    seed: int = 42

    def __post_init__(self) -> None:
        _check("schedule.epochs", self.epochs, self.epochs > 0, "above 0")
        for name in ("max_steps", "batch_size", "accumulation", "eval_batch_size", "patience"):
            value = getattr(self, name)
            _check(f"schedule.{name}", value, value is None or value >= 1, "at least 1")
        _check("schedule.warmup", self.warmup, 0 <= self.warmup < 1, "in [0, 1)")
        _check("schedule.max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0, "0 or above")
        _check("schedule.workers", self.workers, self.workers >= 0, "0 or above")
        _check("schedule.seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2^32)")


@dataclass(frozen=True, slots=True)
class Output:
    """What is written, and how often.

    Attributes:
        dir: the run's folder.
        log_every: steps between log lines; null for none.
        save_every: steps between checkpoints; null for none.
        eval_every: steps between evaluations on data.evaluation; null for none.
        keep: number of newest checkpoints to keep; null keeps all. The best one is kept beside
            them if model is "best".
        weights: "merged" writes full models in vidground's format; "adapter" writes the trained
            parameters only, in the released format, and needs a base in that format.
        model: the checkpoint that becomes the run's model: the "last", or the "best" by
            held-out loss.
        tensorboard: write TensorBoard files to the folder tensorboard/.
        wandb: log to Weights & Biases, project vidground (needs the package wandb).
        curves: draw the learning curves to curves.png (needs the package matplotlib).
        hub: hub repository (owner/name) to upload the finished model to, with a model card; null
            for none.
        hub_private: create that repository as a private one.
    """

    dir: str = ""
    log_every: int | None = 1
    save_every: int | None = 500
    eval_every: int | None = None
    keep: int | None = 2
    weights: Literal["merged", "adapter"] = "merged"
    model: Literal["last", "best"] = "last"
    tensorboard: bool = False
    wandb: bool = False
    curves: bool = False
    hub: str | None = None
    hub_private: bool = True

    def __post_init__(self) -> None:
        if not self.dir:
            raise InputError("output.dir is empty; name the run's folder (--output-dir)")
        for name in ("log_every", "save_every", "eval_every", "keep"):
            value = getattr(self, name)
            _check(f"output.{name}", value, value is None or value >= 1, "at least 1")
        valid = self.hub is None or _REPOSITORY.fullmatch(self.hub) is not None
        _check("output.hub", self.hub, valid, "a repository as owner/name")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Distribution over devices.

    Processes are started by torchrun or `accelerate launch`; without further settings they train
    by DDP.

    Attributes:
        deepspeed: JSON file with a DeepSpeed configuration; null for none.
        fsdp: shard the model (fully sharded data parallel).
        fsdp_config: JSON file with FSDP settings, as transformers' `TrainingArguments` takes them.
        cpu: train on the CPU even if there is a GPU.
    """

    deepspeed: str | None = None
    fsdp: bool = False
    fsdp_config: str | None = None
    cpu: bool = False

    def __post_init__(self) -> None:
        if self.fsdp_config and not self.fsdp:
            raise InputError("distribution.fsdp_config needs distribution.fsdp; set it to true")
        if self.cpu and (self.deepspeed or self.fsdp):
            raise InputError(
                "distribution.cpu excludes fsdp and deepspeed, which need GPUs; use DDP"
            )
        if self.deepspeed and self.fsdp:
            raise InputError("distribution sets deepspeed and fsdp; choose one of them")

    @property
    def sharded(self) -> bool:
        """Whether a device may hold a part of the model only."""
        return self.fsdp or self.deepspeed is not None


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Configuration of a training run.

    Attributes:
        objective: "sft" for supervised fine-tuning, "fpo" for factorized preference optimization.
        model: the model to start from.
        data: the training samples.
        output: what is written, and how often.
        loss: settings of the objective's loss.
        parameters: trainable parameters and learning rates.
        schedule: length, batches, learning rate schedule and precision.
        distribution: distribution over devices.
        reference: FPO relative to the starting model; the paper uses no reference.
    """

    objective: ObjectiveName
    model: ModelSource
    data: DataSource
    output: Output
    loss: SftSettings | FpoSettings
    parameters: ParameterSettings = field(default_factory=ParameterSettings)
    schedule: Schedule = field(default_factory=Schedule)
    distribution: Distribution = field(default_factory=Distribution)
    reference: bool = False

    def __post_init__(self) -> None:
        check_combination(self)

    @property
    def sft(self) -> SftSettings:
        """The SFT settings: `loss` itself, or those within the settings of FPO."""
        return self.loss.sft if isinstance(self.loss, FpoSettings) else self.loss

    def to_yaml(self) -> str:
        """Return all values as YAML that `read_config` reads back unchanged."""
        return dump_yaml(asdict(self))


def read_config(
    objective: ObjectiveName,
    file: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    missing: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Return the configuration of a run.

    Args:
        objective: "sft" or "fpo".
        file: path of a YAML file, or the name of a configuration bundled with vidground.
        values: by dotted key ("schedule.max_steps"); they override the file.
        missing: by dotted key, for keys that neither `values` nor the file sets.

    Raises:
        InputError: a key is unknown, a value has the wrong type or is out of range, or the file
            is for the other objective.
    """
    content = {} if file is None else read_yaml(file)
    for name, value in (values or {}).items():
        put(content, name.split("."), value, name)
    for name, value in (missing or {}).items():
        put(content, name.split("."), value, name, replace=False)
    made_for = content.setdefault("objective", objective)
    if made_for not in get_args(ObjectiveName):
        raise InputError(f"objective is {made_for!r}; it must be sft or fpo")
    if made_for != objective:
        raise InputError(
            f"the configuration is for objective {made_for!r}; run: vidground train {made_for}"
        )
    loss = FpoSettings if objective == "fpo" else SftSettings
    for name in ("model", "data", "output", "loss"):
        content.setdefault(name, {})
    return build(RunConfig, content, kinds={"loss": loss})


def _check(name: str, value: object, held: bool, limit: str) -> None:
    if not held:
        raise InputError(f"{name} is {value}; it must be {limit}")
