"""What a training run is made of: a typed configuration, from a YAML file and single values.

Every key is checked by name and type before any work begins. Paths are relative to the folder
that the run is started in. What comes of the values is `vidground.training.run`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from vidground.errors import InputError
from vidground.training.config_values import build
from vidground.training.data.annotations import REJECTED_SEED
from vidground.training.data.dataset import SampleLimits
from vidground.training.data.frame_sources import DEFAULT_CACHE_BYTES
from vidground.training.objectives.settings import FpoSettings, ParameterSettings, SftSettings

ObjectiveName = Literal["sft", "fpo"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model that training starts from: `name` or `init`.

    name: a known name, a folder or a hub repository. revision, subfolder: of a repository.
    offline: use the cache and never the network. init: "toy" for a small model with random
    weights. dtype: of the parameters that do not learn; None as they are stored.
    """

    name: str | None = None
    init: Literal["toy"] | None = None
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
    """The samples to learn from.

    annotations: files in the format of E.T. Instruct with evidence, or of preference pairs.
    videos: folders that their videos are relative to, searched in order. sets: further data sets,
    each with videos and a weight of its own. evaluation: files of held-out samples, whose videos
    are looked for in the folders of all sets.
    fps: frames per second of video. rejected_seed: of the draw of one rejected response for each
    sample. placement_seed: a question without `<image>` has the frames before it; with a seed,
    before or after it at random. unreadable: a video that is missing or does not open is an
    "error", which ends the run; "skip" opens all before training, leaves out the samples of such
    ones and counts them. frames: "pixels"; "patches" to encode every video once, if the vision
    encoder does not learn; or "tokens" to read it once with each of its questions, if the
    compressor does not learn either. cache: folder that keeps them, of at most cache_gib; None to
    decode every time.
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
                f"data.frames is {self.frames!r}, which data.cache keeps; name a folder"
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
    """How long and in which steps is trained.

    epochs: passes over the data, if max_steps is None. batch_size: samples that pass the model at
    once on a device; accumulation: of these for a step. warmup: share of all steps in which the
    learning rates rise. max_grad_norm: gradients are scaled down to it; 0 for never. precision:
    that the model computes in; what learns is float32 all the same. gradient_checkpointing:
    compute states again instead of keeping them, for less memory. workers: processes that read
    videos; 0 for none.
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
    gradient_checkpointing: bool = False
    workers: int = 0
    seed: int = 42

    def __post_init__(self) -> None:
        _check("schedule.epochs", self.epochs, self.epochs > 0, "above 0")
        for name in ("max_steps", "batch_size", "accumulation", "eval_batch_size"):
            value = getattr(self, name)
            _check(f"schedule.{name}", value, value is None or value >= 1, "at least 1")
        _check("schedule.warmup", self.warmup, 0 <= self.warmup < 1, "in [0, 1)")
        _check("schedule.max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0, "0 or above")
        _check("schedule.workers", self.workers, self.workers >= 0, "0 or above")
        _check("schedule.seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2^32)")


@dataclass(frozen=True, slots=True)
class Output:
    """What is written, and when.

    dir: the run's folder. log_every, save_every, eval_every: in steps; None for never. keep:
    newest checkpoints that stay; None for all. weights: "merged" for full models in vidground's
    format; "adapter" for what was trained, in the released form, over a base in that form.
    """

    dir: str = ""
    log_every: int | None = 1
    save_every: int | None = 500
    eval_every: int | None = None
    keep: int | None = 2
    weights: Literal["merged", "adapter"] = "merged"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.dir:
            raise InputError("output.dir is empty; name the run's folder (--output-dir)")
        for name in ("log_every", "save_every", "eval_every", "keep"):
            value = getattr(self, name)
            _check(f"output.{name}", value, value is None or value >= 1, "at least 1")


@dataclass(frozen=True, slots=True)
class Distribution:
    """How training is spread over devices; see the documentation of transformers' Trainer.

    Several processes are started by torchrun or `accelerate launch`; without more they train by
    DDP. deepspeed: a JSON file. fsdp: shard the model; fsdp_config: how, a JSON file. cpu: use no
    GPU.
    """

    deepspeed: str | None = None
    fsdp: bool = False
    fsdp_config: str | None = None
    cpu: bool = False

    def __post_init__(self) -> None:
        if self.fsdp_config and not self.fsdp:
            raise InputError("distribution.fsdp_config is set and fsdp off; turn it on")
        if self.cpu and (self.deepspeed or self.fsdp):
            raise InputError("distribution.cpu is on, and fsdp and deepspeed need GPUs; use DDP")
        if self.deepspeed and self.fsdp:
            raise InputError("distribution has deepspeed and fsdp; choose one of them")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A training run.

    objective: supervised fine-tuning or factorized preference optimization. loss: its settings,
    of the class that belongs to it. reference: FPO compares with the model that it starts from,
    which the paper does not.
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
        if self.reference and self.objective != "fpo":
            raise InputError("reference is for FPO; remove it, or run: vidground train fpo")
        spread = self.distribution
        if self.reference and (spread.fsdp or spread.deepspeed):
            raise InputError("reference needs whole models on a device; use DDP, or no reference")
        if self.output.weights == "adapter" and self.parameters.trained != "released":
            raise InputError(
                f"output.weights is 'adapter' and parameters.trained {self.parameters.trained!r}; "
                "only the released set can be saved as an adapter, use 'merged'"
            )
        if self.output.weights == "adapter" and not (
            self.sft.evidence_stage and self.sft.visual_semantics
        ):
            raise InputError(
                "output.weights is 'adapter', and the released form cannot say that a model has "
                "no evidence_stage or no visual_semantics; use 'merged'"
            )
        if self.output.weights == "adapter" and self.model.revision is not None:
            raise InputError(
                "output.weights is 'adapter' and model.revision set, which an adapter cannot name; "
                "use 'merged', or start from a folder"
            )
        trained = self.parameters.trained
        if self.data.frames == "patches" and trained == "full":
            raise InputError(
                "data.frames is 'patches' and parameters.trained 'full', so the vision encoder "
                "would learn and its features change; use 'pixels', or 'full-but-vision'"
            )
        if self.data.frames == "tokens" and trained != "language":
            raise InputError(
                f"data.frames is 'tokens' and parameters.trained {trained!r}, so the compressor "
                "would learn and its tokens change; use 'patches' or 'pixels', or 'language'"
            )
        if self.output.eval_every is not None and not self.data.evaluation:
            raise InputError("output.eval_every is set; name held-out files in data.evaluation")
        if self.data.evaluation and self.output.eval_every is None:
            raise InputError(
                "data.evaluation is set and output.eval_every not, so nothing would be evaluated; "
                "give it a number of steps, or leave data.evaluation out"
            )

    @property
    def sft(self) -> SftSettings:
        """Settings of the imitated response's loss."""
        return self.loss.sft if isinstance(self.loss, FpoSettings) else self.loss

    def to_yaml(self) -> str:
        """All values, so that a run from this text is this run."""
        text = yaml.safe_dump(_plain(asdict(self)), sort_keys=False, allow_unicode=True)
        return str(text)


def read_config(
    objective: ObjectiveName,
    file: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    missing: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a run.

    Args:
        file: YAML; a path, or the name of a configuration that comes with vidground.
        values: by dotted name ("schedule.max_steps"); they win over the file's.
        missing: by dotted name, for what neither of them says.

    Raises:
        InputError: a key is unknown, a value is of another type or out of range, or the file is
            made for another objective.
    """
    content = {} if file is None else _read_yaml(file)
    for name, value in (values or {}).items():
        _put(content, name.split("."), value, name)
    for name, value in (missing or {}).items():
        _put(content, name.split("."), value, name, replace=False)
    made_for = content.setdefault("objective", objective)
    if made_for not in get_args(ObjectiveName):
        raise InputError(f"objective is {made_for!r}; it must be sft or fpo")
    if made_for != objective:
        raise InputError(
            f"the configuration is made for objective {made_for!r}; run: vidground train {made_for}"
        )
    loss = FpoSettings if objective == "fpo" else SftSettings
    for name in ("model", "data", "output", "loss"):
        content.setdefault(name, {})
    return build(RunConfig, content, kinds={"loss": loss})


def parse_value(text: str) -> Any:
    """The value that a text stands for in YAML.

    Raises:
        InputError: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r} is no YAML value: {_first_line(error)}") from error


def bundled_configs() -> list[str]:
    """Names of the configurations that come with vidground."""
    files = resources.files("vidground.training").joinpath("configs").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys and values of a mapping."""
        keys = [key.value for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if key.value in keys[:number]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} stands twice, the second time in line "
                    f"{key.start_mark.line + 1}; keep one"
                )
        return super().construct_mapping(node, deep)


def _read_yaml(file: str | Path) -> dict[str, Any]:
    path = Path(file)
    if not path.is_file() and str(file) in bundled_configs():
        bundled = resources.files("vidground.training").joinpath("configs", f"{file}.yaml")
        text = bundled.read_text(encoding="utf-8")
    else:
        text = _read_text(path)
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{file} is no YAML: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds {type(content).__name__}; needs keys and values")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        known = ", ".join(bundled_configs())
        raise InputError(
            f"the configuration {path} cannot be read ({error}); name a YAML file, or one of "
            f"these: {known}"
        ) from error


def _put(
    content: dict[str, Any], keys: Sequence[str], value: Any, name: str, *, replace: bool = True
) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise InputError(f"{name}: {key} is {content!r}, which has no parts")
    if replace or keys[-1] not in content:
        content[keys[-1]] = value


def _check(name: str, value: object, held: bool, limit: str) -> None:
    if not held:
        raise InputError(f"{name} is {value}; it must be {limit}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
