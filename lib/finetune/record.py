"""The record of a training: a run in MLflow's store, and the model card."""

import logging
import os
import time
from pathlib import Path

import pandas as pd

from lib.core.pages import render


def track(database: Path, name: str, params: dict, history: pd.DataFrame, figures: dict[str, float]) -> str:
    """Record a training in MLflow's SQLite store, such as outputs/mlflow.db. Return MLflow's id of it.

    `params` are the training's parameters, `figures` its results. Each column of `history`, from `train`, is a curve.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # the import takes seconds
    from mlflow.entities import Metric, Param

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs each table that it creates
    client = MlflowClient(f"sqlite:///{database}")
    existing = client.get_experiment_by_name("fine-tuning")
    experiment = existing.experiment_id if existing else client.create_experiment("fine-tuning", str(database.parent))
    run = client.create_run(experiment, run_name=name).info.run_id
    now = int(1000 * time.time())
    points = [(row.variable, row.value, int(row.step)) for row in history.melt("step").dropna().itertuples()]
    points += [(measure, value, 0) for measure, value in figures.items()]
    client.log_batch(
        run,
        metrics=[Metric(_valid(measure), value, now, step) for measure, value, step in points],
        params=[Param(_valid(key), str(value)) for key, value in params.items()],
    )
    client.set_terminated(run)
    return run


def model_card(used: dict, figures: dict[str, float]) -> str:
    """Return the tuned encoder's card: `used` names base_model, the recipe and the data's fingerprints."""
    return render("finetune/card.md", base=used["base_model"], used=used, figures=figures)


def _valid(name: str) -> str:
    """Return the name without characters that MLflow refuses."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
