"""The pages of the service in a browser, its answers to pages of other sites, and `workbook ask`."""

import json
import re
import shlex

import pytest
from servers import free_port, gateway

from lib.core.errors import WorkbookError
from lib.serve import gateway as gateways
from lib.serve.limits import Limits
from lib.workbook import cli

SITE = "https://app.example"
WIDTHS = pytest.mark.parametrize("width", [390, 1440])


@pytest.fixture(scope="module")
def service(small_run):
    with gateway(small_run, "--kernels", "1", "--cors", SITE) as running:
        yield running


@pytest.fixture
def page(service, chromium):
    """A tab at `/`. At the end it must have had no trouble, and no request to elsewhere."""
    tab, trouble = chromium.new_page(viewport={"width": 390, "height": 844}), []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    here = (service.client.url, "data:")
    tab.on("request", lambda r: None if r.url.startswith(here) else trouble.append(r.url))
    tab.goto(f"{service.client.url}/")
    yield tab
    assert trouble == []
    tab.close()


def inside(tab, width: int) -> bool:
    """Return True if nothing is wider than the window."""
    tab.set_viewport_size({"width": width, "height": 844})
    return tab.evaluate("document.documentElement.scrollWidth") <= width


@WIDTHS
def test_songs_chips_and_a_command_by_the_keyboard(page, service, width):
    page.get_by_role("status").get_by_text("400 songs are here.").wait_for()
    page.keyboard.type("it's 90s hip hop, not rock")  # the box has the focus
    page.keyboard.press("Enter")
    page.get_by_role("listitem").first.wait_for()
    body = {"text": "it's 90s hip hop, not rock"}
    _, answer, _ = service.client(body=body)
    items = page.get_by_role("listitem").all_inner_texts()
    for track, item in zip(answer["tracks"], items, strict=True):
        facts = (track["title"], track["artist"], track["genre"], str(track["year"] or ""), f"{track['score']:.2f}")
        assert all(fact in item for fact in facts), (track, item)
    assert set(page.locator(".chip").all_inner_texts()) == {"hip hop", "1990s", "not rock"}
    words = shlex.split(page.get_by_label("The same request over HTTP").input_value())
    assert words[:4] == ["curl", "-X", "POST", f"{service.client.url}/recommend"] and json.loads(words[-1]) == body
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert inside(page, width) and page.get_by_role("listitem").first.bounding_box()["y"] < 600


def test_a_second_text_goes_on_from_the_first(page, service):
    for text in ("90s hip hop", "no, faster"):
        page.get_by_label(re.compile("I feel like|… and then")).fill(text)
        page.get_by_role("button", name="Find songs").click()
        page.locator(".turn", has_text=text).wait_for()
    assert set(page.locator(".chip").all_inner_texts()) == {"hip hop", "1990s", "fast"}
    words = shlex.split(page.get_by_label("The same request over HTTP").input_value())
    assert json.loads(words[-1]) == {"text": "no, faster", "history": ["90s hip hop"]}
    page.get_by_role("button", name="Start anew").click()
    page.get_by_role("button", name="90s hip hop").click()  # an example
    page.locator(".turn").wait_for()
    assert page.locator(".turn").all_inner_texts() == ["90s hip hop, but not rock"]


def test_a_title_is_text(page):
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    track = dict.fromkeys(("id", "title", "artist", "mood", "genre", "language"), bad)
    track |= {"year": None, "score": 0.5, "match": "moderate"}
    answer = {"tracks": [track], "understood": {"artist": [bad], "not": {"genre": [bad]}}, "note": bad, "model": ""}
    page.route("**/recommend", lambda route: route.fulfill(json=answer))
    page.get_by_role("button", name="90s hip hop").click()
    assert page.get_by_role("listitem").inner_text().count(bad) == 5
    assert page.locator(".chip").all_inner_texts() == [f"artist: {bad}", f"not {bad}"]
    assert page.locator("img").count() == 0


def test_an_error_is_announced_and_the_token_is_typed(small_run, chromium):
    with gateway(small_run, "--kernels", "1", token="secret") as running:
        tab = chromium.new_page()
        tab.goto(f"{running.client.url}/")
        assert not tab.get_by_label("token").is_visible()
        tab.get_by_role("button", name="Jazzy").click()
        tab.get_by_role("status").get_by_text("Send the header Authorization").wait_for()
        tab.keyboard.type("secret")  # the field has the focus
        tab.keyboard.press("Enter")
        tab.get_by_role("listitem").first.wait_for()
        assert 'Bearer $KG_AUTH_TOKEN"' in tab.get_by_label("The same request over HTTP").input_value()
        tab.goto(f"{running.client.url}/docs")
        tab.locator(".opblock-post").wait_for()
        tab.close()
        running.client.headers = {}
        assert [running.client(path)[0] for path in ("/", "/docs", "/openapi.json", "/metrics")] == [200, 200, 401, 401]


@WIDTHS
def test_the_contract_is_shown_and_tried(page, width):
    page.get_by_role("link", name="contract").click()
    page.locator(".opblock-post").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table").get_by_text('"tracks"').wait_for()
    assert inside(page, width)


def test_the_pages_follow_the_rules_of_the_service(service):
    for path in ("/", "/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
        status, body, headers = service.client.raw(path, "GET")
        assert status == 200 and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        head = service.client.raw(path, "HEAD")
        assert head[:2] == (200, b"") and int(head[2]["Content-Length"]) == len(body)
        refused = service.client.raw(path, "GET", headers={"Host": "rebound.example"})
        assert refused[0] == 403 and json.loads(refused[1])["error"]["code"] == "forbidden"
        status, answer, headers = service.client(path, method="DELETE")
        assert (status, answer["error"]["code"], headers["Allow"]) == (405, "method_not_allowed", "GET, HEAD, OPTIONS")
    assert service.client("/docs/../page.html")[0] == 404


def test_pages_of_one_site_may_send_requests(service, small_run):
    asks = {"Access-Control-Request-Method": "POST", "Host": service.client.address}
    status, _, headers = service.client.raw("/recommend", "OPTIONS", headers=asks | {"Origin": SITE})
    assert status == 204 and headers["Access-Control-Allow-Origin"] == SITE
    assert "Content-Type" in headers["Access-Control-Allow-Headers"] and headers["Vary"] == "Origin"
    for body, expected in ((b'{"text": "calm"}', 200), (b"{}", 400)):  # the page can read errors, too
        status, _, headers = service.client.raw("/recommend", "POST", body, {"Origin": SITE})
        assert status == expected and headers["Access-Control-Allow-Origin"] == SITE
    for origin in ("https://other.example", "null", f"{SITE}.evil"):
        _, _, headers = service.client.raw("/recommend", "OPTIONS", headers=asks | {"Origin": origin})
        assert "Access-Control-Allow-Origin" not in headers
    with pytest.raises(WorkbookError, match="name a site as scheme and host"):
        gateways.serve(str(small_run), "127.0.0.1", free_port(), Limits(), origins=[f"{SITE}/path"])


def test_ask_uses_the_service_that_runs_or_starts_one(service, small_run, capsys):
    port = service.client.url.rpartition(":")[2]
    assert cli.main(["ask", "sad piano", "--run", "outputs/none", "--port", port]) == 0
    assert f"The service on port {port} serves another run than outputs/none." in capsys.readouterr().out
    assert cli.main(["ask", "sad piano", "--run", str(small_run), "--port", port]) == 0
    running = capsys.readouterr().out
    assert '"sad piano"  (mood: sad)' in running
    assert len([line for line in running.splitlines() if line.startswith("  0.")]) == 5 and "Starting" not in running
    assert cli.main(["ask", "  ", "--port", port]) == 1 and "The field 'text' is empty" in capsys.readouterr().err
    port = free_port()
    assert cli.main(["ask", "sad piano", "--run", str(small_run), "--port", str(port)]) == 0
    assert running.strip() in capsys.readouterr().out
    assert cli.main(["ask", "sad piano", "--run", "outputs/none", "--port", str(port)]) == 1  # the service has ended
    assert "error: there is no outputs/none" in capsys.readouterr().err
