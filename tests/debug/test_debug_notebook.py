"""Notebook 04 on catalogues that it cannot examine fully."""

import pandas as pd
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from sentence_transformers import SentenceTransformer

from lib.core import paths
from lib.search import indexing


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all tests here: it spends most of its time on imports."""
    manager = KernelManager()
    manager.start_kernel(cwd=paths.NOTEBOOKS)
    yield manager
    manager.shutdown_kernel(now=True)


def debug(kernel, tmp_path, small_run, change, **parameters) -> str:
    """Run notebook 04 on changed tracks of the small run, and return all that it prints."""
    run = tmp_path / "run"
    run.mkdir()
    table = change(pd.read_parquet(small_run / "tracks.parquet")).reset_index(drop=True)
    table.to_parquet(run / "tracks.parquet")
    (run / "requests.parquet").symlink_to(small_run / "requests.parquet")
    (run / "model").symlink_to(small_run / "model")
    indexing.build_index(run, table)
    notebook = load_notebook_node(str(paths.NOTEBOOKS / "04_embedding_debug.ipynb"))
    notebook = parameterize_notebook(notebook, {"run_dir": str(run), "debug_tracks": 60} | parameters)
    executed = NotebookClient(notebook, km=kernel).execute()
    outputs = [o for cell in executed.cells for o in cell.get("outputs", [])]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in outputs)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda t: t.head(3), ["A map needs at least 21 tracks; there are 3."]),
        (
            lambda t: t[t["mood"] == "calm"].head(40).assign(mood="calm"),
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
def test_the_notebook_says_why_a_check_is_not_measured(kernel, tmp_path, small_run, change, messages):
    output = debug(kernel, tmp_path, small_run, change)
    for message in messages:
        assert message in output, output


def test_a_model_with_nan_is_refused(kernel, tmp_path, small_run):
    model = SentenceTransformer(str(small_run / "model"), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "nan"))
    with pytest.raises(CellExecutionError, match="vectors of base are not finite numbers"):
        debug(kernel, tmp_path, small_run, lambda t: t.head(30), base_model=str(tmp_path / "nan"))
