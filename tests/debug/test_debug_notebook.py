"""Notebook 04 on catalogues that it cannot examine fully."""

import pandas as pd
import pytest
from in_process import execute
from sentence_transformers import SentenceTransformer

from lib.core.errors import WorkbookError
from lib.search import indexing


def debug(tmp_path, small_run, change, **parameters) -> str:
    """Run notebook 04 on changed tracks of the small run, and return all that it prints."""
    run = tmp_path / "run"
    run.mkdir()
    table = change(pd.read_parquet(small_run / "tracks.parquet").head(160)).reset_index(drop=True)
    table.to_parquet(run / "tracks.parquet")
    (run / "requests.parquet").symlink_to(small_run / "requests.parquet")
    (run / "model").symlink_to(small_run / "model")
    indexing.build_index(run, table)
    return execute("04_embedding_debug", **{"run_dir": str(run), "debug_tracks": 60} | parameters)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda t: t.head(3), ["A map needs at least 21 tracks; there are 3."]),
        (
            lambda t: t.head(60).assign(mood="calm"),
            ["| same mood is closer | – not measured |  |"],
        ),
        (
            lambda t: t.assign(mood=t["mood"].where(t.index % 40 == 0, ""), genre="", energy=float("nan")),
            [
                "Moods are not measured: ",
                "overlap of moods; tracks whose neighbours have another mood. Needed: two moods with at least 8 tracks",
            ],
        ),
        (
            lambda t: t.head(40).assign(text="the same", description="the same"),
            [
                "there are 40, all with one vector",
                "✗ **broken**",
                "- **uniformity**:",
                "- **repeated descriptions**: 100 %, healthy is at most 1 %",
            ],
        ),
    ],
    ids=["three tracks", "one mood", "names only", "identical texts"],
)
def test_the_notebook_says_why_a_check_is_not_measured(tmp_path, small_run, change, messages):
    output = debug(tmp_path, small_run, change)
    for message in messages:
        assert message in output, output


def test_a_model_with_nan_is_refused(tmp_path, small_run):
    model = SentenceTransformer(str(small_run / "model"), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "nan"))
    with pytest.raises(WorkbookError, match="vectors of base are not finite numbers"):
        debug(tmp_path, small_run, lambda t: t.head(30), base_model=str(tmp_path / "nan"))
