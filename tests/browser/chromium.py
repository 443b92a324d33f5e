"""A headless Chromium for tests, driven through a pipe by the DevTools protocol: no port, no driver program, no network.

The browser gets an empty profile and software WebGL. Every request that a page makes is recorded, so that a test can claim
that there was none.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio", "--hide-scrollbars",
    "--force-device-scale-factor=1", "--no-default-browser-check", "--disable-features=Translate,OptimizationHints,MediaRouter",
)  # fmt: skip
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
NO_GL = ("--disable-gpu", "--disable-3d-apis")
BROWSER_READS, BROWSER_WRITES = 3, 4  # file descriptors of --remote-debugging-pipe
PATIENCE = 150.0  # s that one answer may take on a busy machine


def find_chromium() -> str | None:
    """The browser's program, or None."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class BrowserError(RuntimeError):
    """The browser did not answer, or a script in the page failed."""


class Browser:
    """One browser with one page.

    Attributes:
        requests: addresses that pages asked for since the last `open`.
        errors: what pages wrote to the console as errors, and exceptions nobody caught.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._write, self._read = to_browser, from_browser
        self._numbers, self._buffer = itertools.count(1), b""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **params: object) -> dict:
        """One command of the protocol, and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer is None:
                raise BrowserError(f"no answer to {method} within {PATIENCE:.0f} s; console: {self.errors}")
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, page: Path, *, size: tuple[int, int] = (900, 620), query: str = "") -> None:
        """Load a local page at a window size."""
        self.requests.clear()
        self.errors.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=page.resolve().as_uri() + query)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script[:80]}: {result['exceptionDetails'].get('exception', result['exceptionDetails'])}")
        return result["result"].get("value")

    def wait_for(self, script: str, *, seconds: float = PATIENCE) -> object:
        """Ask again until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise BrowserError(f"{script[:80]} was not true within {seconds:.0f} s; console: {self.errors}")
            time.sleep(0.05)
        return value

    def screenshot(self) -> np.ndarray:
        """The window as it is seen, RGB."""
        return decode_png(self.call("Page.captureScreenshot", format="png")["data"])

    def _next(self, deadline: float) -> dict | None:
        """The next message that is an answer; events are noted on the way. None when time is up."""
        while True:
            while b"\0" in self._buffer:
                raw, _, self._buffer = self._buffer.partition(b"\0")
                message = json.loads(raw)
                if "id" in message:
                    return message
                self._note(message)
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise BrowserError("the browser has closed")
            self._buffer += chunk

    def _note(self, event: dict) -> None:
        params = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:2000])
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))


def decode_png(text: str) -> np.ndarray:
    """A base64 PNG, or a data address of one: RGB or RGBA."""
    data = np.frombuffer(base64.b64decode(text.rpartition(",")[2]), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _place(reads: int, writes: int) -> None:
    """In the new process: put the pipe's ends where the browser looks for them, neither overwriting the other."""
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes))
    os.dup2(reads, BROWSER_READS)
    os.dup2(writes, BROWSER_WRITES)


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """Start a browser, hand it over, end it."""
    program = find_chromium()
    assert program is not None, "ask find_chromium first"
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        process = subprocess.Popen(
            command, preexec_fn=lambda: _place(commands_out, answers_in), pass_fds=(BROWSER_READS, BROWSER_WRITES),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(commands_out)
        os.close(answers_in)
        try:
            yield Browser(commands_in, answers_out)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(commands_in)
            os.close(answers_out)
