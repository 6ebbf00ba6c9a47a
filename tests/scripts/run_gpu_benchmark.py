"""All that is to be measured on a GPU, in less than ten minutes, as one table.

Not a test: it needs a GPU with 40 GB for the released size. Weights are random, so none are needed.

    python -m tests.scripts.run_gpu_benchmark FOLDER
    python -m tests.scripts.run_gpu_benchmark FOLDER --device cpu --size mid --videos 2 --tokens 12

FOLDER gets a clip of one minute in 1080p (20 MB), and links to it as the other videos. Without PyAV
(`av`) all that begins at files is left out, and said.

The released procedure takes minutes for what vidground does in seconds, so it gets the first
videos only; what is compared is the time of a video. How busy the GPU is, nvidia-smi tells, which
counts the time in which anything ran. Decoding alone runs on all processor cores, and then on the
card's own decoders for some of the videos, whose pictures are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import torch
from torch import Tensor

from vidground import DecodingSettings
from vidground.benchmark.measuring import (
    Ceilings,
    StageMeter,
    best_seconds,
    device_name,
    measure_ceilings,
    synchronize,
)
from vidground.benchmark.random_model import random_model
from vidground.benchmark.workload import token_work, vision_work
from vidground.errors import VidgroundError
from vidground.generation.generation_queue import generate_each
from vidground.generation.prompt_batch import PromptInputs
from vidground.language.prompts import PromptIds, captioning_question, chat_prompt, encode_prompt
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import BatchSettings

FRAMES = 60
"""Of a prompt: a minute of video."""
CARD_VIDEOS, CARD_READERS = 16, 8
"""So many videos are decoded on the card, and so many of them at once."""


@dataclass(frozen=True)
class Row:
    """A line of the table. value: in words or a number with its unit. met: None without target."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None


class Bench:
    """A model with what the device can do, and the settings of the runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.tokens: int = options.tokens
        self.batch: int = options.batch
        self.ceilings: Ceilings = measure_ceilings(self.device, dtype)
        self.model: D2VLM = random_model(options.size, device=self.device, dtype=dtype)
        assert self.model.tokenizers is not None
        question = chat_prompt(captioning_question())
        self.prompt: PromptIds = encode_prompt(question, self.model.tokenizers)

    def frame_tokens(self) -> Tensor:
        """Those of a minute, random."""
        width = self.model.config.text_config.hidden_size
        return torch.randn(FRAMES, width, device=self.device, dtype=self.model.dtype)

    def seconds(self, rows: int, tokens: int, *, graphs: bool | None = None) -> float:
        """What it takes to generate answers of so many tokens to so many prompts."""
        before, after = self.prompt.before, self.prompt.after
        prompts = [PromptInputs(before, after, self.frame_tokens()) for _ in range(rows)]
        settings = DecodingSettings(max_new_tokens=tokens, loop_tokens=0)
        return best_seconds(
            lambda: list(
                generate_each(self.model, prompts, settings, BatchSize(rows), graphs=graphs)
            ),
            self.device,
            min_s=0.0,
        )


def machine(bench: Bench) -> Iterator[Row]:
    """What the shares are of."""
    yield Row("device", f"{device_name(bench.device)}, torch {torch.__version__}")
    parameters = sum(parameter.numel() for parameter in bench.model.parameters())
    yield Row("model", f"{parameters / 1e9:.2f} B parameters, {bench.model.dtype}")
    yield Row("a large matrix product", f"{bench.ceilings.flops_per_s / 1e12:.1f} TFLOP/s")
    yield Row("a large copy", f"{bench.ceilings.bytes_per_s / 1e12:.3f} TB/s")


@torch.inference_mode()
def vision(bench: Bench, batches: tuple[int, ...]) -> Iterator[Row]:
    """The vision encoder, as a share of the matrix product."""
    side = bench.model.config.image_size
    shares = []
    for count in batches:
        frames = torch.randn(count, 3, side, side, device=bench.device, dtype=bench.model.dtype)
        seconds = best_seconds(
            lambda pixels=frames: bench.model.encode_frames(pixels), bench.device
        )
        work = vision_work(bench.model.config, count)
        shares.append(work.flops / seconds / bench.ceilings.flops_per_s)
        each = f"{seconds / count * 1e3:.2f} ms a frame"
        yield Row(f"vision, {count} frames at once", f"{shares[-1]:.1%} ({each})")
    yield Row("vision, best", f"{max(shares):.1%}", ">= 50 %", max(shares) >= 0.5)


def generation(bench: Bench) -> Iterator[Row]:
    """All tokens but the first: at batch 1 as a share of the copy, and what a batch gains."""
    rates = {}
    length = len(bench.prompt.before) + FRAMES + len(bench.prompt.after)
    for rows, graphs in ((1, False), (1, None), (bench.batch, None)):
        seconds = bench.seconds(rows, bench.tokens, graphs=graphs)
        seconds -= bench.seconds(rows, 1, graphs=graphs)
        steps = bench.tokens - 1
        lengths = [length + step for step in range(1, bench.tokens)]
        numbers = sum(token_work(bench.model.config, [one] * rows).numbers for one in lengths)
        share = numbers * bench.model.dtype.itemsize / seconds / bench.ceilings.bytes_per_s
        rates[rows] = rows * steps / seconds
        name = f"generation, batch {rows}{', no graphs' if graphs is False else ''}"
        told = (
            f"{share:.1%} of the copy, {rates[rows]:.0f} tokens/s, {seconds / steps * 1e3:.2f} ms"
        )
        yield Row(name, told, *(_goal(share, 0.5) if name.endswith("batch 1") else ()))
    gain = rates[bench.batch] / rates[1]
    met = gain >= 15 if bench.batch == 32 else None
    yield Row(f"tokens/s, batch {bench.batch} against 1", f"{gain:.1f} x", ">= 15 at 32", met)


def _goal(share: float, least: float) -> tuple[str, bool]:
    return f">= {least:.0%}", share >= least


def whole(bench: Bench, videos: list[Path], theirs: int) -> Iterator[Row]:
    """Files to captions, beside the released procedure on the first videos."""
    from vidground import DenseCaptioner
    from vidground.benchmark.decode_comparison import decode_all
    from vidground.benchmark.released_procedure import answer_as_released

    captioner = DenseCaptioner(
        bench.model,
        decoding=DecodingSettings(max_new_tokens=bench.tokens, loop_tokens=0),
        batch=BatchSettings(prompts=bench.batch),
    )
    list(captioner.caption_many(videos[:1]))
    start = time.perf_counter()
    with gpu_use() as used:
        results = list(captioner.caption_many(videos))
    ours_s = time.perf_counter() - start
    assert len(results) == len(videos)
    video_s = sum(result.video.duration_s for result in results)
    each_s = ours_s / len(videos)
    told = f"{ours_s:.1f} s, {each_s:.2f} s each, {video_s / ours_s:.0f} s of video a second"
    yield Row(f"{len(videos)} videos, {bench.tokens} tokens each", told)
    decoding_s = decode_all(
        videos, fps=1, image_size=bench.model.config.image_size, readers=os.cpu_count() or 1
    ).seconds
    limit = f"{decoding_s:.1f} s, {decoding_s / ours_s:.0%} of the whole"
    yield Row(f"decoding alone, {os.cpu_count()} threads", limit)
    if used:
        busy = statistics.mean(used) / 100
        met = busy >= 0.6 or decoding_s >= 0.9 * ours_s
        yield Row("GPU busy from 1080p files", f"{busy:.0%}", ">= 60 % or decoding", met)
    else:
        yield Row("GPU busy from 1080p files", "not told: no nvidia-smi")
    meter = StageMeter(bench.device)
    synchronize(bench.device)
    start = time.perf_counter()
    for path in videos[:theirs]:
        answer_as_released(bench.model, path, bench.prompt, fps=1, tokens=bench.tokens, meter=meter)
    theirs_s = (time.perf_counter() - start) / theirs
    for name, usage in meter.usage.items():
        yield Row(f"released: {name}", f"{usage.seconds / theirs:.3f} s a video")
    ratio = theirs_s / each_s
    told = f"{ratio:.1f} x ({theirs_s:.2f} s a video, {theirs} of them)"
    yield Row("against the released procedure", told, ">= 10", ratio >= 10)


def decoding(bench: Bench, videos: list[Path]) -> Iterator[Row]:
    """The card's decoders beside all processor cores, nothing else, on the same videos."""
    from vidground.benchmark.decode_comparison import compare_decoding
    from vidground.video.nvdec import opens_card

    if not opens_card("auto"):
        yield Row("decoding on the card", "left out: no card that decodes video")
        return
    try:
        compared = compare_decoding(
            videos,
            fps=1,
            image_size=bench.model.config.image_size,
            decode_on="cuda",
            readers=CARD_READERS,
            cpu_readers=os.cpu_count() or 1,
        )
    except VidgroundError as error:  # whose reason is a finding, too
        yield Row("decoding on the card", f"failed: {error}")
        return
    there = f"{compared.seconds:.1f} s, {len(videos)} videos, {compared.readers} at once"
    yield Row("decoding on the card", there)
    gain = compared.cpu_seconds / compared.seconds
    here = f"{compared.cpu_seconds:.1f} s, {compared.cpu_readers} at once; the card {gain:.1f} x"
    yield Row("decoding on the processor", here)
    told, met = f"{compared.equal} of {compared.frames}", compared.equal == compared.frames
    yield Row("equal pictures", told, "all", met)


@contextmanager
def gpu_use() -> Iterator[list[int]]:
    """Percent of time in which the GPU had something to do, five samples a second; when left."""
    used: list[int] = []
    if which("nvidia-smi") is None:
        yield used
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    process = subprocess.Popen([*query, "-lms", "200"], stdout=subprocess.PIPE, text=True)
    try:
        yield used
    finally:
        process.terminate()
        out, _ = process.communicate()
        for line in out.splitlines():
            with suppress(ValueError):
                used.append(int(line))


def make_videos(folder: Path, count: int, seconds: int, height: int) -> list[Path]:
    """A clip of moving texture with noise, and links to it."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / f"clip_{height}p_{seconds}s.mp4"
    if not clip.exists():
        encode_clip(clip, seconds, height)
    videos = [folder / f"{clip.stem}_{number}.mp4" for number in range(count)]
    for video in videos:
        if not video.exists():
            os.link(clip, video)
    return videos


def encode_clip(clip: Path, seconds: int, height: int, *, fps: int = 25) -> None:
    """H.264 with a key frame every 250 frames, as encoders do by default."""
    import av

    width = height * 16 // 9 // 2 * 2
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 200, (height * 3 // 2 // 30 + 1, width // 40 + 1), np.uint8)
    scene = np.kron(coarse, np.ones((30, 40), np.uint8))[: height * 3 // 2, :width]
    noise = [draw.integers(0, 16, scene.shape, np.uint8) for _ in range(8)]
    part = clip.with_suffix(".part.mp4")
    with av.open(str(part), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps), options={"preset": "veryfast", "g": "250"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * fps):
            picture = np.roll(scene, index, axis=1) + noise[index % 8]
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    part.rename(clip)


def show(row: Row) -> None:
    verdict = "" if row.met is None else "met" if row.met else "MISSED"
    print(f"{row.name:<36} {row.value:<56} {row.target:<20} {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="official", choices=["official", "mid"])
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32, help="prompts at once")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--theirs", type=int, default=3, help="videos for the released procedure")
    parser.add_argument("--seconds", type=int, default=60, help="of a video")
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--json", type=Path, help="write the table here, too")
    options = parser.parse_args()
    begin = time.perf_counter()
    bench = Bench(options)
    rows: list[Row] = []
    parts = [machine(bench), vision(bench, tuple(options.frames)), generation(bench)]
    if find_spec("av") is None:
        parts.append(iter([Row("from files", "left out: PyAV (av) is not installed")]))
    else:
        videos = make_videos(options.folder, options.videos, options.seconds, options.height)
        parts.append(whole(bench, videos, min(options.theirs, options.videos)))
        parts.append(decoding(bench, videos[:CARD_VIDEOS]))
    for part in parts:
        for row in part:
            show(row)
            rows.append(row)
    rows.append(Row("took", f"{time.perf_counter() - begin:.0f} s"))
    show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
