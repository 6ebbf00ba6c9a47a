"""Time an FPO step against the same step computed as the released code does it.

Not a test: it takes minutes. Both steps run forward and backward on the same random weights and
the same pairs, one sample at a time, in turn. First they are compared: the same loss, the same
gradients.

    python -m tests.scripts.run_fpo_throughput --threads 2

The released way is that of `packed_fpo.py`, with eager attention. Lengths are realistic; the
model's parts stand to each other in cost as those of the released size do: a frame costs the
compressor 2.6 times what a token costs the language model, and the vision encoder 25 times as much
again. Without --pixels both begin at patch features, so that only the passes are compared; how
long the compressor takes, which both run alike, is told apart. With --pixels the released way
encodes the frames in every step, as it must, and ours reads the features that `data.frames:
patches` keeps.
"""

import argparse
import copy
import random
import statistics
import time
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig, Phi3Config

from tests.helpers.packed_fpo import packed_fpo_loss
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import PreferenceSample, Response, TrainingPrompt
from vidground.training.objectives.forward import embed
from vidground.training.objectives.fpo import fpo_losses
from vidground.training.objectives.settings import FpoSettings, LoraSettings, ParameterSettings
from vidground.training.parameters import count_parameters, prepare_parameters

SETTINGS = FpoSettings()
EVIDENCE, EVIDENCE_END, TURN_END = 4, 5, 6
TEXT = range(10, 60)  # token ids of all other words
Trained = Literal["released", "full-but-vision"]


@dataclass(frozen=True)
class Sizes:
    """Of a model and its samples. side: patches along a frame's edge. answer: tokens a response.

    text_layers: of the language model; the released share of them (6 of 32) is before evidence.
    """

    frames: int = 90
    answer: int = 100
    events: int = 4
    question: int = 40
    side: int = 16
    queries: int = 32
    vision_width: int = 256
    vision_layers: int = 1
    qformer_width: int = 128
    qformer_layers: int = 6
    text_width: int = 512
    text_layers: int = 16
    vocabulary: int = 5344


def make_config(sizes: Sizes) -> D2VLMConfig:
    """Without dropout, so that two runs compute the same."""
    return D2VLMConfig(
        vision_config=InstructBlipVisionConfig(
            image_size=4 * sizes.side,
            patch_size=4,
            hidden_size=sizes.vision_width,
            intermediate_size=round(sizes.vision_width * 4.36),
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.vision_width // 32,
        ),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=64,
            hidden_size=sizes.qformer_width,
            intermediate_size=4 * sizes.qformer_width,
            num_hidden_layers=sizes.qformer_layers,
            num_attention_heads=sizes.qformer_width // 32,
            encoder_hidden_size=sizes.vision_width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        text_config=Phi3Config(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.text_width,
            intermediate_size=round(sizes.text_width * 2.67),
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_width // 32,
            num_key_value_heads=sizes.text_width // 32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=TURN_END,
        ),
        num_query_tokens=sizes.queries,
        evidence_layer=max(1, round(sizes.text_layers * 6 / 32)),
        evidence_token_id=EVIDENCE,
        evidence_end_token_id=EVIDENCE_END,
        turn_end_token_id=TURN_END,
    )


def make_model(sizes: Sizes, *, trained: Trained = "released") -> D2VLM:
    """Random weights, prepared for training."""
    torch.manual_seed(0)
    model = D2VLM(make_config(sizes)).eval()
    torch.nn.init.normal_(model.compressor.queries, std=0.02)
    prepare_parameters(
        model, ParameterSettings(trained=trained, lora=LoraSettings(rank=16, alpha=32, dropout=0))
    )
    return model


def with_eager_attention(model: D2VLM) -> D2VLM:
    """A copy that computes attention step by step, as the released code does."""
    eager = copy.deepcopy(model)
    config = eager.config
    for part in (config, config.vision_config, config.qformer_config, config.text_config):
        part._attn_implementation = "eager"
    return eager


def make_sample(sizes: Sizes, seed: int, frames: Tensor) -> PreferenceSample:
    """A question on a video, and two answers with intervals of their own."""
    draw = random.Random(seed)
    words = draw.choices(TEXT, k=sizes.question)
    prompt = TrainingPrompt(draw.choices(TEXT, k=15), [*words, *words[:10]], words, frames)
    chosen, rejected = (_response(sizes, draw) for _ in range(2))
    return PreferenceSample(prompt, chosen, rejected)


def _response(sizes: Sizes, draw: random.Random) -> Response:
    times = range(sizes.frames)
    spans = [(min(pair), max(pair)) for pair in (draw.choices(times, k=2) for _ in range(8))]
    spans = spans[: sizes.events]
    tokens = [EVIDENCE] * sizes.events + [EVIDENCE_END]
    words = (sizes.answer - 2 * sizes.events - 2) // sizes.events
    for _ in spans:
        tokens += [EVIDENCE, *draw.choices(TEXT, k=words)]
    return Response([*tokens, TURN_END], spans)


def make_frames(model: D2VLM, sizes: Sizes, seed: int, *, pixels: bool) -> Tensor:
    """Random frames as normalised pixels, or as patch features."""
    generator = torch.Generator().manual_seed(seed)
    side = model.config.image_size
    shape = (3, side, side) if pixels else (sizes.side**2, sizes.vision_width)
    return torch.randn(sizes.frames, *shape, generator=generator)


class Steps:
    """Both steps on one pair. pixels: what the released way begins at."""

    def __init__(self, model: D2VLM, sizes: Sizes, seed: int, *, pixels: bool) -> None:
        collator = Collator.of(model.config, SETTINGS.sft)
        self._model, self._eager = model, with_eager_attention(model)
        frames = make_frames(model, sizes, seed, pixels=pixels)
        self._batch = collator([make_sample(sizes, seed, frames)])
        with torch.no_grad():
            kept = model.encode_frames(frames) if pixels else frames
        self._kept = replace(self._batch, frames=kept)

    def ours(self) -> tuple[float, D2VLM]:
        """Forward and backward; the loss, and the model with its gradients."""
        self._model.zero_grad()
        loss = fpo_losses(self._model, self._kept, SETTINGS).total(SETTINGS)
        loss.backward()
        return float(loss.detach()), self._model

    def released(self) -> tuple[float, D2VLM]:
        """As `ours`, in the released way."""
        self._eager.zero_grad()
        loss = packed_fpo_loss(self._eager, self._batch, SETTINGS)
        loss.backward()
        return float(loss.detach()), self._eager

    def compressor(self) -> None:
        """The part of `ours` that makes frame tokens of patch features, alone."""
        self._model.zero_grad()
        embed(self._model, self._kept).sum().backward()


def largest_difference(ours: D2VLM, released: D2VLM) -> float:
    """Of all gradients, as a share of the largest gradient's norm."""
    theirs = {n: p.grad for n, p in released.named_parameters() if p.grad is not None}
    pairs = [(p.grad, theirs.pop(n)) for n, p in ours.named_parameters() if p.grad is not None]
    assert not theirs, f"gradients of the released way only: {sorted(theirs)}"
    largest = max(float(gradient.norm()) for gradient, _ in pairs)
    return max(float(torch.dist(a, b)) for a, b in pairs) / largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=Sizes.frames)
    parser.add_argument("--answer", type=int, default=Sizes.answer, help="tokens of a response")
    parser.add_argument("--trained", choices=["released", "full-but-vision"], default="released")
    parser.add_argument("--pixels", action="store_true", help="the released way encodes frames")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = Sizes(
        frames=options.frames, answer=options.answer, vision_layers=16 if options.pixels else 1
    )
    model = make_model(sizes, trained=options.trained)
    steps = Steps(model, sizes, seed=1, pixels=options.pixels)
    print(f"{count_parameters(model)}; {sizes.frames} frames, 2 x {sizes.answer} answer tokens")
    (loss, ours), (their_loss, theirs) = steps.ours(), steps.released()
    difference = largest_difference(ours, theirs)
    print(f"loss {loss:.6f} and {their_loss:.6f}; gradients differ by {difference:.1e}")
    assert abs(loss - their_loss) <= 1e-4 * abs(their_loss)
    assert difference <= 1e-4
    times: dict[str, list[float]] = {"ours": [], "released": [], "compressor": []}
    for _ in range(options.rounds):
        for name, seconds in times.items():
            # Of the processor: other work on the machine stretches the time of the clock.
            start = time.process_time()
            getattr(steps, name)()
            seconds.append(time.process_time() - start)
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name}: {min(seconds):.2f} processor seconds at best, {median:.2f} median")
    tell_ratios("released / ours", times["released"], times["ours"])
    if not options.pixels:
        theirs, ours_alone = (
            [whole - part for whole, part in zip(times[name], times["compressor"], strict=True)]
            for name in ("released", "ours")
        )
        tell_ratios("released / ours without the compressor", theirs, ours_alone)


def tell_ratios(name: str, theirs: list[float], ours: list[float]) -> None:
    ratios = sorted(their / our for their, our in zip(theirs, ours, strict=True))
    median = statistics.median(ratios)
    print(f"{name}: {ratios[0]:.2f} least, {median:.2f} median, {ratios[-1]:.2f} most")


if __name__ == "__main__":
    main()
