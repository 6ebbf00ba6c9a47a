"""Time the vision encoder at the official width on torch and onnxruntime, and compare features.

Not a test: two blocks take a minute and 1 GB, all 39 an hour and 16 GB.

    python -m tests.scripts.run_onnx_benchmark --blocks 2
    python -m tests.scripts.run_onnx_benchmark --blocks 39 --repeats 3

Weights are random, all runs have the same, and the same frames. The runs are interleaved, so that
what else the machine does meets all of them. Ratios are of the fastest runs by the clock, and of
the medians of processor time, which other work on the machine changes less (on one thread, that
is: threads that wait for each other use some).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vidground import D2VLM
from vidground.export.onnx import export_onnx
from vidground.features.onnx_encoder import OnnxVision
from vidground.model.configuration import D2VLMConfig
from vidground.video.preprocessing import normalize

Encode = Callable[[Tensor], Tensor]


@dataclass
class Runner:
    """A way to encode frames, and how long it took."""

    name: str
    encode: Encode
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def run(self, frames: Tensor) -> None:
        """Encode once and note the time."""
        cpu, start = time.process_time(), time.perf_counter()
        self.encode(frames)
        self.seconds.append(time.perf_counter() - start)
        self.cpu_s.append(time.process_time() - cpu)


def random_model(blocks: int) -> D2VLM:
    """The official vision encoder with so many blocks; all else is small."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = D2VLMConfig(
        vision_config={"num_hidden_layers": blocks},
        qformer_config={**small, "intermediate_size": 64, "vocab_size": 100},
        text_config={**small, "intermediate_size": 64, "vocab_size": 100, "pad_token_id": 0},
        evidence_token_id=1,
        evidence_end_token_id=2,
        turn_end_token_id=3,
    )
    torch.manual_seed(0)
    model = D2VLM(config).eval()
    for parameter in model.vision.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def random_frames(count: int, size: int) -> Tensor:
    """Smooth coloured pictures, normalised."""
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return normalize((smooth * 255).to(torch.uint8), dtype=torch.float32, device="cpu")


def torch_runner(model: D2VLM, attention: str) -> Encode:
    def encode(frames: Tensor) -> Tensor:
        model.config.vision_config._attn_implementation = attention
        return model.encode_frames(frames)

    return encode


def onnx_runner(model: D2VLM, folder: Path, dtype: str) -> Encode:
    start = time.perf_counter()
    export = export_onnx(model, folder / dtype, dtype=dtype)
    written = time.perf_counter()
    backend = OnnxVision(export.path, model, provider="cpu")
    opened = time.perf_counter()
    kept = export.details.get("blocks_in_float")
    note = "" if kept is None else f", {kept} blocks in float"
    print(
        f"{dtype}: exported in {written - start:.1f} s, opened in {opened - written:.1f} s{note}",
        flush=True,
    )
    return backend.encode_frames


def measure(runners: list[Runner], frames: Tensor, repeats: int) -> None:
    """Run all in turn, once to warm up, and print a row for each."""
    features = {runner.name: runner.encode(frames) for runner in runners}
    for runner in runners:
        runner.seconds.clear()
        runner.cpu_s.clear()
    for _ in range(repeats):
        for runner in runners:
            runner.run(frames)
    wanted = features["torch eager"].double()
    eager, sdpa = (next(r for r in runners if r.name == f"torch {n}") for n in ("eager", "sdpa"))
    for runner in runners:
        cosines = torch.cosine_similarity(features[runner.name].double(), wanted, dim=-1)
        print(
            f"{len(frames):>5}  {runner.name:<12} {min(runner.seconds) / len(frames) * 1e3:>8.1f}"
            f"  {ratios(eager, runner):>13} {ratios(sdpa, runner):>13}"
            f"   {cosines.min():.6f}  {cosines.mean():.6f}",
            flush=True,
        )


def ratios(base: Runner, runner: Runner) -> str:
    fastest = min(base.seconds) / min(runner.seconds)
    cpu = statistics.median(base.cpu_s) / statistics.median(runner.cpu_s)
    return f"{fastest:.2f} / {cpu:.2f}"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=2, help="39 is the official encoder")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = random_model(options.blocks)
    print(f"{options.blocks} blocks, {options.threads} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        runners = [
            Runner("torch eager", torch_runner(model, "eager")),
            Runner("torch sdpa", torch_runner(model, "sdpa")),
            *(
                Runner(f"onnx {dtype}", onnx_runner(model, Path(folder), dtype))
                for dtype in ("fp32", "int8")
            ),
        ]
        print("                                times as fast as: clock / processor")
        print("batch  encoder      ms/frame          eager          sdpa   cosine min, mean")
        for batch in options.batches:
            measure(runners, random_frames(batch, model.config.image_size), options.repeats)


if __name__ == "__main__":
    main()
