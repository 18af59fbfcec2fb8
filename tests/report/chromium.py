"""A page in headless Chromium, for the browser tests and the pictures of docs/report/."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

__all__ = ["By", "Keys"]
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root can't have; the pages are our own
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
    "--disable-smooth-scrolling",
)


class Browser:
    """One browser, and what its console said."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Open a page and wait until it has drawn what is in view."""
        self.driver.get(address)
        self.wait(lambda: self.run("return document.documentElement.dataset.ready === ''"))

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The first element that a CSS selector means."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Its text, as it is seen; "" where there is none, as while a page is left for another."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText.trim() ?? ''", selector))

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def wait(self, holds: Callable[[], object], seconds: float = 10) -> None:
        """Until it holds."""
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, "never happened"
            time.sleep(0.05)

    def wait_inside(self, element: WebElement, selector: str) -> None:
        """Until there is such an element inside this one."""
        self.wait(lambda: element.find_elements(By.CSS_SELECTOR, selector))

    def wait_for_charts(self) -> None:
        """Scroll through the page, so that all charts are drawn."""
        for chart in self.driver.find_elements(By.CSS_SELECTOR, ".chart"):
            self.run("arguments[0].scrollIntoView({behavior: 'instant'})", chart)
            self.wait_inside(chart, "svg")
        self.run("scrollTo({top: 0, behavior: 'instant'})")

    def console(self) -> list[str]:
        """What the page said there since last asked, in any tone."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def theme(self, name: str) -> None:
        """Choose colours, as a click does."""
        self.run(f"document.querySelector('input[name=theme][value={name}]').click()")

    def dark_system(self, dark: bool) -> None:
        """What the system prefers."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def picture(self, path: Path, width: int, top: int, height: int) -> None:
        """A part of the page as PNG."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        made = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(made["data"]))


@contextmanager
def browser(width: int = 1360, height: int = 1000) -> Iterator[Browser]:
    """A browser for some pages."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (*OPTIONS, f"--window-size={width},{height}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
