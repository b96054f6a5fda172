"""Runs side by side: the text, the page in a browser, and runs that cannot be compared."""

import json
import shutil

import pandas as pd
import pytest
from browser import WIDTHS, check_page, opened

from lib.core import errors, runs
from lib.performance import compare


@pytest.fixture
def other_run(small_run, tmp_path):
    """The small run with another learning rate, one request answered better and two answered worse."""
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
def test_runs_are_compared(chromium, small_run, other_run, tmp_path, size):
    file = tmp_path / "compare.html"
    text = compare.write([str(small_run), str(other_run)], file)
    row = next(line.split() for line in text.splitlines() if line.startswith("lr "))
    assert row == ["lr", "0.00013", "1e-06"] and "n_tracks" not in text
    assert "makes no clear difference to" in text and "1 improved, 2 worsened" in text
    answers = pd.read_parquet(small_run / "answers.parquet")
    with opened(chromium, file, size) as page:
        check_page(page)
        better, worse = page.locator("main table").all()[-2:]
        assert better.locator("tr").count() == 2 and worse.locator("tr").count() == 3
        assert answers["text"][0] in better.inner_text() and "another song <b>&" in better.inner_text()
        assert answers["songs"][1].split("\n")[0] in worse.inner_text()


def test_a_run_without_a_doubtful_check_says_so(small_run, other_run, tmp_path):
    embedding = json.loads((other_run / "embedding.json").read_text())
    for check in embedding["scorecard"]:
        check["verdict"] = "ok"
    (other_run / "embedding.json").write_text(json.dumps(embedding))
    text = compare.write([str(small_run), str(other_run)], tmp_path / "compare.html")
    row = next(line for line in text.splitlines() if line.startswith("embedding checks"))
    assert row.endswith(f"  none of {len(embedding['scorecard'])}")


def test_runs_with_different_catalogues_are_not_paired(small_run, other_run, tmp_path):
    pd.read_parquet(other_run / "tracks.parquet").head(300).to_parquet(other_run / "tracks.parquet")
    text = compare.write([str(small_run), str(other_run)], tmp_path / "compare.html")
    assert "have different catalogues" in text


def test_runs_that_cannot_be_compared_are_refused(small_run, other_run, tmp_path):
    def refused(message: str, *folders) -> None:
        with pytest.raises(errors.WorkbookError, match=message):
            compare.write([*map(str, folders)], tmp_path / "compare.html")
        assert not (tmp_path / "compare.html").exists()

    refused("name at least two different runs", small_run)
    refused("name at least two different runs", small_run, small_run)
    refused("it has no run.json", small_run, tmp_path)
    record = json.loads((other_run / "run.json").read_text())
    (other_run / "run.json").write_text(json.dumps(record | {"status": "failed"}))
    refused("is not finished: its run.json has the status 'failed'", small_run, other_run)
    (other_run / "metrics.json").write_text('{"half":')
    refused("is damaged", small_run, other_run)
    (other_run / "answers.parquet").unlink()
    refused("has no answers.parquet. 05_model_performance makes it", small_run, other_run)


def test_a_finished_run_has_all_files_that_are_compared(small_run):
    written = {name for stage in runs.STAGES.values() for name in stage.writes}
    assert set(compare.FILES) <= written and all((small_run / name).exists() for name in compare.FILES)
