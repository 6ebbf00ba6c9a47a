"""How the program's threads wait and how many compute; what the user has set stays."""

import os
import subprocess
import sys

import pytest

from vidground.checkpoints.announcement import Loading
from vidground.cli.running.threads import limit_threads, sleep_while_waiting
from vidground.devices import SMALL_MODEL_PARAMETERS

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch was not imported and the user had set nothing."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in (*_VARIABLES, "MKL_NUM_THREADS"):
        # Set first, so that what is set under test is removed afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def loading(parameters: int, device: str | None = "cpu") -> Loading:
    return Loading("m", "m", parameters, "float32", device, "float32", 4 * parameters)


def values() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def test_a_small_model_on_the_cpu_computes_with_one_thread_that_sleeps_while_waiting() -> None:
    sleep_while_waiting()
    limit_threads(loading(SMALL_MODEL_PARAMETERS - 1))
    assert values() == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "model", [loading(SMALL_MODEL_PARAMETERS), loading(1, "cuda:0"), loading(1, None)]
)
def test_other_models_keep_their_threads(model: Loading) -> None:
    limit_threads(model)
    assert values() == {}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_set_on_waiting_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "active")
    sleep_while_waiting()
    assert values() == {name: "active"}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_number_that_the_user_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    limit_threads(loading(1))
    assert os.environ.get("OMP_NUM_THREADS", "unset") == (
        "2" if name == "OMP_NUM_THREADS" else "unset"
    )


def test_nothing_is_set_once_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    sleep_while_waiting()
    limit_threads(loading(1))
    assert values() == {}


def test_the_program_imports_torch_with_one_thread_for_the_bundled_model() -> None:
    program = (
        "import sys; from vidground.cli.main import main\n"
        "from vidground.cli.reporting.loading import announce_model\n"
        "sys.argv = ['vidground', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "announce_model('toy', device='cpu')\n"
        "import os, torch; print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines()[-1] == "1 passive"
