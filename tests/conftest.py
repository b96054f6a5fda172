"""Fixtures that all tests share: one small real run, a browser, the real data beside a checkout.

Fixtures import what they need: the process that deals the tests to the others loads this file, too.
"""

import shutil
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from lib.core import paths

SMALL = [
    "n_tracks=400", "n_requests=300", "n_pairs=128", "batch_size=16", "debug_tracks=200", "min_per_mood=5",
    "static_texts=0", "mood_steps=6",
]  # fmt: skip
# The files that take longest start first, so that the processes of `make test` end together. The first of them makes
# the small run; other files that need it come last, when it is there, the longest of them first.
FIRST = ["test_playground.py", "test_finetune.py", "test_real_catalogues.py", "test_real_text.py", "test_faults.py"]
THEN = ["test_feedback.py", "test_benchmarks.py", "test_service.py", "test_pages.py", "test_forms.py"]

# `make check` leaves out the tests that use these fixtures. Other tests of over four seconds have the mark themselves.
SLOW = {"small_run", "service", "chromium", "shared"}


def pytest_collection_modifyitems(items):
    """Mark the tests that need a trained model, a server, a browser or the real data as slow; order the files."""
    for item in items:
        if SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    last = {item.path for item in items if "small_run" in getattr(item, "fixturenames", ())}
    place = {name: number for number, name in enumerate(FIRST + THEN)}

    def order(item) -> tuple:
        first = item.path.name in FIRST
        return item.path.suffix == ".py", not first, item.path in last, place.get(item.path.name, len(place))

    items.sort(key=order)


@pytest.fixture(scope="session")
def small_run() -> Path:
    """Run notebooks 01 to 05 with quick.yaml made small. The runner skips the notebooks that are up to date."""
    folder = paths.ROOT / "outputs" / "test" / "small"
    folder.mkdir(parents=True, exist_ok=True)
    from lib.workbook import cli

    with FileLock(folder.with_suffix(".lock")):  # tests run in several processes
        assert cli.main(["run", "params/quick.yaml", f"run_dir={folder}", *SMALL]) == 0
    return folder


def free_port() -> int:
    """Return a port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def untuned(run: Path, where: Path) -> Path:
    """Write a run of the base encoder on the same catalogue, ready to serve, unless one newer than `run` is there."""
    from lib.core import base_models, encoder
    from lib.search import forms, indexing

    ours, theirs = (folder / "index" / "index.json" for folder in (where, run))
    if not ours.exists() or ours.stat().st_mtime < theirs.stat().st_mtime:
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        tracks, requests = (pd.read_parquet(run / f"{name}.parquet") for name in ("tracks", "requests"))
        encoder.load(base_models.find("all-MiniLM-L6-v2")).save(str(where / "model"))
        forms.export(where, "onnx", tracks, requests, 0, 7)
        indexing.build_index(where, tracks, "onnx")
    return where


@pytest.fixture(scope="module")
def chromium():
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium is installed here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that lies beside a development checkout; it is not part of the product."""
    path = paths.ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("the real data of ../shared is not here")
    return path


@pytest.fixture
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable
