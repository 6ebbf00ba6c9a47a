"""What is to be done about a video, and why: decided from what is known, without looking.

Pure functions over a manifest's entry and the state of files. Knows no disk and no model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from vidground.archive.manifest import Entry, canonical

_FOREIGN = "exists, and is not what vidground wrote of this video (--overwrite replaces it)"
_SHOWN = 40  # characters of a setting's value in a reason


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that makes a result but the video, in JSON's terms.

    options: what changes the result itself: model, question, sampling, decoding. revision: the
    model's commit, where it is known before the model is loaded. shape: what changes only how a
    result is written (`vidground.results.cues`).
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)


class OutputState(Enum):
    """What lies where an output belongs.

    MISSING: nothing. CURRENT: what would be written. OLD: what vidground once wrote there.
    FOREIGN: a file that vidground did not write, or that was changed since.
    """

    MISSING = "missing"
    CURRENT = "current"
    OLD = "old"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one video.

    action: "work" makes a result, "render" writes one that is stored, "skip" has nothing to do,
    "failed" says again that it failed. reason: why, for people. formats: those to be written.
    kept: those whose files are not vidground's, and stay.
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
    """Return what is to be done about a video.

    Args:
        states: of the outputs that are asked for, by format.
        entry: what is known of the video; None for nothing.
        change: how video or recipe differ from those of the entry (`changes`); None for not.
        overwrite: make again what there is, whoever made it.
        retry_failed: try again what failed.
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
    """Return in what the recipe differs from the one that made an entry; None if in nothing."""
    if entry.revision is not None and recipe.revision not in (None, entry.revision):
        return f"the model's revision was {entry.revision}, is {recipe.revision}"
    if canonical(entry.options) == canonical(recipe.options):
        return None
    keys = sorted(entry.options.keys() | recipe.options.keys())
    changed = [
        f"{key} was {_shown(entry.options.get(key))}, is {_shown(recipe.options.get(key))}"
        for key in keys
        if entry.options.get(key) != recipe.options.get(key)
    ]
    return "; ".join(changed) or "other options"


def program_change(entry: Entry, program: Mapping[str, str]) -> str | None:
    """Return why a failure says nothing about the versions in use; None if it does.

    What a file lacked may have been a mistake that another version does not make. Records from
    before versions were recorded count as those of other versions.

    program: the versions that decide whether a file can be read, by name.
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
    """Return what lies where an output belongs.

    entry: of the video it belongs to; None for nothing. found: SHA-256 of the file there; None
    for no file.
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
