"""The report as a person sees it: the page in headless Chromium, wide and narrow.

Set `TFF_REC_BROWSER` where Chromium has another name than Debian gives it. Without a browser the test is skipped, and
where `CI` is set it fails.
"""

import os
import pathlib
import shutil
import tempfile

import study_cases
from absl.testing import absltest, parameterized
from playwright import sync_api

from tff_rec.report import report

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MEASURE = """() => ({
  width: window.innerWidth,
  content: document.scrollingElement.scrollWidth,
  tables: [...document.querySelectorAll('table')].map(table => ({
    rows: table.tBodies[0].rows.length,
    blank: [...table.querySelectorAll('th, td')].filter(cell => !cell.innerText.trim()).length,
    ragged: [...table.tBodies[0].rows].filter(row => row.cells.length != table.tHead.rows[0].cells.length).length,
    outside: table.parentElement.getBoundingClientRect().right > window.innerWidth,
  })),
  pictures: [...document.images].map(image => ({
    alt: image.alt, natural: image.naturalWidth, shown: image.getBoundingClientRect().width,
    right: image.getBoundingClientRect().right, embedded: image.src.startsWith('data:image/png'),
  })),
  headings: [...document.querySelectorAll('h2')].map(heading => heading.innerText),
  text: document.body.innerText,
})"""


def browser_path():
    return os.environ.get("TFF_REC_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class PageTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = browser_path()
        if path is None and not os.environ.get("CI"):
            raise cls.skipTest(cls, "no Chromium here")
        if path is None:
            raise AssertionError(f"CI has no browser: none of {', '.join(NAMES)} is installed; .ci/run installs one.")
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        study_cases.whole(cls.folder)
        report.make(cls.folder)
        playwright = cls.enterClassContext(sync_api.sync_playwright())
        # Root, as in CI's container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        cls.addClassCleanup(browser.close)
        cls.browser = browser

    def look(self, width):
        page = self.browser.new_page(viewport={"width": width, "height": 900})
        self.addCleanup(page.close)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((self.folder / "report.html").as_uri())
        page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        found = page.evaluate(MEASURE)
        self.assertEqual(errors, [])
        self.assertEmpty([url for url in requests if not url.startswith(("file:", "data:"))])
        return found

    @parameterized.parameters(1280, 400)
    def test_tables_and_pictures_are_there_and_nothing_overflows(self, width):
        found = self.look(width)
        self.assertEqual(found["width"], width)
        self.assertLessEqual(found["content"], width)
        self.assertGreater(len(found["tables"]), 10)
        for table in found["tables"]:
            self.assertGreater(table["rows"], 0)
            self.assertEqual((table["blank"], table["ragged"], table["outside"]), (0, 0, False))
        # The headline, three curves, traffic, ε and two ways of buckets of each protocol; two sweeps.
        self.assertLen(found["pictures"], 2 * (1 + 3 + 2 + 2) + 2)
        for picture in found["pictures"]:
            self.assertTrue(picture["embedded"])
            self.assertGreater(picture["natural"], 600)
            self.assertGreater(picture["shown"], 300)
            self.assertLessEqual(picture["right"], width)
            self.assertIn("made-up", picture["alt"])

    def test_sections(self):
        found = self.look(1280)
        for heading in (
            "Federated against centralised against baselines",
            "Quality against privacy",
            "Learning curves",
            "Who pays for federation?",
            "Hyper-parameters",
            "What failed or was not run",
            "Environment",
        ):
            self.assertIn(heading, found["headings"])
        self.assertIn("failed: the grid holds no number | at all", found["text"])
        self.assertIn("not run, so there is no picture", found["text"])


if __name__ == "__main__":
    absltest.main()
