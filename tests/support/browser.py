"""A real browser for tests: Debian's chromium, headless, with a profile of its own, driven by selenium.

Needs Debian's `chromium chromium-driver`. What the pages complain of in the console (scripts, policies, requests) is there for
the test to look at. Who wants to see the pages names a folder in RELEVANCE_SCREENSHOTS: drawn without a GPU, pictures of whole
pages are a good part of what these tests take.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.airflow_home import Home

T = TypeVar("T")

#: A program of each Debian package that is needed.
PACKAGES = {"chromium": Path("/usr/bin/chromium"), "chromium-driver": Path("/usr/bin/chromedriver")}
SCREENSHOTS = os.environ.get("RELEVANCE_SCREENSHOTS", "")
DESK, PHONE = (1360, 900), (390, 844)

# Root may not use the sandbox; /dev/shm is small in a container; nothing may be fetched from another host. No window is in front of
# the others here: none may be taken for hidden, whose timers would wait.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--no-first-run",
    "--lang=en-US",
    "--no-proxy-server",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def require_browser() -> None:
    """Skip the test by name where the browser is not installed; in CI, where it must be, fail."""
    missing = [package for package, program in PACKAGES.items() if not program.exists()]
    if missing:
        message = f"no browser can be started: apt-get install --no-install-recommends {' '.join(missing)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


@dataclass(frozen=True)
class Browser:
    """One window. Elements are found by CSS, or by the text that a person reads, and waited for."""

    driver: Chrome
    url: str
    users: list[str] = field(default_factory=list)
    """Who has logged in, one after the other."""

    def open(self, path: str) -> None:
        """Goes to a path of Airflow."""
        self.driver.switch_to.default_content()
        self.driver.get(f"{self.url}{path}")

    def leave(self) -> None:
        """Goes to an empty page: Airflow's own, drawn without a GPU and renewed every second, take most of a core from the run."""
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")

    def log_in(self, home: Home, user: str) -> None:
        """Types the login into Airflow's own form, unless this user is the one who did it last."""
        if self.users[-1:] == [user]:
            return
        self.driver.delete_all_cookies()
        self.open("/auth/login")
        self.find("input[name=username]").send_keys(user)
        self.find("input[name=password]").send_keys(home.password(user))
        self.find("button[type=submit]").click()
        self.until(lambda: "/auth/login" not in self.driver.current_url and self.driver.get_cookie("_token"), "logged in")
        self.users.append(user)

    def until(self, what: Callable[[], T], why: str, seconds: float = 60) -> T:
        """The first value of `what` that is true; elements that come and go are waited for."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := what():
                    return found
            except (NoSuchElementException, StaleElementReferenceException):
                pass
            assert time.monotonic() < deadline, f"{why}: not within {seconds:.0f} s\n{self.state()}\n{self.text()[:2000]}"
            time.sleep(0.2)

    def find(self, css: str, text: str = "", seconds: float = 60) -> WebElement:
        """The first visible element of the selector that has the text, once there is one."""
        return self.until(lambda: self.visible(css, text), f"{css} {text}".strip(), seconds)[0]

    def visible(self, css: str, text: str = "") -> list[WebElement]:
        """The elements of the selector that a person sees now and that have the text."""
        seen = "e.checkVisibility({visibilityProperty: true}) && e.innerText.includes(arguments[1])"
        return list(self.script(f"return [...document.querySelectorAll(arguments[0])].filter(e => {seen})", css, text))

    def all(self, css: str) -> list[WebElement]:
        """Every element of the selector that is there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self) -> str:
        """What a person reads in the frame."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def state(self) -> str:
        """What tells why a page does not go on: its address, whether it is seen, what it fetched last, and its console."""
        last = "performance.getEntriesByType('resource').slice(-5)"
        fetched = f"{last}.map(e => [e.name, e.startTime | 0, e.duration | 0, e.responseStatus])"
        seen = self.script(f"return JSON.stringify([location.href, document.visibilityState, performance.now() | 0, {fetched}])")
        return "\n".join([seen, *(entry["message"] for entry in self.driver.get_log("browser"))])

    def script(self, text: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(text, *arguments)

    def enter_frame(self, title: str = "Relevance") -> None:
        """From Airflow's page into the pages' frame, once there is something in it."""
        self.driver.switch_to.default_content()
        self.driver.switch_to.frame(self.find(f"iframe[title={title!r}]"))
        self.find("main")

    def screenshot(self, name: str) -> None:
        """What the window shows, as NAME.png in the folder of screenshots."""
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            assert self.driver.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))

    def whole_screenshot(self, name: str) -> None:
        """The whole page of the window from top to bottom, likewise."""
        if not SCREENSHOTS:
            return
        width, height = self.script("return [innerWidth, document.documentElement.scrollHeight]")
        with self.metrics(width, min(height, 8000)):
            self.screenshot(name)

    @contextmanager
    def metrics(self, width: int, height: int) -> Iterator[None]:
        """Another size of the page, as a phone has it."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    @contextmanager
    def scheme(self, name: Literal["light", "dark"]) -> Iterator[None]:
        """What the reader's screen prefers."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def fits(self, what: str, seconds: float = 5) -> None:
        """Fails where the page scrolls sideways, once its plots have taken the window's width."""
        deadline = time.monotonic() + seconds
        while wide := self.overflow():
            assert time.monotonic() < deadline, f"{what} is wider than the window: {wide}"
            time.sleep(0.1)

    def overflow(self) -> list[str]:
        """What is wider than the page and makes it scroll sideways; empty where it does not."""
        return list(
            self.script(
                """
                const wide = document.documentElement.clientWidth;
                if (document.documentElement.scrollWidth <= wide) return [];
                const right = e => Math.round(e.getBoundingClientRect().right);
                return [...document.querySelectorAll("body *")].filter(e => right(e) > wide)
                    .slice(0, 8).map(e => `${e.tagName.toLowerCase()}.${e.className}: ${right(e)}`);
                """
            )
        )

    def problems(self) -> list[str]:
        """What the pages complained of in the console since it was last asked: errors, refused policies, failed requests."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and re.search(r"/relevance/", entry["message"])]


@contextmanager
def browser(url: str, profile: Path) -> Iterator[Browser]:
    """A window onto `url` until the block ends."""
    require_browser()
    options = ChromeOptions()
    options.binary_location = str(PACKAGES["chromium"])
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={DESK[0]},{DESK[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(str(PACKAGES["chromium-driver"])))
    try:
        yield Browser(driver, url)
    finally:
        driver.quit()
