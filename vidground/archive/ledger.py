"""The ledger of a run: what is done already, what is left, and which run does it.

Combines the records (`vidground.archive.manifest`) and the files on the disk, from which
`vidground.archive.planning` decides. Jobs without records are judged by the names of their files
alone. Knows neither models nor terminals.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vidground.archive.claims import claim
from vidground.archive.manifest import Manifest, canonical
from vidground.archive.manifest_rows import Entry, Identity, OutputRecord
from vidground.archive.outputs import Job, is_file, require_writable
from vidground.archive.planning import Plan, Recipe, changes, decide, output_state, program_change
from vidground.errors import FormatError, VideoError
from vidground.faults import program_versions
from vidground.results.documents import Result, from_json, to_json, video_of
from vidground.results.types import Captions
from vidground.storage.atomic import remove_leftovers
from vidground.storage.files import FileState, file_sha256, printable, require_regular_file

_SETTLED_NS = 2_000_000_000
"""If a file was modified less than this before it was checked, it may be modified again with the
same timestamp, which then proves nothing (FAT has a resolution of 2 s)."""


class Ledger:
    """What is done already, and the records of one run.

    `overwrite` and `retry_failed` do not apply to what another run does at the same time.

    Args:
        recipe: everything that determines the results.
        overwrite: make existing results again.
        retry_failed: try failed videos again.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, overwrite: bool = False, retry_failed: bool = False
    ) -> None:
        self.recipe = recipe or Recipe()
        self._overwrite = overwrite
        self._retry_failed = retry_failed
        self._began_at = time.time()
        self._hashes: dict[Path, tuple[FileState, str]] = {}
        self._doubted: set[Path] = set()

    def plan(self, job: Job) -> Plan:
        """Decide what to do about a job; change nothing.

        Raises:
            VideoError: the video can no longer be read.
            FormatError: a result cannot be written, or the record cannot be read.
        """
        entry = self._entry(job)
        fresh = entry is not None and entry.finished_at >= self._began_at
        overwrite = self._overwrite and not fresh
        change = None
        if entry is not None and not overwrite:
            change = (
                self._video_change(job, entry)
                or changes(entry, self.recipe)
                or program_change(entry, _program())
            )
        states = {
            format: output_state(entry, format, found=_found(path), recipe=self.recipe)
            for format, path in job.outputs.items()
        }
        plan = decide(
            states,
            entry,
            change=change,
            overwrite=overwrite,
            retry_failed=self._retry_failed and not fresh,
        )
        for path in map(job.outputs.get, plan.formats):
            if path is not None:
                require_writable(path)
        return plan

    @contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """Try to claim a job for this run; yield False if another run is working on it."""
        if job.folder is None:
            yield True
            return
        with claim(job.folder, job.name) as mine:
            yield mine

    def settle(self, job: Job) -> None:
        """Record the modification time of a video whose content was found unchanged."""
        state, sha256 = self._hashes.get(job.path, (None, ""))
        if job.folder is None or state is None:
            return
        with suppress(FormatError):  # it only saves the next run from reading the file
            Manifest(job.folder).refresh(job.name, _identity(state, sha256))

    def stored(self, job: Job) -> Result | None:
        """Return the recorded result of a job; None if there is none.

        Raises:
            FormatError: it cannot be read.
        """
        document = None if job.folder is None else Manifest(job.folder).document(job.name)
        return None if document is None else from_json(document)

    def intend(
        self,
        job: Job,
        texts: Mapping[str, str],
        *,
        result: Result,
        state: FileState | None,
        started_at: float,
    ) -> None:
        """Record a new result and the files that will be written from it.

        From here on the result is safe: if the process ends before all files are written, the next
        run writes the others.

        Args:
            job: with the outputs to write.
            texts: contents of the files by format.
            result: to record.
            state: of the video when work began.
            started_at: in seconds since 1970.
        """
        if job.folder is None:
            return
        document = to_json(result)
        source = _sha256(document)
        video = video_of(result)
        first = result if isinstance(result, Captions) else result.results[0]
        entry = Entry(
            name=job.name,
            input=os.fspath(job.path),
            identity=_identity(state, video.sha256 or file_sha256(job.path)),
            options=self.recipe.options,
            outcome="done",
            started_at=started_at,
            elapsed_s=time.time() - started_at,
            revision=first.provenance.revision,
            events=len(result.events),
            video_s=video.duration_s,
            source=source,
            outputs=self._records(job, texts, source),
        )
        self._clean(job, texts)
        Manifest(job.folder).record(entry, document)

    def intend_outputs(self, job: Job, texts: Mapping[str, str]) -> None:
        """Record the files that will be written from the stored result."""
        entry = self._entry(job)
        if job.folder is None or entry is None or entry.source is None:
            return
        self._clean(job, texts)
        Manifest(job.folder).record_outputs(job.name, self._records(job, texts, entry.source))

    def record_failure(
        self, job: Job, error: str, *, state: FileState | None, started_at: float
    ) -> None:
        """Record that a video has no result, so that it is not tried again.

        This is not for internal errors or a full disk, which are not caused by the video. A file
        that cannot be read is not recorded, because a repaired one could not be recognised.

        Args:
            job: that failed.
            error: the message.
            state: of the video when work began.
            started_at: in seconds since 1970.
        """
        if job.folder is None or state is None:
            return
        try:
            identity = _identity(state, self._content(job.path, state))
        except VideoError:
            return
        Manifest(job.folder).record(
            Entry(
                name=job.name,
                input=os.fspath(job.path),
                identity=identity,
                options=self.recipe.options,
                outcome="failed",
                started_at=started_at,
                elapsed_s=time.time() - started_at,
                error=error,
                program=_program(),
            )
        )

    def _entry(self, job: Job) -> Entry | None:
        """Return the record of a job's video; None if it is about another video."""
        entry = None if job.folder is None else Manifest(job.folder).entry(job.name)
        return entry if entry and Path(entry.input).name == job.path.name else None

    def doubt(self, path: Path) -> None:
        """From now on compare this video by its content, even if size and time are unchanged."""
        self._doubted.add(path)
        self._hashes.pop(path, None)

    def _video_change(self, job: Job, entry: Entry) -> str | None:
        status = require_regular_file(job.path)
        known = entry.identity
        if status.st_size != known.size:
            return f"the video has changed: it had {known.size} bytes, has {status.st_size}"
        if status.st_mtime_ns == known.mtime_ns and job.path not in self._doubted:
            return None
        state = FileState(status.st_size, status.st_mtime_ns, status.st_ino)
        same = self._content(job.path, state) == known.sha256
        return None if same else "the video has changed: its content is another"

    def _content(self, path: Path, state: FileState) -> str:
        """Return the SHA-256 of a file, computed once per run and state of the file."""
        known, sha256 = self._hashes.get(path, (None, ""))
        if known != state:
            sha256 = file_sha256(path)
            self._hashes[path] = (state, sha256)
        return sha256

    def _records(self, job: Job, texts: Mapping[str, str], source: str) -> dict[str, OutputRecord]:
        shape = canonical(self.recipe.shape)
        return {
            format: OutputRecord(
                sha256=_sha256(text),
                size=len(text.encode()),
                shape=shape,
                source=source,
                replaced=_found(job.outputs[format]),
            )
            for format, text in texts.items()
        }

    def _clean(self, job: Job, texts: Mapping[str, str]) -> None:
        """Remove temporary files that a killed process may have left."""
        entry = self._entry(job)
        for format in texts if entry is not None else ():
            record, path = entry.outputs.get(format) if entry else None, job.outputs[format]
            if record is not None and path is not None and _found(path) != record.sha256:
                remove_leftovers(path)


def _found(path: Path | None) -> str | None:
    """Return the SHA-256 of an output; None if there is no file."""
    if path is None or not is_file(path):
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FormatError(f"{printable(path)}: cannot be read: {error.strerror}") from error


def _program() -> dict[str, str]:
    """Return the versions that determine whether a video can be read, without torch's."""
    versions = program_versions()
    return {name: versions[name] for name in ("vidground", "PyAV")}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(state: FileState | None, sha256: str) -> Identity:
    if state is None:
        raise VideoError("the video is gone; its result cannot be told from another's")
    settled = time.time_ns() - state.mtime_ns >= _SETTLED_NS
    return Identity(state.size, state.mtime_ns if settled else None, sha256)
