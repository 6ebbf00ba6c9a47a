"""Check the bundled model on a device: its files, numbers, batch sizes and batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vidground.benchmark.random_model import official_config, parameter_count
from vidground.devices import choose_dtype
from vidground.doctor.findings import REPORT_IT, Finding, failed, ok, warning
from vidground.doctor.loading import dtype_name, given_answers, json_number, load_engine
from vidground.doctor.machine import gib
from vidground.doctor.numbers import (
    MODEL,
    Numbers,
    deviation,
    forced_logits,
    measure,
    model_files,
    read_golden,
    share_apart,
    tolerance,
)
from vidground.errors import NumericError
from vidground.memory import free_bytes
from vidground.model.d2vlm import D2VLM

_REINSTALL = "install it again: pip install --force-reinstall --no-deps vidground"


def check_weights() -> Iterator[Finding]:
    """Check the hashes of the bundled model's files."""
    right, found = read_golden()[1], model_files()
    wrong = sorted(name for name in right if name in found and found[name] != right[name])
    missing = sorted(right.keys() - found.keys())
    if wrong or missing:
        parts = [f"differs from the shipped one: {name}" for name in wrong]
        parts += [f"missing: {name}" for name in missing]
        yield failed(MODEL, "; ".join(parts), _REINSTALL, wrong=wrong, missing=missing)
    else:
        yield ok(MODEL, f"all {len(right)} files have the right hash", files=len(right))


def check_device(device: str) -> Iterator[Finding]:
    """Load the bundled model as a user does; report the chosen dtype and batch sizes."""
    engine = load_engine(device)
    sizes = engine.sizes
    chosen = {"prompts": sizes.prompts, "frames": sizes.frames, "videos": sizes.videos,
              "readers": sizes.readers}  # fmt: skip
    dtype, free = engine.model.dtype, free_bytes(engine.model.device)
    yield ok(
        device,
        f"computes in {dtype_name(dtype)}; batch sizes for the bundled model: prompts "
        f"{sizes.prompts}, frames {sizes.frames}, videos {sizes.videos}, readers {sizes.readers}",
        dtype=dtype_name(dtype), free_bytes=free, batch_sizes=chosen,
    )  # fmt: skip
    parameters = parameter_count(official_config())
    best = choose_dtype(engine.model.device, parameters)
    needed = parameters * getattr(torch, best.name).itemsize
    message = (
        f"the released weights need {gib(needed)} in {best.name}, chosen because {best.reason}, "
        f"plus memory for frames and answers; {gib(free)} are free"
    )
    values = {"needed_bytes": needed, "free_bytes": free, "dtype": best.name}
    if needed < free:
        yield ok(f"{device} memory", message, **values)
    else:
        yield warning(
            f"{device} memory", message, "use --weights int8, --dtype bfloat16, or free memory",
            **values,
        )  # fmt: skip


def check_golden(device: str) -> Iterator[Finding]:
    """Compare with the shipped numbers, in the device's default dtype and in float32."""
    right = read_golden()[0]
    engine = load_engine(device)
    yield compare_numbers(device, engine.model, right)
    if engine.model.dtype != torch.float32:
        yield compare_numbers(device, load_engine(device, torch.float32).model, right)


def compare_numbers(device: str, model: D2VLM, right: Numbers) -> Finding:
    """Compare a model's numbers for the film with the right ones.

    Args:
        device: of the model.
        model: to run.
        right: the shipped numbers.
    """
    subject = f"{device}, {dtype_name(model.dtype)}"
    try:
        allowed, found = tolerance(device, model.dtype), measure(model)
    except NumericError as error:
        return failed(subject, str(error), f"do not trust results from here; {REPORT_IT}")
    apart = {name: deviation(found.tensors[name], values) for name, values in right.tensors.items()}
    worst = max(apart, key=apart.__getitem__)
    same = [list(ids) for ids in found.tokens] == [list(ids) for ids in right.tokens]
    spans = [[list(span) for span in answer] for answer in found.intervals]
    same = same and spans == [[list(span) for span in answer] for answer in right.intervals]
    values = {"deviation": {name: json_number(share) for name, share in apart.items()},
              "tolerance": allowed, "same_answers": same}  # fmt: skip
    if max(apart.values()) > allowed:
        return failed(
            subject,
            f"{worst} is off by {apart[worst]:.2g} of its largest value (allowed {allowed:g})",
            f"do not trust results of this device; {REPORT_IT}",
            **values,
        )
    if not same:
        return failed(
            subject,
            "numbers are right, but answers or intervals differ",
            f"do not trust results of this device; {REPORT_IT}",
            **values,
        )
    return ok(
        subject,
        f"{worst} is off by {apart[worst]:.2g} of its largest value (allowed {allowed:g}), "
        "answers are the same",
        **values,
    )


def check_batch(device: str) -> Iterator[Finding]:
    """Compare logits of answers in a batch with those of each answer alone."""
    model = load_engine(device).model
    prompts, tokens = given_answers(model)
    together = forced_logits(model, prompts, tokens)
    apart = 0.0
    for row, (prompt, answer) in enumerate(zip(prompts, tokens, strict=True)):
        alone = forced_logits(model, [prompt], [answer])[:, 0]
        apart = max(apart, share_apart(together[: len(alone), row], alone))
    allowed = tolerance(device, model.dtype)
    subject = f"{device}, {dtype_name(model.dtype)}"
    message = f"logits in a batch of {len(prompts)} are off by {apart:.2g} (allowed {allowed:g})"
    values = {"deviation": json_number(apart), "tolerance": allowed}
    if apart <= allowed:
        yield ok(subject, message, **values)
    else:
        yield failed(subject, message, f"use --batch-size 1; {REPORT_IT}", **values)
