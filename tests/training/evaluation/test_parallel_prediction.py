"""Several processes that answer one benchmark."""

from pathlib import Path

import pytest

from tests.helpers.training_runs import tiny_model
from tests.helpers.video_files import make_video
from vidground.errors import InputError, VidgroundError
from vidground.settings import DecodingSettings
from vidground.training.evaluation.parallel_prediction import predict_in_processes
from vidground.training.evaluation.prediction_store import read_folder
from vidground.training.evaluation.questions import Question

OPTIONS = {"device": "cpu", "decoding": DecodingSettings(max_new_tokens=4)}


def question(idx: int, video: str) -> Question:
    fields = {"task": "tvg", "source": "s", "idx": idx, "video": video, "q": "when?"}
    return Question(fields, "tvg", "s", idx, video, "when?")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_video(folder / "a.mp4", frames=10, fps=5)
    tiny_model().save_pretrained(folder / "model")
    return folder


def test_failures_of_every_process_are_reported_and_answers_kept(
    data: Path, tmp_path: Path
) -> None:
    asked = [question(0, "a.mp4"), question(1, "gone.mp4")]
    failures: list[tuple[str, str]] = []
    failed = predict_in_processes(
        str(data / "model"),
        OPTIONS,
        asked,
        data,
        tmp_path,
        processes=2,
        on_failure=lambda *failure: failures.append(failure),
    )
    assert failed == 1
    assert [video for video, _ in failures] == ["gone.mp4"]
    lines = {line["idx"]: line for line in read_folder(tmp_path).predictions}
    assert ("error" in lines[0], "error" in lines[1]) == (False, True)


def test_an_error_of_a_process_ends_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(VidgroundError, match="there is no folder"):
        predict_in_processes("./none", OPTIONS, [question(0, "a.mp4")], data, tmp_path, processes=1)
    with pytest.raises(InputError, match="processes is 0"):
        predict_in_processes("toy", OPTIONS, [], data, tmp_path, processes=0)


def test_a_process_that_dies_is_reported(data: Path, tmp_path: Path) -> None:
    # What cannot be rebuilt in the process ends it before it can report anything.
    dying = {**OPTIONS, "decoding": Dying()}
    with pytest.raises(VidgroundError, match=r"ended unexpectedly \(exit code 9\)"):
        predict_in_processes(
            str(data / "model"), dying, [question(0, "a.mp4")], data, tmp_path, processes=1
        )


class Dying:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        import os

        return os._exit, (9,)
