"""Drives a headless Chromium through its debugging pipe, for tests of pages; needs no package."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
"""Where the browser is; None if there is none."""

_WAIT_S = 60.0


class Page:
    """One page: load it, ask it, press its keys. requests: addresses that it asked for."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer, self._count = b"", 0
        self._session: dict[str, str] = {}
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the browser and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters} | self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def load(self, path: Path) -> None:
        """Open a local file and wait until it is ready."""
        self.requests.clear()
        self.problems.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _WAIT_S
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.02)

    def click(self, selector: str, *, count: int = 0) -> None:
        """Click with the mouse on the middle of the element, the `count`-th that fits."""
        found = f"document.querySelectorAll({json.dumps(selector)})[{count}]"
        self.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"{found}.getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def press(self, key: str) -> None:
        """Press a key, as `KeyboardEvent.key` names it."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path: Path, *, width: int, height: int, dark: bool = False) -> None:
        """Write what is seen in a window of this size as PNG."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        time.sleep(0.5)  # a decoded frame may lag behind
        picture = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        note: Callable[[dict[str, Any]], None] | None = {
            "Network.requestWillBeSent": lambda p: self.requests.append(p["request"]["url"]),
            "Runtime.exceptionThrown": lambda p: self.problems.append(str(p["exceptionDetails"])),
            "Log.entryAdded": lambda p: self.problems.append(p["entry"]["text"]),
            "Page.javascriptDialogOpening": lambda p: self.problems.append(str(p)),
        }.get(message.get("method", ""))
        if note is not None:
            note(message["params"])
        return message


@contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """Start the browser with an empty profile in this folder, and lend a page of it."""
    assert PROGRAM is not None
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    # The browser reads from descriptor 3 and writes to 4.
    command = f'exec "$@" 3<&{down_read} 4>&{up_write}'
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    quiet = (
        "--remote-debugging-pipe",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    )
    process = subprocess.Popen(
        ["bash", "-c", command, "-", PROGRAM, *flags, *quiet, f"--user-data-dir={profile}"],
        pass_fds=(down_read, up_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(down_read)
    os.close(up_write)
    try:
        page = Page(down_write, up_read)
        yield page
        page._session = {}
        page.send("Browser.close")
    finally:
        os.close(down_write)
        os.close(up_read)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
