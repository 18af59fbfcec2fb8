"""The page of `report` in headless Chromium: `make test-report`, which installs what it takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import axe_core_python
import pytest

from tests.cli.conftest import cli
from tests.fleet.watched import TOKEN, watched_fleet
from tests.report.chromium import Browser, By, Keys, browser
from tests.report.history import documents, write_history
from tests.report.test_report import HOSTILE, hostile_receipt, write
from tests.web.served import serve, speaking

AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
PAINTED = 2000
"""Milliseconds to the first paint, at most."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("history")
    return report(write_history(folder / "runs", 1000), folder / "report.html")


def report(folder: Path, page: Path) -> str:
    ended = cli("report", folder, "-o", page)
    assert ended.code == 0, ended.err
    assert "no charts" not in ended.err
    return page.as_uri()


@pytest.fixture
def page(chromium: Browser, thousand: str) -> Iterator[Browser]:
    chromium.console()
    chromium.open(thousand)
    chromium.theme("auto")
    yield chromium
    assert chromium.console() == []


def test_a_thousand_builds_are_there_at_once(page: Browser) -> None:
    page.wait(lambda: page.run("return performance.getEntriesByType('paint').length"))
    ((_, painted), *_) = page.run(
        "return performance.getEntriesByType('paint').map((one) => [one.name, one.startTime])"
    )
    print(f"first paint after {painted:.0f} ms")
    assert painted <= PAINTED
    assert page.text("#count") == "1,000 builds"
    page.wait_for_charts()
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".chart svg")) == 4
    # Nothing was asked of anyone.
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def axe(page: Browser) -> list[tuple[str, str]]:
    """What axe-core finds against a page: the rule, and the first element of it."""
    # By the debugger, which the page's policy does not bind.
    page.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    ask = {"expression": "axe.run().then((all) => JSON.stringify(all.violations))", "awaitPromise": True}
    violations = json.loads(page.driver.execute_cdp_cmd("Runtime.evaluate", ask)["result"]["value"])
    return [(row["id"], row["nodes"][0]["html"][:200]) for row in violations]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page: Browser, theme: str) -> None:
    page.theme(theme)
    page.wait_for_charts()
    page.run("document.querySelector('summary').click()")
    assert axe(page) == []


def test_filters_by_the_keyboard(page: Browser) -> None:
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.textContent") == "Skip to the builds"
    page.press(Keys.TAB)  # colours
    page.press(Keys.TAB, "halo")
    page.wait(lambda: page.text("#count") != "1,000 builds")
    cells = page.run("return [...document.querySelectorAll('#table tbody th bdi')].map((one) => one.textContent)")
    assert set(cells) == {"halo2-prover"}
    assert page.find("#pair [name=project]").get_attribute("value") == "halo2-prover"
    shown = page.text("#count")
    page.press(Keys.TAB, "Podman")
    page.wait(lambda: page.text("#count") != shown)
    assert "Docker" not in page.text("#table")
    for selector in ("[name=result]", "[name=from]"):
        page.press(Keys.TAB)
        assert page.run(f"return document.activeElement.matches('{selector}')")
    page.find("[name=text]").send_keys("no such thing")
    page.wait(lambda: page.text("#count").startswith("0 of"))
    assert page.text("#table") == "No builds match these filters."
    page.press(Keys.TAB, Keys.ENTER)
    page.wait(lambda: page.text("#count") == "1,000 builds")


def test_times_and_results(page: Browser) -> None:
    page.run(
        "const { from, to, result } = document.getElementById('filters').elements;"
        "from.value = '2026-07-01'; to.value = '2026-07-31'; result.value = 'failed';"
        "from.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    page.wait(lambda: page.text("#count") != "1,000 builds")
    times = page.run("return [...document.querySelectorAll('#table time')].map((one) => one.dateTime.slice(0, 7))")
    assert set(times) == {"2026-07"}
    assert {badge.text for badge in page.driver.find_elements(By.CSS_SELECTOR, "#table .badge")} == {"A run failed"}


def test_the_table_is_sorted_and_turned_by_the_keyboard(page: Browser) -> None:
    page.run("document.querySelector('[data-sort=size]').focus()")
    page.press(Keys.ENTER)
    head = "#table th:has([data-sort=size])"
    assert page.find(head).get_attribute("aria-sort") == "descending"
    page.press(Keys.ENTER)  # the focus stays on it
    assert page.find(head).get_attribute("aria-sort") == "ascending"
    page.run("document.querySelector('[data-turn=\"1\"]').focus()")
    page.press(Keys.ENTER)
    assert page.text("#pages [role=status]").startswith("Page 2 of ")
    page.press(Keys.ENTER)
    assert page.text("#pages [role=status]").startswith("Page 3 of ")


def test_a_build_is_compared_with_the_one_before(page: Browser) -> None:
    page.run("document.querySelector('#table button.link').focus()")
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "compare-title"
    assert page.text("#difference h3") == "Why it was rebuilt"
    before = page.find("#pair [name=before]").get_attribute("value")
    page.find("#swap").click()
    assert page.find("#pair [name=after]").get_attribute("value") == before


def test_colours_are_the_systems_until_the_user_chooses(page: Browser) -> None:
    def ground() -> str:
        return str(page.run("return getComputedStyle(document.body).backgroundColor"))

    page.dark_system(False)
    light = ground()
    page.dark_system(True)
    dark = ground()
    assert light != dark
    page.theme("light")
    assert ground() == light
    page.dark_system(False)
    page.theme("dark")
    assert ground() == dark


def test_every_chart_has_its_table(page: Browser) -> None:
    for details in page.driver.find_elements(By.CSS_SELECTOR, "#charts details"):
        summary = details.find_element(By.CSS_SELECTOR, "summary")
        page.run("arguments[0].focus()", summary)
        page.press(Keys.ENTER)
        page.wait_inside(details, "tbody tr")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#charts caption")) == 4


def test_what_hostile_receipts_say_is_seen_and_not_done(chromium: Browser, tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE):
        for build in (1, 2):
            receipt = hostile_receipt(text, float(build)) | {"finished": f"2026-02-0{build}T00:00:00Z"}
            write(tmp_path / f"{number}-{build}", receipt)
    chromium.console()
    chromium.open(report(tmp_path, tmp_path / "report.html"))
    chromium.wait_for_charts()
    for name in chromium.run(
        "return [...document.querySelector('#pair').elements.project.options].map((one) => one.value)"
    ):
        chromium.run(
            "const { project } = document.getElementById('pair').elements; project.value = arguments[0];"
            "project.dispatchEvent(new Event('change', { bubbles: true }))",
            name,
        )
    assert chromium.console() == []
    assert "<img src=x onerror=alert(1)>" in chromium.text("#table")
    assert chromium.run("return document.querySelectorAll('img, iframe, script').length") == 3
    wide = chromium.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0


def test_the_served_page_from_the_token_to_a_builds_end(chromium: Browser, tmp_path: Path) -> None:
    write_history(tmp_path / "runs", 20)
    with serve(tmp_path / "runs") as served:
        chromium.driver.get(served.url)
        chromium.find("#token").send_keys("a wrong one", Keys.ENTER)
        chromium.wait(lambda: chromium.text("#said") == "That is not the token.")
        assert axe(chromium) == []
        chromium.find("#token").clear()
        with speaking(served, "halo2-prover") as build:
            chromium.find("#token").send_keys(served.token, Keys.ENTER)
            chromium.wait(lambda: chromium.run("return document.documentElement.dataset.ready === ''"))
            assert chromium.driver.current_url == served.url
            chromium.console()  # the two refusals before
            chromium.wait(lambda: chromium.text("#live-state") == "1 build running")
            assert "Compiling ark-bn254 v0.5.0" in chromium.text("#running pre")
            assert "RUN cargo build --release --package shim 42 %" in chromium.text("#running .steps")
            chromium.wait_for_charts()
            assert axe(chromium) == []
            build.kill()
        chromium.wait(lambda: chromium.text("#running .badge") == "killed")
        assert chromium.text("#live-state") == "No build is running."
        receipt, _ = list(documents(21))[-1]
        write(tmp_path / "runs/new", receipt, "new")
        chromium.wait(lambda: chromium.text("#count") == "21 builds", 15)
        # Found by the address that the command prints, too, and it is not in the history.
        chromium.driver.delete_all_cookies()
        chromium.driver.get("about:blank")
        chromium.driver.get(f"{served.url}#{served.token}")
        chromium.wait(lambda: chromium.text("#count") == "21 builds")
        assert chromium.driver.current_url == served.url
        assert all("Failed to load resource" in line or "[DOM]" in line for line in chromium.console())


def test_the_page_of_a_fleet_while_it_works_loses_a_worker_and_begins_anew(chromium: Browser, tmp_path: Path) -> None:
    write_history(tmp_path / "store" / "receipts", 20)
    with watched_fleet(tmp_path, "127.0.0.1:0") as fleet:
        fleet.worker("rack-1", "fast-disk", "gpu")
        chromium.driver.get(f"{fleet.url}#{TOKEN}")
        chromium.wait(lambda: chromium.text("#count") == "20 builds", 30)
        chromium.console()  # the question for the token
        with fleet.ordered("halo2-prover", "groth16-prover"):
            chromium.wait(lambda: "1 worker · 1 of 1 slot busy · 1 job waiting" in chromium.text("#fleet-state"))
            chromium.wait(lambda: "Compiling ark-bn254 v0.5.0" in chromium.text("#running pre"))
            assert chromium.text("#running .where") == "on rack-1"
            assert chromium.text("#running .steps") == "program RUN cargo build --release --locked"
            lost = fleet.worker("rack-2")
            chromium.wait(lambda: chromium.text("#live-state") == "2 builds running", 20)
            lost.kill()
            chromium.wait(lambda: "lost" in chromium.text("#workers"))
            chromium.wait(lambda: "waits for another worker" in chromium.text("#running"))
            chromium.wait_for_charts()
            for theme in ("light", "dark"):
                chromium.theme(theme)
                assert axe(chromium) == []
            if pictures := os.environ.get("PICTURES"):
                chromium.picture(Path(pictures) / "fleet.png", 1360, 0, 1000)
            assert chromium.console() == []
            assert fleet.scheduler is not None
            fleet.scheduler.terminate()
            chromium.wait(lambda: "trying again" in chromium.text("#live-state"))
            fleet.scheduler.wait()
            fleet.serve()
            chromium.wait(lambda: chromium.text("#live-state") == "1 build running", 30)
