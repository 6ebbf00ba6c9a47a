"""Check the record of a folder, and make it again from the results that lie there.

A result holds nearly all that the record of its run held. What it lacks (a seed without effect, the
model's subfolder, and such) is left out of the new entry, and not compared in the next run.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidground.archive.manifest import MANIFEST, Manifest, RecordError, canonical
from vidground.archive.manifest_rows import Entry, Identity, OutputRecord
from vidground.archive.planning import REBUILT
from vidground.errors import FormatError, VidgroundError
from vidground.results.documents import Result, from_json, provenance_in, to_json, video_of
from vidground.results.formats import FORMATS, load, require_packages, suffix_of
from vidground.results.formats import render as render_result
from vidground.results.result_files import SUFFIX, is_result
from vidground.results.types import Captions, Provenance
from vidground.results.video_lookup import find_video
from vidground.storage.files import printable

_JOURNAL = "-journal"
_CORRECTED = "was corrected by hand; `vidground data` reads it, but no run made it"


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """What a record holds.

    Attributes:
        entries: recorded videos that can be read.
        problems: one line for each thing that is damaged.
    """

    entries: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a new record was made of.

    Attributes:
        kept: entries of the old record that could be read.
        made: entries made from results that lie in the folder.
        left_out: files that are not usable results, each with the reason.
        old: where the old record was moved to; None if there was none.
    """

    kept: int
    made: int
    left_out: tuple[tuple[Path, VidgroundError], ...]
    old: Path | None


def check_record(folder: Path) -> RecordCheck:
    """Read every value of the record of a folder.

    Raises:
        FormatError: there is no record, or it cannot be opened.
    """
    if not os.path.lexists(folder / MANIFEST):
        raise FormatError(
            f"{printable(folder)}: no record of results here; name the folder that a run wrote "
            f"its results to, or make one: vidground record rebuild {printable(folder)}"
        )
    problems: dict[str, None] = {}
    entries = len(list(_readable(Manifest(folder), problems)))
    return RecordCheck(entries, tuple(problems))


def rebuild_record(folder: Path) -> Rebuilt:
    """Make the record of a folder again; the old one is kept under another name.

    Entries of the old record that can be read are kept. Each result (JSON) that they do not cover
    becomes an entry of its own. A folder inside of `folder` that has its own record is left alone.

    Raises:
        FormatError: there is no such folder, or the record cannot be written.
    """
    if not folder.is_dir():
        raise FormatError(f"{printable(folder)}: not a folder; name the one with the results")
    left_out: list[tuple[Path, VidgroundError]] = []
    made = 0
    with _scratch(folder) as scratch:
        new = Manifest(scratch)
        kept = _keep(Manifest(folder), new)
        known = set(kept)
        for path in _result_files(folder):
            name = os.fspath(path.relative_to(folder).with_suffix(""))
            if name in known:
                continue
            try:
                entry, document = _entry_of(path, name)
                new.record(entry, document)
                made += 1
            except VidgroundError as error:
                left_out.append((path, error))
        if not new.path.exists():
            raise FormatError(
                f"{printable(folder)}: no result (JSON) that a record could be made from lies "
                "here; name the folder that holds the results"
            )
        old = _set_aside(folder)
        new.path.replace(folder / MANIFEST)
    return Rebuilt(len(kept), made, tuple(left_out), old)


def _readable(manifest: Manifest, problems: dict[str, None]) -> Iterator[tuple[Entry, str | None]]:
    """Yield the entries that can be read with their results; put what cannot into `problems`."""
    try:
        names = manifest.names(with_result=False)
    except RecordError as error:
        problems[str(error)] = None
        return
    for name in names:
        try:
            entry, document = manifest.entry(name), manifest.document(name)
            if document is not None:
                from_json(document)
        except FormatError as error:
            problems[_named(error, manifest.path, name)] = None
            continue
        if entry is not None:
            yield entry, document


def _named(error: FormatError, record: Path, name: str) -> str:
    """Return a message that names record and entry, which those of damaged results do not."""
    if isinstance(error, RecordError):
        return str(error)
    return f"{printable(record)}: the result of {printable(name)}: {error}"


def _keep(old: Manifest, new: Manifest) -> list[str]:
    """Copy the readable entries; return their names. Unreadable ones are made anew or again."""
    kept = []
    for entry, document in _readable(old, {}):
        new.record(entry, document)
        kept.append(entry.name)
    return kept


def _result_files(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not Path(top, name, MANIFEST).exists()
        )
        for name in sorted(names):
            path = Path(top, name)
            wanted = path.suffix.lower() == SUFFIX and not name.startswith(".")
            if wanted and path.is_file() and is_result(path):
                yield path


def _entry_of(path: Path, name: str) -> tuple[Entry, str]:
    """Return an entry for the result in a file, and the result as JSON."""
    result = load(path)
    video, provenance = video_of(result), provenance_in(result)
    if provenance.corrected:
        raise FormatError(f"{printable(path)}: {_CORRECTED}")
    if video.sha256 is None:
        raise FormatError(
            f"{printable(path)}: does not record its video's SHA-256, so that a run could not "
            "recognise the video; run it again"
        )
    found = find_video(video, result=path)
    document = to_json(result)
    source = _sha256(document.encode())
    return Entry(
        name=name,
        input=os.fspath(video.path if found is None else found),
        # Without a time of change the next run compares the content.
        identity=Identity(video.size_bytes, None, video.sha256),
        options=_options_of(result, provenance),
        outcome="done",
        started_at=path.stat().st_mtime,
        elapsed_s=0.0,
        revision=provenance.revision,
        events=len(result.events),
        video_s=video.duration_s,
        source=source,
        outputs=_outputs_of(path, result, source),
    ), document


def _options_of(result: Result, provenance: Provenance) -> dict[str, Any]:
    """Return the options that a result tells, under the names of records."""
    from vidground.checkpoints.fingerprint import recorded_name

    decoding: dict[str, Any] = dict(provenance.decoding)
    if decoding.get("temperature") == 0:
        decoding.pop("seed", None)
    asked: dict[str, Any] = {"command": "caption"}
    if not isinstance(result, Captions):
        texts = [answer.query for answer in result.results]
        asked = {"command": "query", "texts": texts, "found_threshold": result.results[0].threshold}
    return {
        REBUILT: True,
        "model": recorded_name(provenance.model),
        "weights": provenance.runtime.get("weights"),
        "fps": provenance.fps,
        "window_s": provenance.settings.get("window_s"),
        **{k: v for k, v in provenance.settings.items() if k in ("overlap", "weight_bits")},
        **decoding,
        **asked,
    }


def _outputs_of(path: Path, result: Result, source: str) -> Mapping[str, OutputRecord]:
    """Return records of the files that hold what would be written now; others stay as they are."""
    outputs = {}
    stem = path.with_suffix("")
    for format in FORMATS:
        place = stem.with_name(stem.name + suffix_of(format))
        if not place.is_file():
            continue
        with suppress(FormatError, OSError):
            require_packages((format,))
            text = render_result(result, format).encode()
            if place.stat().st_size == len(text) and place.read_bytes() == text:
                outputs[format] = OutputRecord(_sha256(text), len(text), canonical({}), source)
    return outputs


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix=".vidground-record-", dir=folder)
    except OSError as error:
        raise FormatError(
            f"{printable(folder)}: cannot be written to ({error.strerror}); change its permissions"
        ) from error


def _set_aside(folder: Path) -> Path | None:
    """Move the old record and its journal away, so that the journal is not applied to the new."""
    number = 1
    while os.path.lexists(aside := folder / f"{MANIFEST}.old-{number}"):
        number += 1
    record, journal = folder / MANIFEST, folder / f"{MANIFEST}{_JOURNAL}"
    if os.path.lexists(journal):
        journal.replace(f"{aside}{_JOURNAL}")
    if not os.path.lexists(record):
        return None
    record.replace(aside)
    return aside


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
