"""The benchmarks run in their quick form; these tests do not judge its times."""

import re
import shutil
import subprocess

import pytest

from lib.core import paths, processes


@pytest.fixture(scope="module")
def table(small_run) -> dict[str, list[str]]:
    """The rows of the tables that the quick form prints: first cell -> other cells."""
    suites = ["data", "encoders", "index", *(["service"] if shutil.which("wrk") else [])]
    command = ["make", "--silent", "bench", f"BENCH={small_run} --quick --only {' '.join(suites)}"]
    out = subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line[:1] == "|"]
    return {
        "machine": [out.splitlines()[0]],
        "about": [out.splitlines()[2]],
        **{row[0]: row[1:] for row in rows},
    }


def test_the_first_line_names_machine_and_versions(table):
    line = r"\d+ \w+ 20\d\d\. .+ cores, \d+ GiB; Python 3.+, torch .+, faiss-cpu .+"
    assert re.fullmatch(line, table["machine"][0])


def test_the_page_names_the_run_and_its_own_limits(table, small_run):
    (about,) = table["about"]
    assert f"run {paths.shown(small_run)}" in about and about.endswith("Quick: too little to judge by.")


def test_costs_that_grow_have_their_slope(table):
    for row in ("generate tracks: seconds", "search: ms, all compared", "embed tracks (torch): seconds"):
        assert len([float(cell) for cell in table[row] if cell]) == 3  # at two sizes, and the power


def test_a_small_search_is_exact(table):
    recall, *_ = table["search 5,000 tracks: recall@10"]
    assert re.fullmatch(r"1.000; 1.000 in .+ of a filter's 5 %; 1.000 in .+ of 5 % that lie together", recall)


def test_lists_find_nearly_all_neighbours_also_behind_a_filter(table):
    recall, *_ = table["search 20,000 tracks: recall@10"]
    pattern = r"(\S+); (\S+) in .+ of a filter's 5 %; (\S+) in .+ that lie together"
    share, *filtered = re.fullmatch(pattern, recall).groups()
    assert float(share) > 0.9 and all(float(kept) > 0.98 for kept in filtered)


def test_every_form_is_compared_with_sentence_transformers(table):
    """The vectors agree to 1e-4."""
    for form in ("torch", "onnx", "onnx-int8"):
        for task in ("one request", "embed tracks"):
            n = processes.threads()
            _, baseline, ratio, limit, _ = table[f"{task}, {n} thread{'s' * (n > 1)}: {form}"]
            assert "SentenceTransformer.encode" in baseline and float(ratio.removesuffix(" ×")) > 0 and "%" in limit
    assert float(table["embed: largest difference of a coordinate"][0]) < 1e-4


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk, which loads the service in the benchmarks, is not installed")
def test_the_service_is_compared_with_a_plain_server(table):
    assert "plain server" in table["8 clients: requests a second"][1]
    result, *_ = table["200 requests, 16 clients, a kernel killed every 150"]
    pattern = r"\d+ × 200(?:, (\d+) × 503)?; (\d+) were with a kernel .+ \(1 kernels\)"  # it may have been idle
    refused, lost = re.fullmatch(pattern, result).groups()
    assert int(refused or 0) == int(lost)
