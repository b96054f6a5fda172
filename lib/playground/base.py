"""The base encoder on a run's tracks, to compare the tuned encoder with."""

from pathlib import Path

import pandas as pd

from lib.core.base_models import find
from lib.core.errors import WorkbookError
from lib.core.files import point, read_json
from lib.search.indexing import build_index
from lib.search.recommender import Recommender, open_run


def base_of(run: Path) -> str:
    """Return the name of the encoder that a run was tuned from; MiniLM if the run has no run.json."""
    record = run / "run.json"
    return read_json(record)["parameters"]["base_model"] if record.exists() else "all-MiniLM-L6-v2"


def untuned(folder: Path, base_model: str, tracks: pd.DataFrame) -> Recommender:
    """Return a recommender with the base encoder. Embed the tracks only if `folder` has no index of them yet.

    Raises:
        WorkbookError: the base encoder was not found, or the folder cannot be written.
    """
    model = find(base_model)
    if not (folder / "model").exists() or not (folder / "model").samefile(model):  # a container's is read-only
        folder.mkdir(exist_ok=True)
        point(folder / "model", model)
    try:
        recommender = open_run(folder)
        if recommender.tracks.equals(tracks):
            return recommender
    except WorkbookError:
        pass  # the folder has no index yet, or another encoder's
    build_index(folder, tracks, progress=True)
    return open_run(folder)
