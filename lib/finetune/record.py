"""What is written down of a training: a record in MLflow's store, and the model card."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pandas as pd


def track(database: Path, name: str, params: dict, history: pd.DataFrame, figures: dict[str, float]) -> str:
    """Record a training in MLflow's SQLite store, to compare with others in `mlflow ui`. -> the run's id there.

    Args:
        database: the store, such as outputs/mlflow.db; made where it is missing.
        params: what it was trained with.
        history: from `train`; each of its columns becomes a curve.
        figures: what came of it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # here, since it takes seconds
    from mlflow.entities import Metric, Param

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of each table that it makes
    client = MlflowClient(f"sqlite:///{database}")
    found = client.get_experiment_by_name("fine-tuning")
    experiment = found.experiment_id if found else client.create_experiment("fine-tuning", str(database.parent))
    run = client.create_run(experiment, run_name=name).info.run_id
    now = int(1000 * time.time())
    curves = history.melt("step").dropna()
    client.log_batch(
        run,
        metrics=[Metric(_plain(r.variable), r.value, now, int(r.step)) for r in curves.itertuples()]
        + [Metric(_plain(name), value, now, 0) for name, value in figures.items()],
        params=[Param(_plain(key), str(value)) for key, value in params.items()],
    )
    client.set_terminated(run)
    return run


def model_card(used: dict, data: dict[str, str], figures: dict[str, float]) -> str:
    """The tuned encoder's card: what it came from, the recipe, the data's fingerprints, the figures and the limits."""
    base = used["base_model"]
    table = "\n".join(f"| {name} | {value} |" for name, value in (used | data).items())
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
---

# {base}, tuned for moods in music

Encodes a listener's request or a track's description as a unit vector; their dot product is the match.

| what | value |
| --- | --- |
{table}

**Figures**, on dev requests in words for moods and templates that training never saw:

| metric | value |
| --- | --- |
{measured}

These chose up to which checkpoint to average, so they flatter it. What it gains on test requests, and loses elsewhere,
is in the run's `metrics.json`: read that before you rely on it.

**Limits.** Trained on text that a program wrote, in English. It knows moods and genres by how they are described, not
by their sound; of artists it knows what the base knew and those that lib/moods.yaml names.
"""


def _plain(name: str) -> str:
    """A name that MLflow takes: letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
