"""Time the decoding and sampling of video, one frame a second, against other decoders.

Not a test: making the clips takes ten minutes and 150 MB, and so does a round over them.

    pip install decord torchcodec==0.13.0     # what is missing is left out
    python -m tests.scripts.run_decode_benchmark FOLDER --rounds 3

FOLDER gets clips of one minute, unless it holds them: H.264 and HEVC, 720p and 1080p, a key frame
every 15, 60 and 250 frames, made by the program ffmpeg of its test picture with noise, at the
encoders' own quality. Every way gives 224-pixel squares of uint8 and runs on one thread in a
process of its own; the ways run in turn, so that what else the machine does meets all of them.
Ratios are told of the clock, and of processor time (of the process and those it starts), which
other work on the machine changes less.

Our pictures are compared with those of plain decoding, every frame in sequence. Memory is what a
process held at most, and how much of it came after its libraries were loaded.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = 224
FPS, SECONDS = 25, 60
WANTED = list(range(0, FPS * SECONDS, FPS))
"""The frames that one a second means in a clip of this constant rate."""

PART_SECONDS = 20
KINDS = tuple(product(("h264", "hevc"), (720, 1080), (15, 60, 250)))
"""Codec, height, and frames from one key frame to the next."""
FFMPEG = ("ffmpeg", "-v", "error", "-y")

Picture = npt.NDArray[np.uint8]
Way = Callable[[Path], Iterator[Picture]]


def ours(path: Path) -> Iterator[Picture]:
    """`VideoReader`, in this process."""
    from vidground.video.reader import VideoReader

    for run in VideoReader(path, fps=1, image_size=SIZE).runs():
        yield run.pixels.numpy()


def ours_alone(path: Path) -> Iterator[Picture]:
    """`FrameSampler` as the decoding process runs it: without torch, frames at full size."""
    from vidground.video.frame_sampler import FrameSampler

    for shown in FrameSampler(path, fps=1).frames():
        yield shown.frame.rgb()


def released(path: Path) -> Iterator[Picture]:
    """decord gives all wanted frames at full size; they are resized as floats."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    yield from _resized_floats(reader.get_batch(WANTED).asnumpy())


def released_by_pyav(path: Path) -> Iterator[Picture]:
    """As `released`, for where there is no decord; only wanted frames become RGB."""
    frames = [frame.to_ndarray(format="rgb24") for frame in _in_sequence(path)]
    yield from _resized_floats(np.stack(frames))


def _resized_floats(frames: Picture) -> Iterator[Picture]:
    import torch

    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    height, width = frames.shape[1:3]
    new_size = (SIZE, SIZE * width // height)
    small = torch.nn.functional.interpolate(scaled, new_size, mode="bilinear", antialias=True)
    left = (small.shape[3] - SIZE) // 2
    yield from (small[..., left : left + SIZE] * 255).round().to(torch.uint8).numpy()


def decord_resized(path: Path) -> Iterator[Picture]:
    """decord resizes while it decodes, by libswscale."""
    import decord

    _, height, width = facts(path)
    new_width = SIZE * width // height
    reader = decord.VideoReader(str(path), num_threads=1, width=new_width, height=SIZE)
    left = (new_width - SIZE) // 2
    squares = reader.get_batch(WANTED).asnumpy()[:, :, left : left + SIZE]
    yield from squares.transpose(0, 3, 1, 2)


def torchcodec_exact(path: Path) -> Iterator[Picture]:
    """torchcodec's exact mode gives frames at full size; each is resized as ours are."""
    from torchcodec.decoders import VideoDecoder

    from vidground.video.preprocessing import resize_and_crop

    decoder = VideoDecoder(
        str(path), seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC"
    )
    for index in WANTED:
        yield resize_and_crop(decoder[index].numpy(), SIZE).numpy()


def ffmpeg_program(path: Path) -> Iterator[Picture]:
    """The program selects frames and resizes them, by libswscale."""
    filters = f"select=not(mod(n\\,{FPS})),scale=-2:{SIZE}:flags=bilinear,crop={SIZE}:{SIZE}"
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-filter_threads", "1", "-i", str(path)]
    command += ["-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    data = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
    squares = np.frombuffer(data, np.uint8).reshape(-1, SIZE, SIZE, 3)
    yield from squares.transpose(0, 3, 1, 2)


def pyav_in_sequence(path: Path) -> Iterator[Picture]:
    """PyAV decodes every frame; those that are wanted become pictures as ours do."""
    from vidground.video.preprocessing import resize_and_crop

    for frame in _in_sequence(path):
        rgb = frame.to_ndarray(
            format="rgb24", src_color_range=frame.color_range, dst_color_range="JPEG"
        )
        yield resize_and_crop(rgb, SIZE).numpy()


def _in_sequence(path: Path) -> Iterator[Any]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index % FPS == 0:
                yield frame


def facts(path: Path) -> tuple[str, int, int]:
    """Codec, height and width of a clip, as its name tells them."""
    codec, height = path.stem.split("_")[:2]
    lines = int(height.removesuffix("p"))
    return codec, lines, lines * 16 // 9


OURS, ALONE, PLAIN = "ours", "ours, decoder alone", "PyAV in sequence"
RIVALS = ("decord resized", "torchcodec exact", "ffmpeg program")
WAYS: dict[str, tuple[Way, tuple[str, ...]]] = {
    OURS: (ours, ("vidground.video.reader",)),
    ALONE: (ours_alone, ("vidground.video.frame_sampler",)),
    "released, decord": (released, ("decord", "torch")),
    "released, PyAV": (released_by_pyav, ("av", "torch")),
    "decord resized": (decord_resized, ("decord",)),
    "torchcodec exact": (
        torchcodec_exact,
        ("torchcodec.decoders", "vidground.video.preprocessing"),
    ),
    "ffmpeg program": (ffmpeg_program, ()),
    PLAIN: (pyav_in_sequence, ("av", "vidground.video.preprocessing")),
}
"""Every way, and the libraries that are loaded before its time counts."""


def available() -> list[str]:
    """The ways that can be run here; the released one by decord, else by PyAV."""
    missing = {"released, PyAV"} if find_spec("decord") else {"released, decord", "decord resized"}
    missing |= set() if find_spec("torchcodec") else {"torchcodec exact"}
    missing |= set() if which("ffmpeg") else {"ffmpeg program"}
    return [name for name in WAYS if name not in missing]


def run_here(name: str, path: Path) -> dict[str, float | str]:
    """Run a way in this process; what it took, and a hash of its pictures."""
    way, libraries = WAYS[name]
    for library in libraries:
        import_module(library)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    pictures = np.zeros((SECONDS, 3, SIZE, SIZE), np.uint8)
    before_mb = peak_mb()
    cpu_s, start = cpu_seconds(), time.perf_counter()
    count = 0
    for picture in way(path):
        if name != ALONE:
            pictures[count] = picture
        count += 1
    taken_s, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu_s
    assert count == SECONDS, f"{name} gave {count} pictures"
    return {
        "seconds": taken_s,
        "cpu": cpu_s,
        "peak_mb": peak_mb(),
        "grown_mb": peak_mb() - before_mb,
        "digest": hashlib.sha256(pictures.tobytes()).hexdigest(),
    }


def cpu_seconds() -> float:
    """Of this process and those it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_mb() -> float:
    """Most memory this process has held, in MB (10^6 bytes)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def make_clips(folder: Path) -> list[Path]:
    """The clips, made unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for codec, height, distance in KINDS:
        clip = folder / f"{codec}_{height}p_{distance}.mp4"
        clips.append(clip)
        if not clip.exists():
            print(f"making {clip.name}", flush=True)
            make_clip(clip, codec, height, distance)
    return clips


def make_clip(clip: Path, codec: str, height: int, distance: int) -> None:
    """Encode a part of the clip's length, and repeat its packets."""
    part, whole = (clip.with_name(name) for name in ("part.mp4", "unfinished.mp4"))
    source = f"testsrc2=size={height * 16 // 9}x{height}:rate={FPS}:duration={PART_SECONDS}"
    command = [*FFMPEG, "-f", "lavfi", "-i", f"{source},noise=alls=4:allf=t"]
    if codec == "h264":
        command += ["-c:v", "libx264", "-preset", "faster"]
    else:
        keys = f"log-level=none:keyint={distance}:min-keyint={distance}"
        command += ["-c:v", "libx265", "-preset", "veryfast", "-tag:v", "hvc1"]
        command += ["-x265-params", keys]
    command += ["-g", str(distance), "-pix_fmt", "yuv420p", str(part)]
    subprocess.run(command, check=True)
    repeats = ["-stream_loop", str(SECONDS // PART_SECONDS - 1)]
    subprocess.run([*FFMPEG, *repeats, "-i", str(part), "-c", "copy", str(whole)], check=True)
    part.unlink()
    whole.rename(clip)


def compare(clip: Path, rounds: int) -> None:
    """Run all ways on a clip in turn and print a row for each."""
    names = available()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [
                sys.executable,
                "-m",
                "tests.scripts.run_decode_benchmark",
                str(clip),
                "--way",
                name,
            ]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[name].append(json.loads(told.splitlines()[-1]))
    same = {run["digest"] for name in (OURS, PLAIN) for run in runs[name]}
    print(
        f"\n{clip.name}: pictures {'equal' if len(same) == 1 else 'DIFFER FROM'} plain decoding's"
    )
    print("                         clock s    cpu s    times ours: clock, cpu   peak, grown MB")
    for name in names:
        clock, cpu = (ratios(runs, name, key) for key in ("seconds", "cpu"))
        times = [statistics.median(run[key] for run in runs[name]) for key in ("seconds", "cpu")]
        memory = [max(run[key] for run in runs[name]) for key in ("peak_mb", "grown_mb")]
        in_child = name == "ffmpeg program"
        held = "-" if in_child else f"{memory[0]:.0f}, {memory[1]:.0f}"
        print(
            f"  {name:<22} {times[0]:>7.2f} {times[1]:>8.2f} {clock:>16.2f} {cpu:>7.2f}"
            f"   {held:>14}",
            flush=True,
        )
    rivals = [name for name in RIVALS if name in names]
    fastest = min(rivals, key=lambda name: ratios(runs, name, "cpu"), default=None)
    if fastest is not None:
        clock, cpu = (ratios(runs, fastest, key) for key in ("seconds", "cpu"))
        print(f"  against the fastest, {fastest}: {clock:.2f} (clock), {cpu:.2f} (cpu)", flush=True)


def ratios(runs: dict[str, list[dict[str, Any]]], name: str, key: str) -> float:
    """The median over rounds of how many times as long as ours a way took."""
    pairs = zip(runs[name], runs[OURS], strict=True)
    return statistics.median(theirs[key] / ours_[key] for theirs, ours_ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="clips whose name holds this")
    parser.add_argument("--way", choices=WAYS, help="run this one alone, on the clip FOLDER")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(run_here(options.way, options.folder)))
        return
    clips = [clip for clip in make_clips(options.folder) if options.only in clip.name]
    for clip in clips:
        compare(clip, options.rounds)


if __name__ == "__main__":
    main()
