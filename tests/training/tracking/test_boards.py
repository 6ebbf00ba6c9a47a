import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.config import read_config
from vidground.training.tracking.boards import TensorBoardLog, WandbLog
from vidground.training.tracking.callbacks import check_services


class WandbStandIn:
    """Records what is asked of Weights & Biases."""

    def __init__(self) -> None:
        self.began: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **options: Any) -> SimpleNamespace:
        self.began.append(options)
        return SimpleNamespace(
            id=options["id"] or "new-id",
            log=lambda numbers, step: self.logged.append((step, numbers)),
            finish=self._finish,
        )

    def _finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandbStandIn:
    stand_in = WandbStandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def test_numbers_go_to_wandb(wandb: WandbStandIn, tmp_path: Path) -> None:
    log = WandbLog(tmp_path / "run", {"seed": 1})
    (tmp_path / "run").mkdir()
    log.begin(0, 10)
    log.numbers(3, {"loss": 1.0, "eval_loss": 2.0})
    log.end()
    (began,) = wandb.began
    assert (began["project"], began["name"]) == ("vidground", "run")
    assert (began["config"], began["id"], began["resume"]) == ({"seed": 1}, None, None)
    assert wandb.logged == [(3, {"train/loss": 1.0, "eval/loss": 2.0})]
    assert wandb.finished == 1


def test_a_resumed_run_continues_the_one_at_wandb(wandb: WandbStandIn, tmp_path: Path) -> None:
    WandbLog(tmp_path, {}).begin(0, 10)
    WandbLog(tmp_path, {}).begin(5, 10)
    WandbLog(tmp_path, {}).begin(0, 10)  # started anew
    assert [began["id"] for began in wandb.began] == [None, "new-id", None]


def test_numbers_go_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path)
    log.begin(0, 10)
    log.numbers(3, {"loss": 1.5, "eval_loss": 2.5})
    log.end()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag, value in (("train/loss", 1.5), ("eval/loss", 2.5)):
        (event,) = events.Scalars(tag)
        assert (event.step, event.value) == (3, value)


@pytest.mark.parametrize(("key", "package"), [("wandb", "wandb"), ("curves", "matplotlib")])
def test_a_missing_package_is_reported_before_any_work(
    key: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    values = {"model.init": "toy", "data.annotations": "a", "data.videos": "v", "output.dir": "r"}
    config = read_config("sft", None, values | {f"output.{key}": True})
    with pytest.raises(InputError, match=f"output.{key} needs the package {package}; pip install"):
        check_services(config)
