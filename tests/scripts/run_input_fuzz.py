"""Mutate what vidground reads and see that every file is read, or refused in a line, soon.

Not a test: 2,000 files take minutes.

    python -m tests.scripts.run_input_fuzz --count 2000

Model configurations, descriptions of exports, records, results, annotations and training
configurations are changed at random, in bytes or in values, and read in this process. Ends with 1
if a file led to an exception that is not vidground's, or took longer than it may. The files are the
same every time (--seed).
"""

import argparse
import copy
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.helpers.annotation_files import sft_sample
from tests.helpers.hostile_case import LONG_INTEGER
from tests.helpers.result_makers import ASKED, TWO
from vidground.archive.manifest import MANIFEST
from vidground.archive.manifest_rows import Entry, Identity, OutputRecord
from vidground.archive.record_rebuild import check_record
from vidground.checkpoints.known_models import KNOWN_MODELS
from vidground.checkpoints.loading import load_model
from vidground.errors import FormatError, VidgroundError
from vidground.features.onnx_folder import read_export
from vidground.results.documents import to_dict
from vidground.results.formats import load, render
from vidground.training.config_files import read_yaml
from vidground.training.data.annotations import check_annotations

LONGEST_S = 10.0
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 10**9, 10**30, 1e308, -1e-300, float("nan"), float("inf")),
    *("", "x", "²", "\0", "../..", "\ud800", "a" * 10_000, "@LONG@"),
    *([], {}, [[]], {"a": {}}, [None] * 100, "[" * 100, ["x", 1]),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file.

    Attributes:
        kind: of file.
        number: of the mutation.
        error: of vidground; None if the file was read.
        fault: any other exception, or that reading took too long; None for none.
    """

    kind: str
    number: int
    error: str | None
    fault: str | None


def _change_value(content: Any, draw: random.Random) -> Any:
    """Return a copy of a JSON value with one value at any depth replaced or removed."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        keys = value if isinstance(value, dict) else range(len(value))
        for key in list(keys):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                visit(value[key])

    visit(content)
    place, key = draw.choice(places)
    if draw.random() < 0.15:
        del place[key]
    else:
        place[key] = draw.choice(_VALUES)
    return content


def _change_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return bytes that are cut, flipped, doubled or overwritten somewhere."""
    at = draw.randrange(max(len(data), 1))
    length = draw.choice((1, 4, 40))
    middle = draw.choice((b"", draw.randbytes(length), data[at : at + length] * 2, b"[" * 2000))
    if draw.random() < 0.2:
        return data[:at]
    return data[:at] + middle + data[at + length :]


def _mutated(content: Any, draw: random.Random) -> bytes:
    if draw.random() < 0.7:
        for _ in range(draw.randint(1, 3)):
            content = _change_value(content, draw) if content else content
        return json.dumps(content).replace('"@LONG@"', LONG_INTEGER).encode()
    return _change_bytes(json.dumps(content).encode(), draw)


class _Reader:
    """The folder and the unchanged files that mutations start from."""

    def __init__(self, folder: Path) -> None:
        toy = KNOWN_MODELS["toy"].folder
        assert toy is not None
        self._folder = folder
        (folder / "a.mp4").touch()
        self._model = folder / "model"
        shutil.copytree(toy, self._model, ignore=shutil.ignore_patterns("*.safetensors"))
        (self._model / "model.safetensors").symlink_to(toy / "model.safetensors")
        self._config = json.loads((toy / "config.json").read_text())
        self._record = folder / "record"
        self._record.mkdir()
        _write_record(self._record)
        self._record_bytes = (self._record / MANIFEST).read_bytes()

    def kinds(self) -> Mapping[str, Callable[[random.Random], None]]:
        """Return what mutates and reads a file, by its kind."""
        return {
            "config": self._read_config,
            "export": self._read_export,
            "record": self._read_record,
            "result": self._read_result,
            "annotations": self._read_annotations,
            "yaml": self._read_yaml,
        }

    def _read_config(self, draw: random.Random) -> None:
        (self._model / "config.json").write_bytes(_mutated(self._config, draw))
        load_model(self._model)

    def _read_export(self, draw: random.Random) -> None:
        (self._folder / "vision.onnx").write_bytes(b"")
        (self._folder / "export.json").write_bytes(_mutated(_EXPORT, draw))
        read_export(self._folder)

    def _read_record(self, draw: random.Random) -> None:
        (self._record / f"{MANIFEST}-journal").unlink(missing_ok=True)
        (self._record / MANIFEST).write_bytes(_change_bytes(self._record_bytes, draw))
        _raise_first(check_record(self._record).problems)

    def _read_result(self, draw: random.Random) -> None:
        path = self._folder / "result.json"
        path.write_bytes(_mutated(to_dict(draw.choice((TWO, ASKED))), draw))
        result = load(path)
        for name in ("srt", "edl", "elan", "json"):
            render(result, name)

    def _read_annotations(self, draw: random.Random) -> None:
        path = self._folder / draw.choice(("samples.json", "samples.jsonl"))
        path.write_bytes(_mutated([_SAMPLE] if path.suffix == ".json" else _SAMPLE, draw))
        report = check_annotations([path], video_root=self._folder, strict=True)
        _raise_first((*report.problems, *report.missing))

    def _read_yaml(self, draw: random.Random) -> None:
        path = self._folder / "config.yaml"
        path.write_bytes(_change_bytes(_CONFIG.encode(), draw))
        read_yaml(path)


_EXPORT = {
    "schema_version": 1,
    "parts": {"vision": {"file": "vision.onnx", "dtype": "float32", "weights_digest": "ab"}},
    "model": "toy",
    "revision": None,
    "opset": 18,
}
_SAMPLE = sft_sample(video="a.mp4")
_CONFIG = """\
model: {path: toy, dtype: float32}
data: {train: [a.json], video_root: videos}
optimization: {learning_rate: 2e-5}
schedule: {epochs: 1}
loss: {weights: [1, 2.5, .5]}
seed: 42
date: 2024-01-01
text: &anchor "quoted \\u00e9"
binary: !!binary aGVsbG8=
"""


def _raise_first(problems: Sequence[object]) -> None:
    """Raise the first problem that a check reports, as if it were an error."""
    if problems:
        raise FormatError(str(problems[0]))


def _write_record(folder: Path) -> None:
    from vidground.archive.manifest import Manifest
    from vidground.results.documents import to_json

    for name in ("a", "deep/b"):
        outputs = {"srt": OutputRecord("01" * 32, 10, "{}", "cd" * 32)}
        identity = Identity(9, 1_700_000_000_123_456_789, "ab" * 32)
        entry = Entry(name, f"{name}.mp4", identity, {"fps": 1.0}, "done", 1000.25, 2.5)
        Manifest(folder).record(entry, to_json(TWO))
        Manifest(folder).record_outputs(name, outputs)


def read_mutated(count: int, *, seed: int, folder: Path) -> Iterator[Outcome]:
    """Yield what became of `count` mutated files, of all kinds in turn."""
    readers = _Reader(folder).kinds()

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"still reading after {LONGEST_S:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        for number in range(count):
            kind = list(readers)[number % len(readers)]
            signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
            yield _outcome(kind, number, lambda k=kind, n=number: readers[k](_draw(seed, n)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _draw(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed} {number}")


def _outcome(kind: str, number: int, read: Callable[[], None]) -> Outcome:
    try:
        read()
    except VidgroundError as error:
        fault = "an error of several lines" if "\n" in str(error) else None
        return Outcome(kind, number, str(error), fault)
    except Exception as error:  # noqa: BLE001 - what this looks for
        return Outcome(kind, number, None, f"{type(error).__name__}: {error}"[:300])
    return Outcome(kind, number, None, None)


def main() -> None:
    """Read all files; print counts by kind and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(read_mutated(options.count, seed=options.seed, folder=Path(folder)))
    for kind, total in Counter(o.kind for o in outcomes).items():
        refused = sum(o.kind == kind and o.error is not None for o in outcomes)
        print(f"{kind}: {total} files, {refused} refused")
    faults = [outcome for outcome in outcomes if outcome.fault]
    for outcome in faults:
        print(f"fault: {outcome.kind} {outcome.number}: {outcome.fault}")
    print(f"{len(outcomes)} files in {time.monotonic() - begin:.0f} s, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
