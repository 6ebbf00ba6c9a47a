"""Decide what to do about a video, and why.

Pure functions of a manifest's entry and the state of files. Knows neither the disk nor a model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from vidground.archive.manifest import canonical
from vidground.archive.manifest_rows import Entry

_FOREIGN = "exists, and is not what vidground wrote of this video (--overwrite replaces it)"
REBUILT = "rebuilt"
"""Among the options of an entry that was made from a result: only those that it holds count."""
_SHOWN = 40  # characters of a setting's value in a reason


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a result except the video, as JSON values.

    Attributes:
        options: settings that change the result itself: model, question, sampling, decoding.
        revision: commit of the model, if it is known before the model is loaded.
        shape: settings that change only how a result is written (`vidground.results.cues`).
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)


class OutputState(Enum):
    """The state of an output file.

    MISSING: there is none. CURRENT: it is what would be written. OLD: vidground wrote it, and it is
    out of date. FOREIGN: vidground did not write it, or it was changed since.
    """

    MISSING = "missing"
    CURRENT = "current"
    OLD = "old"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one video.

    Attributes:
        action: "work" makes a result, "render" writes a stored one, "skip" does nothing, "failed"
            reports an earlier failure.
        reason: why, for people.
        formats: to write.
        kept: formats whose files are foreign and stay.
    """

    action: Literal["work", "render", "skip", "failed"]
    reason: str
    formats: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def decide(
    states: Mapping[str, OutputState],
    entry: Entry | None,
    *,
    change: str | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> Plan:
    """Decide what to do about a video.

    Args:
        states: of the requested outputs, by format.
        entry: record of the video; None if there is none.
        change: how video or recipe differ from the entry (`changes`); None for no difference.
        overwrite: make existing results again, including foreign files.
        retry_failed: try failed videos again.
    """
    kept = tuple(f for f, state in states.items() if state is OutputState.FOREIGN)
    kept = () if overwrite else kept
    ours = tuple(f for f in states if f not in kept)
    if not ours:
        return Plan("skip", _FOREIGN, kept=kept)
    if overwrite:
        return Plan("work", "made again as asked (--overwrite)", ours)
    if entry is None:
        return Plan("work", "no result yet", ours, kept)
    if change is not None:
        return Plan("work", change, ours, kept)
    if entry.outcome == "failed":
        if retry_failed:
            return Plan("work", f"failed before: {entry.error}", ours, kept)
        return Plan("failed", f"{entry.error} (failed before; --retry-failed tries again)")
    left = tuple(f for f in ours if states[f] is not OutputState.CURRENT)
    if left:
        return Plan("render", f"{_listed(left)} from the stored result", left, kept)
    return Plan("skip", "up to date", kept=kept)


def changes(entry: Entry, recipe: Recipe) -> str | None:
    """Return how a recipe differs from that of an entry; None for no difference."""
    if entry.revision is not None and recipe.revision not in (None, entry.revision):
        return f"the model's revision was {entry.revision}, is {recipe.revision}"
    before, now = entry.options, recipe.options
    if before.get(REBUILT):
        now = {key: now.get(key) for key in before if key != REBUILT}
        before = {key: value for key, value in before.items() if key != REBUILT}
    if canonical(before) == canonical(now):
        return None
    changed = [
        f"{key} was {_shown(before.get(key))}, is {_shown(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return "; ".join(changed) or "other options"


def program_change(entry: Entry, program: Mapping[str, str]) -> str | None:
    """Return why a recorded failure may not apply to the installed versions; None if it does.

    The failure may have been a bug that another version does not have. Records without versions
    count as those of other versions.

    Args:
        entry: record of the video.
        program: installed versions that determine whether a file can be read, by name.
    """
    if entry.outcome != "failed" or entry.program == program:
        return None
    before, now = (
        _listed(f"{name} {versions[name]}" for name in program if name in versions)
        for versions in (entry.program, program)
    )
    return f"failed before with {before or 'an earlier version'}, tried again with {now}"


def output_state(
    entry: Entry | None, format: str, *, found: str | None, recipe: Recipe
) -> OutputState:
    """Return the state of an output file.

    Args:
        entry: record of its video; None if there is none.
        format: of the output.
        found: SHA-256 of the file; None if there is no file.
        recipe: of the result.
    """
    if found is None:
        return OutputState.MISSING
    record = None if entry is None else entry.outputs.get(format)
    if entry is None or record is None or found not in (record.sha256, record.replaced):
        return OutputState.FOREIGN
    fresh = record.source == entry.source and record.shape == canonical(recipe.shape)
    return OutputState.CURRENT if fresh and found == record.sha256 else OutputState.OLD


def _listed(formats: Iterable[str]) -> str:
    return ", ".join(formats)


def _shown(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
