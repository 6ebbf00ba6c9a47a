"""What is to be done, and why: every combination that differs."""

import pytest

from vidground.archive.manifest_rows import Entry, Identity, OutputRecord
from vidground.archive.planning import OutputState, Plan, Recipe, changes, decide, output_state

MISSING, CURRENT, OLD, FOREIGN = OutputState
DONE = Entry(
    name="a",
    input="a.mp4",
    identity=Identity(1, 1, "aa"),
    options={"fps": 1.0, "prompt": None},
    outcome="done",
    started_at=0.0,
    elapsed_s=1.0,
    revision="c1",
    source="s1",
    outputs={
        "srt": OutputRecord("new", 3, "{}", "s1", replaced="before"),
        "vtt": OutputRecord("other", 3, "{}", "s0"),
    },
)
FAILED = Entry("a", "a.mp4", DONE.identity, DONE.options, "failed", 0.0, 1.0, error="no frame")
RECIPE = Recipe(DONE.options)


def decided(*states: OutputState, entry: Entry | None = DONE, **options: object) -> Plan:
    names = ("srt", "json", "vtt")
    return decide(dict(zip(names, states, strict=False)), entry, **options)  # type: ignore[arg-type]


def test_what_is_there_is_left_alone() -> None:
    assert decided(CURRENT, CURRENT) == Plan("skip", "up to date")


@pytest.mark.parametrize("state", [MISSING, OLD])
def test_what_is_missing_or_old_is_written_from_the_stored_result(state: OutputState) -> None:
    plan = decided(CURRENT, state, FOREIGN)
    assert plan == Plan("render", "json from the stored result", ("json",), ("vtt",))


def test_without_an_entry_or_with_a_change_there_is_work() -> None:
    assert decided(MISSING, entry=None) == Plan("work", "no result yet", ("srt",))
    assert decided(CURRENT, MISSING, change="new fps") == Plan("work", "new fps", ("srt", "json"))


def test_files_of_others_are_kept_until_they_may_be_overwritten() -> None:
    plan = decided(FOREIGN, MISSING, entry=None)
    assert plan == Plan("work", "no result yet", ("json",), ("srt",))
    for entry in (None, DONE, FAILED):
        plan = decided(FOREIGN, FOREIGN, entry=entry, change="new fps", retry_failed=True)
        assert (plan.action, plan.formats, plan.kept) == ("skip", (), ("srt", "json"))
        plan = decided(FOREIGN, CURRENT, entry=entry, overwrite=True)
        assert (plan.action, plan.formats, plan.kept) == ("work", ("srt", "json"), ())


def test_what_failed_is_tried_again_if_asked_or_changed() -> None:
    plan = decided(MISSING, entry=FAILED)
    assert plan.action == "failed"
    assert plan.reason == "no frame (failed before; --retry-failed tries again)"
    assert decided(MISSING, entry=FAILED, retry_failed=True).action == "work"
    assert decided(MISSING, entry=FAILED, change="new fps") == Plan("work", "new fps", ("srt",))


def test_reasons_name_what_changed() -> None:
    assert changes(DONE, RECIPE) is None
    other = Recipe({"fps": 2.0, "prompt": "x" * 99})
    assert changes(DONE, other) == f"fps was 1.0, is 2.0; prompt was not set, is {'x' * 39}…"
    assert changes(DONE, Recipe(DONE.options, revision="c1")) is None
    assert changes(DONE, Recipe(DONE.options, revision="c2")) == (
        "the model's revision was c1, is c2"
    )
    assert changes(FAILED, Recipe(DONE.options, revision="c2")) is None  # it is not known
    assert changes(DONE, Recipe(DONE.options, shape={"max_line_width": 4})) is None


@pytest.mark.parametrize(
    ("format", "found", "state"),
    [
        ("srt", None, MISSING),
        ("srt", "new", CURRENT),
        ("srt", "before", OLD),  # the process was killed before it was replaced
        ("srt", "edited", FOREIGN),
        ("vtt", "other", OLD),  # written from an earlier result
        ("json", "new", FOREIGN),
    ],
)
def test_states_of_outputs(format: str, found: str | None, state: OutputState) -> None:
    assert output_state(DONE, format, found=found, recipe=RECIPE) is state
    expected = MISSING if found is None else FOREIGN
    assert output_state(None, format, found=found, recipe=RECIPE) is expected


def test_another_shape_makes_a_file_old() -> None:
    shaped = Recipe(DONE.options, shape={"max_line_width": 4})
    assert output_state(DONE, "srt", found="new", recipe=shaped) is OLD
