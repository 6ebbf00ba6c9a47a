"""Checks of a training configuration that concern several sections at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidground.errors import InputError

if TYPE_CHECKING:
    from vidground.model.configuration import D2VLMConfig
    from vidground.training.config import RunConfig


def check_combination(config: RunConfig) -> None:
    """Check settings that exclude or need each other.

    Raises:
        InputError: two settings cannot be combined; names both and the remedy.
    """
    _check_reference(config)
    _check_adapter(config)
    _check_cached_frames(config)
    _check_evaluation(config)
    _check_precision(config)


def check_objective(config: RunConfig, model: D2VLMConfig) -> None:
    """Check that the model can be trained with the objective.

    Raises:
        InputError: FPO, which compares evidence, of a model that matches frames.
    """
    if config.objective == "fpo" and model.matches:
        raise InputError(
            f"{config.model.name or config.model.init} expresses times by matching frames, and FPO "
            "compares evidence; train it with: vidground train sft"
        )


def _check_precision(config: RunConfig) -> None:
    dtype, precision = config.model.dtype, config.schedule.precision
    if dtype == "float16" or (dtype == "bfloat16" and precision == "float32"):
        raise InputError(
            f"model.dtype is {dtype!r} and schedule.precision {precision!r}, which do not train "
            "together; omit model.dtype, or set both to 'bfloat16'"
        )


def _check_reference(config: RunConfig) -> None:
    if config.reference and config.objective != "fpo":
        raise InputError("reference is for FPO; remove it, or run: vidground train fpo")
    if config.reference and config.distribution.sharded:
        raise InputError("reference needs the whole model on each device; use DDP, or no reference")


def _check_adapter(config: RunConfig) -> None:
    if config.output.weights != "adapter":
        return
    if config.parameters.trained != "released":
        raise InputError(
            f"output.weights is 'adapter' and parameters.trained {config.parameters.trained!r}; "
            "only the released set can be saved as an adapter, use 'merged'"
        )
    if not (config.sft.evidence_stage and config.sft.visual_semantics):
        raise InputError(
            "output.weights is 'adapter', and the released format cannot store that a model "
            "has no evidence_stage or no visual_semantics; use 'merged'"
        )
    if config.model.revision is not None:
        raise InputError(
            "output.weights is 'adapter' and model.revision is set, which an adapter cannot "
            "name; use 'merged', or start from a folder"
        )


def _check_cached_frames(config: RunConfig) -> None:
    trained = config.parameters.trained
    if config.data.frames == "patches" and trained == "full":
        raise InputError(
            "data.frames is 'patches' and parameters.trained 'full', so the vision encoder "
            "is trained and its features change; use 'pixels', or 'full-but-vision'"
        )
    if config.data.frames == "tokens" and trained != "language":
        raise InputError(
            f"data.frames is 'tokens' and parameters.trained {trained!r}, so the compressor "
            "is trained and its tokens change; use 'patches' or 'pixels', or 'language'"
        )


def _check_evaluation(config: RunConfig) -> None:
    evaluated = config.output.eval_every is not None
    if evaluated and not config.data.evaluation:
        raise InputError("output.eval_every is set; name held-out files in data.evaluation")
    if config.data.evaluation and not evaluated:
        raise InputError(
            "data.evaluation is set and output.eval_every is not, so nothing would be "
            "evaluated; set the number of steps, or omit data.evaluation"
        )
    if config.schedule.patience is not None and not evaluated:
        raise InputError(
            "schedule.patience needs held-out losses; set output.eval_every and data.evaluation"
        )
    if config.output.model == "best" and not evaluated:
        raise InputError(
            "output.model 'best' needs held-out losses; set output.eval_every and data.evaluation"
        )
    if config.output.model == "best" and config.distribution.sharded:
        raise InputError(
            "output.model 'best' needs the whole model on each device; use DDP, or 'last'"
        )
