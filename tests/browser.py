"""A headless Chromium that opens one file: driven over the WebDriver protocol, with what it logged and asked for."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TAB, ENTER = "\ue004", "\ue007"
"""Keys, as the protocol writes them."""
_SECONDS = 120


class Browser:
    """A session of a browser; every method raises urllib's HTTPError for what the driver refuses."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, file: Path) -> None:
        """Open a file and wait until it has loaded."""
        self._post("url", {"url": file.resolve().as_uri()})

    def resize(self, width: int, height: int) -> None:
        """Show the page in a viewport of that many CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", size)

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """Return what the body of a function gives in the page."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def press(self, key: str) -> None:
        """Press and release a key."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Return the answer to a command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self, file: Path) -> None:
        """Write the whole page as a PNG, also what lies below the viewport."""
        answer = self.command("Page.captureScreenshot", {"captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(answer["data"]))

    def console(self) -> list[str]:
        """Return what the page wrote to the console since it was last asked for."""
        return [entry["message"] for entry in self._post("se/log", {"type": "browser"})]

    def requested(self) -> list[str]:
        """Return the addresses that were asked for since this was last asked for, but those inside the file."""
        messages = [json.loads(entry["message"])["message"] for entry in self._post("se/log", {"type": "performance"})]
        sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:", "chrome:"))]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _answer(f"{self._session}/{path}", body)


def _answer(url: str, body: dict[str, Any]) -> Any:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=_SECONDS) as response:
        return json.load(response)["value"]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser whose profile is an empty folder, and end it."""
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            said = driver.stdout or ()
            port = next(found[1] for line in said if (found := re.search(r"successfully on port (\d+)", line)))
            with _session(f"http://127.0.0.1:{port}/session", profile) as session:
                yield Browser(session)
        finally:
            driver.terminate()


@contextmanager
def _session(sessions: str, profile: Path) -> Iterator[str]:
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": CHROMIUM, "args": [*_FLAGS, f"--user-data-dir={profile}"]},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    session = f"{sessions}/{_answer(sessions, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
    try:
        yield session
    finally:
        urlopen(Request(session, method="DELETE"), timeout=_SECONDS).close()
