"""The benchmarks run, all but the hours of them; their times are not judged here."""

import re
import shutil
import subprocess

import pytest

from lib.core import paths, processes


@pytest.fixture(scope="module")
def said(small_run) -> dict[str, list[str]]:
    """The cells of the quick form's tables, by what their rows measure."""
    suites = ["data", "encoders", "index", *(["service"] if shutil.which("wrk") else [])]
    command = ["make", "--silent", "bench", f"BENCH={small_run} --quick --only {' '.join(suites)}"]
    out = subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line[:1] == "|"]
    return {
        "machine": [out.splitlines()[0]],
        "about": [out.splitlines()[2]],
        **{row[0]: row[1:] for row in rows},
    }


def test_the_machine_and_the_versions_stand_on_top(said):
    assert re.fullmatch(r"\d+ \w+ 20\d\d\. .+ cores, \d+ GiB; Python 3.+, torch .+, faiss-cpu .+", said["machine"][0])


def test_the_page_says_what_it_measured(said, small_run):
    about, *_ = said["about"]
    assert f"run {paths.shown(small_run)}" in about and about.endswith("Quick: too little to judge by.")


def test_what_grows_has_its_slope(said):
    for what in ("generate tracks: seconds", "search: ms, all compared", "embed tracks (torch): seconds"):
        assert len([float(cell) for cell in said[what] if cell]) == 3  # at two sizes, and the power


def test_a_small_search_is_exact(said):
    found, *_ = said["search 5,000 tracks: recall@10"]
    assert re.fullmatch(r"1.000; 1.000 in .+ of a filter's 5 %; 1.000 in .+ of 5 % that lie together", found)


def test_lists_find_nearly_all_and_all_that_a_filter_keeps(said):
    found, *_ = said["search 20,000 tracks: recall@10"]
    pattern = r"(\S+); (\S+) in .+ of a filter's 5 %; (\S+) in .+ that lie together"
    share, *filtered = re.fullmatch(pattern, found).groups()
    assert float(share) > 0.9 and all(float(kept) > 0.98 for kept in filtered)


def test_every_form_stands_beside_sentence_transformers(said):
    """Their vectors are its vectors, to 1e-4."""
    for form in ("torch", "onnx", "onnx-int8"):
        for what in ("one request", "embed tracks"):
            n = processes.threads()
            _, baseline, ratio, limit, _ = said[f"{what}, {n} thread{'s' * (n > 1)}: {form}"]
            assert "SentenceTransformer.encode" in baseline and float(ratio.removesuffix(" ×")) > 0 and "%" in limit
    assert float(said["embed: largest difference of a coordinate"][0]) < 1e-4


@pytest.mark.skipif(not shutil.which("wrk"), reason="the client of the service's benchmarks, wrk, is not installed")
def test_the_service_stands_beside_a_plain_server(said):
    assert "plain server" in said["8 clients: requests a second"][1]
    killed, *_ = said["200 requests, 16 clients, a kernel killed every 150"]
    said_of = r"\d+ × 200(?:, (\d+) × 503)?; (\d+) were on a kernel .+ \(1 of them\)"  # it may have been idle
    refused, lost = re.fullmatch(said_of, killed).groups()
    assert int(refused or 0) == int(lost)
