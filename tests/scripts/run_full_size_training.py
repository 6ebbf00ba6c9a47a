"""Train a model of the released size, with random weights, for a few steps; tell memory and time.

Not a test: it needs a GPU with some 40 GiB for the lengths that it begins with.

    python -m tests.scripts.run_full_size_training

As the released model was trained: adapters and the released set in float32, the rest in bfloat16,
AdamW, one sample a step (paper, section 4.1). SFT first, then FPO, on random frames and words. The
memory is compared with what `vidground train --dry-run` tells.
"""

import argparse
import time

import torch

from tests.scripts.run_fpo_throughput import (
    EVIDENCE,
    EVIDENCE_END,
    TURN_END,
    Sizes,
    make_config,
    make_sample,
)
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import SftSample
from vidground.training.memory_estimate import SampleLengths, batch_memory, fixed_memory
from vidground.training.objectives.objective import FpoObjective, Objective, SftObjective
from vidground.training.objectives.settings import FpoSettings, ParameterSettings, SftSettings
from vidground.training.parameters import count_parameters, parameter_groups, prepare_parameters

GIBIBYTE = 1 << 30
SETTINGS = ParameterSettings()
TINY = Sizes(
    frames=5,
    answer=30,
    side=3,
    queries=4,
    vision_width=32,
    qformer_width=32,
    qformer_layers=2,
    text_width=64,
    text_layers=3,
    vocabulary=64,
)


def released_config() -> D2VLMConfig:
    """The released sizes; the tokens' numbers are those that random answers are made of."""
    return D2VLMConfig(
        evidence_token_id=EVIDENCE, evidence_end_token_id=EVIDENCE_END, turn_end_token_id=TURN_END
    )


def random_model(config: D2VLMConfig, device: str) -> D2VLM:
    """In bfloat16, made where it is needed: weights of 10 GB do not pass through the processor."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = D2VLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.nn.init.normal_(model.compressor.queries, std=0.02)
    prepare_parameters(model, SETTINGS)
    return model.to(device)


def make_objective(kind: str, model: D2VLM) -> Objective:
    return (
        SftObjective(model, SftSettings()) if kind == "sft" else FpoObjective(model, FpoSettings())
    )


def run_steps(kind: str, model: D2VLM, sizes: Sizes, *, steps: int, checkpointing: bool) -> None:
    """Train, and print a line for each step."""
    objective, device = make_objective(kind, model).train(), model.device
    if checkpointing:
        objective.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(parameter_groups(model, SETTINGS))
    side = model.config.image_size
    for step in range(1, steps + 1):
        frames = torch.randint(256, (sizes.frames, 3, side, side), dtype=torch.uint8)
        pair = make_sample(sizes, step, frames)
        sample = SftSample(pair.prompt, pair.chosen) if kind == "sft" else pair
        batch = Collator.of(model.config, SftSettings())([sample]).to(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        told = f"{float(loss.detach()):.3f}"  # waits for the device
        peak = "not measured"
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            peak = f"{torch.cuda.max_memory_allocated(device) / GIBIBYTE:.2f} GiB"
        seconds = time.perf_counter() - start
        print(f"{kind} step {step}: loss {told}, {seconds:.2f} s, peak {peak}", flush=True)


def tell_estimate(kind: str, config: D2VLMConfig, sizes: Sizes, *, checkpointing: bool) -> None:
    """What a dry run says of the memory, for comparison."""
    with torch.device("meta"):
        model = D2VLM(config).to(torch.bfloat16)
        prepare_parameters(model, SETTINGS)
    objective = make_objective(kind, model).train()
    if checkpointing:
        objective.enable_gradient_checkpointing()
    responses = 1 if kind == "sft" else 2
    prompt = 15 + sizes.question + 10
    lengths = SampleLengths(sizes.frames, sizes.question, prompt, sizes.answer, responses)
    fixed = fixed_memory(model).total
    states = batch_memory(model, lengths, 1, precision=torch.bfloat16, pixels=True)
    print(
        f"{kind}: estimated {(fixed + states) / GIBIBYTE:.2f} GiB, {states / GIBIBYTE:.2f} GiB of "
        f"it states ({lengths})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--answer", type=int, default=100, help="tokens of a response")
    parser.add_argument("--steps", type=int, default=3, help="of each kind")
    parser.add_argument("--checkpointing", action="store_true", help="of gradients")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try this program")
    options = parser.parse_args()
    sizes = TINY if options.tiny else Sizes(frames=options.frames, answer=options.answer)
    config = make_config(TINY) if options.tiny else released_config()
    for kind in ("sft", "fpo"):
        tell_estimate(kind, config, sizes, checkpointing=options.checkpointing)
    start = time.perf_counter()
    model = random_model(config, options.device)
    print(f"{count_parameters(model)}; made in {time.perf_counter() - start:.0f} s", flush=True)
    for kind in ("sft", "fpo"):
        run_steps(kind, model, sizes, steps=options.steps, checkpointing=options.checkpointing)


if __name__ == "__main__":
    main()
