"""Takes the pictures of docs/report.md: the page of a made-up team's builds, in headless Chromium.

python bench/report_pictures.py docs/report
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from orchestrator.report.charts import INSTALL, chart_library  # noqa: E402 (after the path)
from orchestrator.report.contents import report_contents  # noqa: E402
from orchestrator.report.receipts import read_receipts  # noqa: E402
from orchestrator.report.render import render_page  # noqa: E402
from tests.report.chromium import Browser, browser  # noqa: E402
from tests.report.history import LAST, write_history  # noqa: E402
from tests.web.served import serve, speaking  # noqa: E402

WIDE, NARROW, HEIGHT = 1360, 420, 1240


def make_page(folder: Path) -> str:
    """The address of the page."""
    library = chart_library()
    if library is None:
        raise SystemExit(INSTALL)
    write_history(folder / "runs", 240)
    page = folder / "report.html"
    page.write_text(render_page(report_contents(read_receipts([folder / "runs"]), LAST), library))
    return page.as_uri()


def top_of(chromium: Browser, selector: str) -> int:
    """Where an element begins, in pixels from the page's top."""
    return int(
        chromium.run("return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY", selector)
    )


def take(address: str, pictures: Path) -> None:
    """All of them, as PNG."""
    with browser(WIDE, HEIGHT) as chromium:
        chromium.open(address)
        for theme in ("light", "dark"):
            chromium.theme(theme)
            chromium.wait_for_charts()
            chromium.picture(pictures / f"{theme}.png", WIDE, 0, HEIGHT)
        chromium.theme("light")
        chromium.find("[name=text]").send_keys("base:")  # a build with another base has most to tell
        chromium.wait(lambda: not chromium.text("#count").startswith("240"))
        chromium.run("document.querySelector('#table button.link').click(); document.activeElement.blur()")
        start = top_of(chromium, "#compare-title") - 24
        chromium.picture(pictures / "compare.png", WIDE, start, HEIGHT)
        chromium.run("document.querySelector('[type=reset]').click()")
        chromium.wait(lambda: chromium.text("#count").startswith("240"))
        chromium.picture(pictures / "builds.png", WIDE, top_of(chromium, "#state-title") - 24, HEIGHT)
    with browser(NARROW, HEIGHT) as chromium:
        chromium.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": NARROW, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": True},
        )
        chromium.open(address)
        chromium.wait_for_charts()
        chromium.picture(pictures / "narrow.png", NARROW, 0, HEIGHT)


def take_live(folder: Path, pictures: Path) -> None:
    """Of the served page, while two builds run and after one has failed."""
    write_history(folder / "live", 60)
    with serve(folder / "live") as served, browser(WIDE, HEIGHT) as chromium:
        with speaking(served, "snarkjs-prover", "failed"):
            pass
        with speaking(served, "groth16-prover"), speaking(served, "halo2-prover"):
            chromium.driver.get(f"{served.url}#{served.token}")
            chromium.wait(lambda: chromium.run("return document.documentElement.dataset.ready === ''"))
            chromium.theme("dark")
            chromium.wait(lambda: chromium.text("#live-state") == "2 builds running")
            chromium.wait_for_charts()
            chromium.picture(pictures / "live.png", WIDE, 0, HEIGHT)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        take(make_page(Path(folder)), arguments.directory)
        take_live(Path(folder), arguments.directory)


if __name__ == "__main__":
    main()
