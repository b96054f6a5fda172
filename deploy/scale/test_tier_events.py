"""The way of an event through the whole tier, behind the door (make scale-test)."""

import os
import sys
import time
from contextlib import suppress

import pytest

from deploy.scale.client import token
from deploy.scale.events import settings
from deploy.scale.events.parts import line
from deploy.scale.events.store import open_store
from deploy.scale.tier import PATH, main
from lib.core.processes import only_one
from tests.conftest import free_port
from tests.test_playground import after, more_like, server, settled


@pytest.fixture
def lake(up, monkeypatch):
    """The tier's lake."""
    if "lake" not in up.states():
        pytest.skip(f"the tier runs without events: {settings.missing(PATH)}")
    own = settings.settings(up.home, up.ports)
    for name in filter(lambda name: name == "S3" or name.startswith("AWS_"), own):
        monkeypatch.setenv(name, own[name])
    open_store.cache_clear()
    yield open_store(own["LAKE"])
    open_store.cache_clear()


def sessions(lake) -> list[str]:
    """Return the sessions of all events in the lake."""
    names = []
    with suppress(OSError):  # the store starts, or a file is just written
        for info in lake.parquet(lake.events):
            names += lake.table(info.path, ["session"])["session"].to_pylist()
    return names


def test_an_event_of_the_log_is_in_the_lake_and_can_be_forgotten(up, lake, capsys):
    name = f"someone-{os.getpid()}"
    log = up.home / "events" / "tested.jsonl"
    log.write_bytes(line("tested-1", session=name) + line("tested-2", session="other"))
    deadline = time.monotonic() + 120  # Spark starts beside the tier
    while not {name, "other"} <= set(sessions(lake)):
        assert time.monotonic() < deadline, (up.home / "lake.log").read_text()[-2000:]
        time.sleep(1)
    assert main(["--home", str(up.home), "forget", name]) == 0
    left = sessions(lake)
    assert name not in left and "other" in left
    assert name.encode() not in log.read_bytes()


def test_an_hourly_run_beside_the_tiers_own_job_is_refused(up, lake, capsys):
    """Two jobs with one checkpoint would disturb each other."""
    assert main(["--home", str(up.home), "lake"]) == 1
    assert "start the tier with --hourly" in capsys.readouterr().err


def test_one_hourly_run_at_a_time(up, lake, capsys):
    """A timer may start one while the last one still runs."""
    up.ctl("stop", "lake")
    try:
        with only_one(up.home, ".lake.lock"):
            assert main(["--home", str(up.home), "lake"]) == 1
        assert "an earlier `make lake` still writes" in capsys.readouterr().err
    finally:
        up.ctl("start", "lake")


def test_a_like_in_the_browser_moves_the_next_answer_and_trends(up, lake, small_run, chromium, monkeypatch, tmp_path):
    """The playground, beside a real tier: its songs are those of the session, and what is liked is trending."""
    monkeypatch.setenv("TIER", f"http://127.0.0.1:{up.first}")
    monkeypatch.setenv("TIER_TOKEN", token(up.home))
    port = free_port()
    command = [sys.executable, "-m", "lib.workbook", "playground", small_run, "--no-browser", "--Voila.ip=127.0.0.1"]
    with server([*command, "--port", port], port, tmp_path / "voila.log") as address:
        page = chromium.new_page(viewport={"width": 390, "height": 844})
        page.goto(address, timeout=120_000)
        page.wait_for_selector(".song", timeout=90_000)
        page.get_by_label("a session of the tier").check()
        page.wait_for_timeout(2000)  # until the session's songs are shown: a click on a row that is replaced is lost
        title = settled(page)[1]
        songs = after(page, more_like(page, title).click)
        assert title not in songs  # the session has heard it
        assert page.locator(".song .moved", has_text="new").count()
        others = page.locator("text=/^Trending now:/")
        deadline = time.monotonic() + 30
        while title not in others.inner_text():
            assert time.monotonic() < deadline, others.inner_text()
            page.wait_for_timeout(1000)
            page.get_by_label("How many").fill(str(3 + int(time.monotonic()) % 3))
            page.get_by_label("How many").press("Enter")
        page.close()
