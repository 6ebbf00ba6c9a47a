"""A process that decodes may crash, hang or eat memory: the video fails, and nothing else does."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vidground.video.isolated_reader
from tests.helpers.paths import ROOT
from tests.helpers.training_runs import tiny_model
from tests.helpers.video_files import make_video, read_index, remux
from vidground import Grounder, InputError, IsolationSettings, VideoError, VidgroundError
from vidground.errors import InternalError
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.nvdec import opens_card
from vidground.video.reader import FrameRun, VideoReader

FAULTY = "tests.helpers.faulty_footage"
SIZE = 48
FRAMES = 50


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "good.mp4", frames=FRAMES)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderPool]:
    """A decoder whose warnings tell of its process."""
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:Telling")
    yield decoder
    decoder.close()


def open_video(decoder: DecoderPool, path: Path | str, fps: float = 5.0) -> IsolatedReader:
    return IsolatedReader(decoder, path, fps=fps, image_size=SIZE)


def process_of(reader: IsolatedReader) -> int:
    return int(reader.warnings[-2].removeprefix("process "))


def shown(runs: list[FrameRun]) -> list[int]:
    return [read_index(run.pixels) for run in runs for _ in range(run.first, run.last + 1)]


def named(tmp_path: Path, video: Path, fault: str) -> Path:
    """The video under a name that tells `faulty_footage` what to do."""
    path = tmp_path / f"{fault}.mp4"
    path.symlink_to(video)
    return path


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_ended(process: int) -> None:
    deadline = time.monotonic() + 30
    while is_running(process):
        assert time.monotonic() < deadline, "the process is still there"
        time.sleep(0.02)


# The same as without


def write_videos(folder: Path) -> list[Path]:
    """Videos of many kinds, damaged ones and ones that are none among them."""
    plain = make_video(folder / "plain.mp4", frames=60, size=(96, 64))
    faststart = {"movflags": "faststart"}
    cut = make_video(folder / "cut.mp4", frames=60, container_options=faststart)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 7 // 10])
    noisy = make_video(folder / "noisy.mp4", frames=90, size=(320, 240))
    content = bytearray(noisy.read_bytes())
    content[len(content) // 2 : len(content) * 6 // 10] = bytes(len(content) // 10)
    noisy.write_bytes(content)
    (folder / "text.mp4").write_text("just some words\n" * 100)
    (folder / "empty.mp4").touch()
    times = [0, 0.04, 0.9, 1.0, 2.5, 2.54]
    return [
        plain,
        cut,
        noisy,
        make_video(folder / "turned.mov", rotation=90),
        make_video(folder / "rare.mkv", frames=6, times=times, bframes=0),
        make_video(folder / "order.avi", bframes=3),
        make_video(folder / "wide.mp4", size=(512, 16)),
        remux(plain, folder / "late.ts", shift_s=7.0),
        folder / "text.mp4",
        folder / "empty.mp4",
        folder / "missing\udcff.mp4",
        folder,
    ]


def all_of(reader: VideoReader | IsolatedReader) -> list[object]:
    """Everything that a reader gives, as values that can be compared."""
    before = (reader.info, reader.warnings)
    during = [
        (run.first, run.last, run.pixels.numpy().tobytes(), reader.info.damaged_packets)
        for run in reader.runs()
    ]
    return [*before, reader.times_s.tobytes(), during, reader.info, reader.warnings]


def test_frames_times_facts_and_errors_are_the_same(tmp_path: Path) -> None:
    decoder = DecoderPool(IsolationSettings())
    damaged = failed = 0
    for path in write_videos(tmp_path):
        for fps in (0.5, 25.0):
            try:
                expected = all_of(VideoReader(path, fps=fps, image_size=SIZE))
            except VideoError as error:
                failed += 1
                with pytest.raises(VideoError, match=f"^{re.escape(str(error))}$"):
                    open_video(decoder, path, fps)
                continue
            reader = open_video(decoder, path, fps)
            assert all_of(reader) == expected
            damaged += reader.info.damaged_packets > 0
    assert damaged
    assert failed == 8
    decoder.close()


def test_a_card_is_used_in_the_process(video: Path) -> None:
    expected = [run.pixels for run in VideoReader(video, fps=5.0, image_size=SIZE).runs()]
    for place, used in (("cuda", True), ("cpu", False)):
        decoder = DecoderPool(
            IsolationSettings(), decode_on=place, opener="tests.helpers.card_stand_in:OnStandIn"
        )
        reader = open_video(decoder, video)
        given = [run.pixels for run in reader.runs()]
        assert torch.equal(torch.stack(given), torch.stack(expected))
        assert (reader.warnings[-1] != "0 from the card") is used
        decoder.close()


@pytest.mark.skipif(opens_card("auto"), reason="there is a card")
def test_without_a_card_the_process_says_so(video: Path) -> None:
    decoder = DecoderPool(IsolationSettings(), decode_on="cuda")
    with pytest.raises(VideoError, match="cannot be decoded on cuda: the card cannot be opened"):
        list(open_video(decoder, video).runs())
    decoder.close()
    decoder = DecoderPool(IsolationSettings(), decode_on="auto")
    reader = open_video(decoder, video)
    assert shown(list(reader.runs())) == list(range(0, FRAMES, 5))
    assert any("decoded on the CPU: " in warning for warning in reader.warnings)
    decoder.close()
    grounder = Grounder(tiny_model(), isolation=IsolationSettings(), decode_on="auto")
    assert any("decoded on the CPU: " in told for told in grounder.encode(video).warnings)


def test_a_model_sees_the_same(video: Path) -> None:
    model = tiny_model()
    plain = Grounder(model).encode(video)
    isolated = Grounder(model, isolation=IsolationSettings()).encode(video)
    assert isolated.info == plain.info
    assert isolated.times_s == plain.times_s
    assert [c.spans for c in isolated.chunks] == [c.spans for c in plain.chunks]
    for ours, theirs in zip(isolated.chunks, plain.chunks, strict=True):
        assert torch.equal(ours.patches, theirs.patches)


def test_a_relative_name_follows_the_current_folder(
    decoder: DecoderPool, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        named(tmp_path / folder, video, folder)
        monkeypatch.chdir(tmp_path / folder)
        reader = open_video(decoder, f"{folder}.mp4")
        assert reader.info.path == f"{folder}.mp4"
        assert shown(list(reader.runs())) == list(range(0, FRAMES, 5))


# One process, lent from reader to reader


def test_one_process_without_torch_serves_many_videos(
    decoder: DecoderPool, video: Path, tmp_path: Path
) -> None:
    readers = [open_video(decoder, video) for _ in range(3)]
    with pytest.raises(VideoError, match="no such file"):
        open_video(decoder, tmp_path / "missing.mp4")
    for reader in [*readers, open_video(decoder, video)]:
        assert len(list(reader.runs())) == FRAMES / 5
        assert reader.warnings[-1] == "torch False"
        assert process_of(reader) == process_of(readers[0])


def test_runs_can_be_decoded_again(decoder: DecoderPool, video: Path) -> None:
    reader = open_video(decoder, video)
    assert shown(list(reader.runs())) == shown(list(reader.runs()))


def test_readers_at_the_same_time_get_a_process_each(decoder: DecoderPool, video: Path) -> None:
    first, second = open_video(decoder, video), open_video(decoder, video, fps=2.5)
    pairs = list(zip(first.runs(), second.runs(), strict=False))
    assert shown([a for a, _ in pairs]) == list(range(0, FRAMES, 5))[: len(pairs)]
    assert shown([b for _, b in pairs]) == list(range(0, FRAMES, 10))
    assert process_of(first) != process_of(second)


def test_a_video_that_is_left_early_leaves_no_process_at_work(
    decoder: DecoderPool, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vidground.video.isolated_reader, "_AHEAD", 1)
    reader = open_video(decoder, video, fps=25.0)
    runs = reader.runs()
    next(runs)
    runs.close()  # type: ignore[attr-defined]  # a generator
    wait_until_ended(process_of(reader))
    again = open_video(decoder, video)
    assert len(list(again.runs())) == FRAMES / 5
    assert process_of(again) != process_of(reader)


def test_a_file_that_is_replaced_between_two_looks_is_an_error(
    decoder: DecoderPool, video: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(video.read_bytes())
    reader = open_video(decoder, path)
    open_video(decoder, video)  # takes the process, which opens the first file again
    make_video(path, frames=60)
    with pytest.raises(VideoError, match="was changed while it was read"):
        list(reader.runs())


def test_the_process_outlives_the_thread_that_asked_for_it(video: Path) -> None:
    readers: list[IsolatedReader] = []

    def read() -> None:
        decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:Telling")
        readers.append(open_video(decoder, video))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    reader = readers[0]
    assert len(list(reader.runs())) == FRAMES / 5
    assert is_running(process_of(reader))


# Crashes, hangs, memory


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("crash", r"the decoder crashed \(signal 11, SIGSEGV\)"),
        ("abort", r"the decoder crashed \(signal 6, SIGABRT\)"),
    ],
)
@pytest.mark.parametrize("when", ["FailingAtOpening", "FailingAtTheThirdFrame"])
def test_a_crash_is_an_error_about_the_video_and_the_next_one_works(
    video: Path, tmp_path: Path, fault: str, told: str, when: str
) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:{when}")
    path = named(tmp_path, video, fault)
    with pytest.raises(VideoError, match=rf"'{path}': {told}"):
        list(open_video(decoder, path).runs())
    assert len(list(open_video(decoder, video).runs())) == FRAMES / 5
    decoder.close()


def test_frames_before_a_crash_are_handed_out(video: Path, tmp_path: Path) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:FailingAtTheThirdFrame")
    runs = open_video(decoder, named(tmp_path, video, "crash")).runs()
    assert shown([next(runs), next(runs)]) == [0, 5]
    with pytest.raises(VideoError, match="crashed"):
        next(runs)
    decoder.close()


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("exit", InternalError, r"the process that decodes videos ended with exit code 3 \(vidgr"),
        ("kill", VidgroundError, r"the decoder was killed \(signal 9\).*nothing about the file"),
        (
            "bug",
            InternalError,
            r"internal error: ZeroDivisionError: a bug \(in vidground\.video",
        ),
    ],
)
@pytest.mark.parametrize("when", ["FailingAtOpening", "FailingAtTheThirdFrame"])
def test_what_is_no_damage_is_not_told_as_damage(
    video: Path, tmp_path: Path, fault: str, kind: type[Exception], told: str, when: str
) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:{when}")
    path = named(tmp_path, video, fault)
    with pytest.raises(kind, match=rf"'{path}': .*{told}") as caught:
        list(open_video(decoder, path).runs())
    assert not isinstance(caught.value, VideoError)
    assert "damaged" not in str(caught.value)
    if fault == "bug":
        assert isinstance(caught.value, InternalError)
        assert "in _misbehave" in caught.value.traceback
        assert "in _misbehave" in "".join(traceback.format_exception(caught.value))
    assert len(list(open_video(decoder, video).runs())) == FRAMES / 5
    decoder.close()


@pytest.mark.parametrize("when", ["FailingAtOpening", "FailingAtTheThirdFrame"])
def test_a_hang_is_an_error_that_names_the_limit_and_the_option(
    video: Path, tmp_path: Path, when: str
) -> None:
    settings = IsolationSettings(timeout_s=0.5)
    decoder = DecoderPool(settings, opener=f"{FAULTY}:{when}")
    with pytest.raises(VideoError, match=r"no progress for 0\.5 s; .* --timeout \(timeout_s\)"):
        list(open_video(decoder, named(tmp_path, video, "hang")).runs())
    decoder.close()


def test_slow_progress_is_progress(video: Path) -> None:
    decoder = DecoderPool(IsolationSettings(timeout_s=1.5), opener=f"{FAULTY}:Slow")
    assert len(list(open_video(decoder, video).runs())) == FRAMES / 5
    decoder.close()


def test_a_slow_model_is_no_hang(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vidground.video.isolated_reader, "_AHEAD", 1)
    decoder = DecoderPool(IsolationSettings(timeout_s=1.0))
    numbers = []
    for run in open_video(decoder, video).runs():
        numbers.append(read_index(run.pixels))
        if len(numbers) == 1:
            time.sleep(1.2)
    assert numbers == list(range(0, FRAMES, 5))
    decoder.close()


@pytest.mark.parametrize("place", ["cpu", "auto"])
@pytest.mark.parametrize("when", ["FailingAtOpening", "FailingAtTheThirdFrame"])
def test_needing_too_much_memory_is_an_error_that_names_the_limit_and_the_option(
    video: Path, tmp_path: Path, when: str, place: str
) -> None:
    settings = IsolationSettings(memory_gib=0.25)
    decoder = DecoderPool(settings, decode_on=place, opener=f"{FAULTY}:{when}")
    told = r"more than 0\.25 GiB of memory; .* --memory-limit \(memory_gib\)"
    with pytest.raises(VideoError, match=told):
        list(open_video(decoder, named(tmp_path, video, "eat")).runs())
    assert len(list(open_video(decoder, video).runs())) == FRAMES / 5
    decoder.close()


def test_what_is_only_reserved_counts_on_the_cpu_alone(video: Path, tmp_path: Path) -> None:
    path = named(tmp_path, video, "reserve")
    faulty = f"{FAULTY}:FailingAtOpening"
    decoder = DecoderPool(IsolationSettings(), decode_on="auto", opener=faulty)
    assert len(list(open_video(decoder, path).runs())) == FRAMES / 5
    decoder.close()
    decoder = DecoderPool(IsolationSettings(), opener=faulty)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        open_video(decoder, path)
    decoder.close()


@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_a_process_that_has_grown_is_not_used_again(video: Path, place: str) -> None:
    settings = IsolationSettings(memory_gib=0.25)
    decoder = DecoderPool(settings, decode_on=place, opener=f"{FAULTY}:Hoarding")
    assert process_of(open_video(decoder, video)) != process_of(open_video(decoder, video))
    decoder.close()


@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_a_decoder_without_memory_is_not_taken_for_damage(tmp_path: Path, place: str) -> None:
    path = make_video(tmp_path / "huge.mkv", frames=2, size=(4096, 4096), codec="mpeg4", bframes=0)
    decoder = DecoderPool(IsolationSettings(memory_gib=0.1), decode_on=place)
    with pytest.raises(VideoError, match=r"more than 0\.1 GiB"):
        list(open_video(decoder, path, fps=25.0).runs())
    decoder.close()


def test_errors_of_the_system_arrive_as_they_are(video: Path, tmp_path: Path) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:FailingAtOpening")
    with pytest.raises(OSError, match="Input/output error") as caught:
        open_video(decoder, named(tmp_path, video, "disk"))
    assert caught.value.errno == 5
    decoder.close()


# Beginning and end


@pytest.mark.parametrize(
    ("program", "told"), [("/nowhere/python", "No such file"), ("/bin/false", "exit code 1")]
)
def test_a_process_that_does_not_start_is_not_the_videos_fault(
    video: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(VidgroundError, match=f"did not start: .*{told}.*--no-isolation") as caught:
        open_video(DecoderPool(IsolationSettings()), video)
    assert not isinstance(caught.value, VideoError)


def test_a_library_that_is_missing_is_told_with_the_versions(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    told = r"did not start: ImportError: libavcodec\.so\.62: no such file \(vidground .*PyAV"
    with pytest.raises(InternalError, match=told) as caught:
        open_video(DecoderPool(IsolationSettings()), video)
    assert "--no-isolation" in str(caught.value)
    assert "decoder_worker.py" in caught.value.traceback


def test_a_mistake_before_the_process_serves_is_told(video: Path) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:NoSuchThing")
    with pytest.raises(InternalError, match=r"AttributeError: .*NoSuchThing.*--no-isolation"):
        open_video(decoder, video)


def test_a_module_in_the_current_folder_is_not_imported(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "av", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in an interactive session
    decoder = DecoderPool(IsolationSettings())
    assert len(list(open_video(decoder, video).runs())) == FRAMES / 5
    decoder.close()


PARENT = """
import sys
from vidground.video.nvdec import opens_card
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.settings import IsolationSettings

decoder = DecoderPool(IsolationSettings(), opener="tests.helpers.faulty_footage:Stuck")
IsolatedReader(decoder, sys.argv[1], fps=1.0, image_size=16)
"""


def test_the_process_ends_with_the_one_that_started_it_even_if_it_hangs(tmp_path: Path) -> None:
    told = tmp_path / "process"
    tests = str(ROOT)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(told)], env={**os.environ, "PYTHONPATH": tests}
    )
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.05)
    child = int(told.read_text())
    assert is_running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until_ended(child)


def test_nothing_is_left_when_the_decoder_is_forgotten(video: Path) -> None:
    decoder = DecoderPool(IsolationSettings(), opener=f"{FAULTY}:Telling")
    process = process_of(open_video(decoder, video))
    del decoder
    wait_until_ended(process)


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"timeout_s": 0.0}, "timeout is 0"), ({"memory_gib": 0.01}, "memory limit is 0.01")],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        IsolationSettings(**limits)
