"""What all tests share."""

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is loaded, here and in programs that tests start: models of tests are so small that
# threads wait for each other longer than they compute, on a busy machine many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The first draw of any text builds a table, which a busy machine takes long for; and the same
# examples every time tell a broken change from bad luck.
settings.register_profile(
    "vidground", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vidground")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--other-rounding",
        action="store_true",
        help="round products in the last bits by the number of rows, as another processor might",
    )


@pytest.fixture(autouse=True, scope="session")
def other_rounding(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        if request.config.getoption("--other-rounding"):
            from tests.helpers import other_rounding  # which loads torch

            other_rounding.install(patched)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of modules keep no videos in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIDGROUND_CACHE", str(tmp_path_factory.mktemp("features")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command line keeps videos in: each test begins with nothing in it."""
    folder = tmp_path_factory.getbasetemp() / "caches" / secrets.token_hex(8)
    monkeypatch.setenv("VIDGROUND_CACHE", str(folder))
    return folder


@pytest.fixture
def signals_arrive() -> Iterator[None]:
    """Programs that a test starts begin with signals as a terminal gives them: tests run in the
    background (`nohup`, `&`) would hand down that SIGHUP and SIGINT are ignored.
    """
    numbers = (signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
