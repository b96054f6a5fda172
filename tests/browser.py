"""Pages in a headless browser: open one, check it, click the interactive map of notebook 04."""

from contextlib import contextmanager

WIDTHS = {"phone": (390, 844, "dark"), "desktop": (1440, 900, "light")}
# The place of a track's dot in the frame of the second map, from Bokeh's own scales.
DOT = """(track) => {
  const figures = (view) => view.model?.type === 'Figure' ? [view] : (view.child_views ?? []).flatMap(figures);
  const view = [...Bokeh.index].flatMap(figures)[1], data = view.model.renderers[0].data_source.data;
  window.scrollTo(0, view.el.getBoundingClientRect().y);
  const box = view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(data['tuned x'][track]),
          box.y + view.frame.y_scale.compute(data['tuned y'][track])];
}"""


@contextmanager
def opened(chromium, file, size: str):
    """Open a page; its list `trouble` collects warnings, errors, dialogs and requests to the network."""
    width, height, scheme = WIDTHS[size]
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.trouble = []
    page.on("console", lambda m: page.trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("dialog", lambda dialog: (page.trouble.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("data:", file.as_uri())) else page.trouble.append(r.url))
    page.goto(file.as_uri())
    yield page
    page.close()


def check_page(page) -> None:
    """Check that nothing is wider than the page, that every picture has a text, and that there was no trouble."""
    for summary in page.locator("details > summary").all():
        summary.click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    texts = page.evaluate("[...document.images].map((image) => image.alt)")
    assert all(texts) and "No description has been provided for this image" not in texts
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.trouble == []


def click_map(page) -> list[str]:
    """Click a dot of the interactive map on a page, and return the songs that it lists: itself and ten, twice."""
    frame = page.locator("iframe")
    frame.scroll_into_view_if_needed()
    inside = frame.element_handle().content_frame()
    inside.wait_for_function("window.Bokeh && [...Bokeh.index].length")
    inside.wait_for_timeout(500)
    songs = inside.locator(".slick-cell.l1")  # column 0 holds the numbers
    assert songs.count() == 0
    x, y = inside.evaluate(DOT, 5)
    box = frame.bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.click(box["x"] + x, box["y"] + y)
    inside.wait_for_timeout(500)
    texts = songs.all_inner_texts()
    assert len(texts) == 22 and texts[0] == texts[11]
    return texts
