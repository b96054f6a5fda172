"""The report of a run, opened in a real browser."""

import json

import pytest
from browser import WIDTHS, check_page, click_map, opened


@pytest.mark.parametrize("size", WIDTHS)
def test_the_report_is_whole_and_asks_for_nothing(chromium, small_run, size):
    file = small_run / "report.html"
    assert file.stat().st_size < 6e6
    with opened(chromium, file, size) as page:
        check_page(page)
        assert page.locator("img").count() >= 12 and page.locator("h1").count() == 1
        assert json.loads((small_run / "metrics.json").read_text())["verdict"] in page.inner_text("main")
        widths = "[...document.querySelectorAll('.picture img')].map((image) => image.getBoundingClientRect().width)"
        assert page.locator(".picture img").count() >= 2 and max(page.evaluate(widths)) <= WIDTHS[size][0]
        page.locator(".picture img").first.click()  # enlarges it
        assert max(page.evaluate(widths)) > 800 and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert "best possible" in page.locator(".wrap").first.inner_text()
        links = page.evaluate("[...document.links].map((link) => link.getAttribute('href'))")
        beside = [link for link in links if "://" not in link]
        assert len(beside) == 5 and all((small_run / link).exists() for link in beside)
        paper, ink = page.evaluate("[getComputedStyle(document.body)].flatMap((s) => [s.backgroundColor, s.color])")
        brightness = [sum(map(int, color[4:-1].split(","))) for color in (paper, ink)]
        assert (brightness[0] < brightness[1]) == (WIDTHS[size][2] == "dark")
        click_map(page)
        assert page.trouble == []
