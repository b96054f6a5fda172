"""The pages, opened in a real browser: the run's report and runs side by side."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from lib.core import pages, runs
from lib.debug import maps
from lib.performance import compare

WIDTHS = {"phone": (390, 844, "dark"), "desktop": (1440, 900, "light")}
# Where a dot of the second map lies in its frame, from Bokeh's own scales.
DOT = """(row) => {
  const figures = (view) => view.model?.type === 'Figure' ? [view] : (view.child_views ?? []).flatMap(figures);
  const view = [...Bokeh.index].flatMap(figures)[1], data = view.model.renderers[0].data_source.data;
  const box = view.el.getBoundingClientRect();
  window.scrollTo(0, box.y);
  const moved = view.el.getBoundingClientRect();
  return [moved.x + view.frame.x_scale.compute(data['tuned x'][row]),
          moved.y + view.frame.y_scale.compute(data['tuned y'][row])];
}"""
LISTED = """() => {
  const items = (node) => [...(node.shadowRoot ? items(node.shadowRoot) : []), ...[...node.children].flatMap(items),
                           ...(node.tagName === 'LI' ? [node.textContent] : [])];
  return items(document.body);
}"""


@contextmanager
def opened(chromium, file, size: str):
    """The page, with all that its browser complains of or asks of the network as `page.trouble`."""
    width, height, scheme = WIDTHS[size]
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.trouble = []
    page.on("console", lambda said: page.trouble.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("dialog", lambda dialog: (page.trouble.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("data:", file.as_uri())) else page.trouble.append(r.url))
    page.goto(file.as_uri())
    yield page
    page.close()


def check(page) -> None:
    """What holds of every page: nothing beside its edge, every picture described, no complaint."""
    for summary in page.locator("details > summary").all():
        summary.click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    alternatives = page.evaluate("[...document.images].map((image) => image.alt)")
    assert all(alternatives) and "No description has been provided for this image" not in alternatives
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.trouble == []


@pytest.mark.parametrize("size", WIDTHS)
def test_the_report_is_whole_and_asks_for_nothing(chromium, small_run, size):
    file = small_run / "report.html"
    assert file.stat().st_size < 6e6
    with opened(chromium, file, size) as page:
        check(page)
        assert page.locator("img").count() >= 12 and page.locator("h1").count() == 1
        assert json.loads((small_run / "metrics.json").read_text())["verdict"] in page.inner_text("main")
        links = page.evaluate("[...document.links].map((link) => link.getAttribute('href'))")
        beside = [link for link in links if "://" not in link]
        assert len(beside) == 5 and all((small_run / link).exists() for link in beside)
        paper, ink = page.evaluate("[getComputedStyle(document.body)].flatMap((s) => [s.backgroundColor, s.color])")
        brightness = [sum(map(int, color[4:-1].split(","))) for color in (paper, ink)]
        assert (brightness[0] < brightness[1]) == (WIDTHS[size][2] == "dark")
        frame = page.locator("iframe")
        frame.scroll_into_view_if_needed()
        inside = frame.element_handle().content_frame()
        inside.wait_for_function("window.Bokeh && [...Bokeh.index].length")
        check_map(page, frame, inside)
        assert page.trouble == []


def check_map(page, frame, inside) -> None:
    """Clicking a dot lists ten neighbours in each of two spaces."""
    assert inside.evaluate(LISTED) == []
    inside.wait_for_timeout(500)
    x, y = inside.evaluate(DOT, 5)
    box = frame.bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.click(box["x"] + x, box["y"] + y)
    inside.wait_for_timeout(500)
    assert len(inside.evaluate(LISTED)) == 20


def test_names_are_text_and_not_code(chromium, tmp_path):
    """A hostile title in the map and in a table."""
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    evil = "</iframe></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    tracks = pd.DataFrame({"title": [evil] * 40, "artist": evil, "mood": evil, "genre": evil, "text": evil})
    spaces = dict.fromkeys(("base", "tuned"), vectors)
    points = {name: space[:, :2] for name, space in spaces.items()}
    frame = maps.interactive(points, spaces, tracks.assign(energy=np.nan))
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><main>{frame}{pages.table(tracks.head(1))}</main>")
    with opened(chromium, file, "desktop") as page:
        inside = page.locator("iframe").element_handle().content_frame()
        inside.wait_for_function("window.Bokeh && [...Bokeh.index].length")
        check_map(page, page.locator("iframe"), inside)
        assert evil in inside.evaluate(LISTED)[0] and page.trouble == []


# runs side by side


@pytest.fixture
def other_run(small_run, tmp_path):
    """The small run again, as if a lower learning rate had made one request's answer better and two others' worse."""
    other = tmp_path / "other"
    shutil.copytree(small_run, other, ignore=shutil.ignore_patterns("model", "index"))
    record = json.loads((other / "run.json").read_text())
    record["parameters"] |= {"run_dir": str(other), "lr": 1e-6}
    (other / "run.json").write_text(json.dumps(record))
    answers = pd.read_parquet(other / "answers.parquet")
    answers.loc[:2, "nDCG@10"] += [0.3, -0.2, -0.1]
    answers.loc[:2, "songs"] = "another song <b>&\nand\none"
    answers.to_parquet(other / "answers.parquet")
    return other


@pytest.mark.parametrize("size", WIDTHS)
def test_runs_are_compared(chromium, small_run, other_run, tmp_path, capsys, size):
    file = tmp_path / "compare.html"
    assert compare.main([str(small_run), str(other_run), "--out", str(file)]) == 0
    said = capsys.readouterr().out
    row = next(line.split() for line in said.splitlines() if line.startswith("lr "))
    assert row == ["lr", "0.00013", "1e-06"] and "n_tracks" not in said
    assert "makes no clear difference to" in said and "1 got better, 2 worse" in said
    answers = pd.read_parquet(small_run / "answers.parquet")
    with opened(chromium, file, size) as page:
        check(page)
        better, worse = page.locator("main table").all()[-2:]
        assert better.locator("tr").count() == 2 and worse.locator("tr").count() == 3
        assert answers["text"][0] in better.inner_text() and "another song <b>&" in better.inner_text()
        assert answers["songs"][1].split("\n")[0] in worse.inner_text()


def test_runs_over_different_catalogues_are_not_paired(small_run, other_run, tmp_path, capsys):
    pd.read_parquet(other_run / "tracks.parquet").head(300).to_parquet(other_run / "tracks.parquet")
    assert compare.main([str(small_run), str(other_run), "--out", str(tmp_path / "c.html")]) == 0
    assert "have other catalogues" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(small_run, other_run, tmp_path, capsys):
    def refused(*folders) -> str:
        assert compare.main([*map(str, folders), "--out", str(tmp_path / "c.html")]) == 1
        assert not (tmp_path / "c.html").exists()
        return capsys.readouterr().err

    assert "name two different runs or more" in refused(small_run)
    assert "name two different runs or more" in refused(small_run, small_run)
    assert "no run.json there" in refused(small_run, tmp_path)
    record = json.loads((other_run / "run.json").read_text())
    (other_run / "run.json").write_text(json.dumps(record | {"status": "failed"}))
    assert "is not finished: its run.json says 'failed'" in refused(small_run, other_run)
    (other_run / "metrics.json").write_text('{"half":')
    assert "is damaged" in refused(small_run, other_run)
    (other_run / "answers.parquet").unlink()
    assert "has no answers.parquet. 05_model_performance makes it" in refused(small_run, other_run)


def test_a_finished_run_has_all_that_is_compared(small_run):
    made = {name for stage in runs.STAGES.values() for name in stage.writes}
    assert set(compare.FILES) <= made and all((small_run / name).exists() for name in compare.FILES)
