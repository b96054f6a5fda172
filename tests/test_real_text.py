"""Scores on text that people wrote, after an eighth of the training of params/quick.yaml; none may get worse.

The benchmark in ../shared is not part of the product: without it these tests are skipped.
"""

import importlib.util

import pandas as pd
import pytest

from lib.core import base_models, encoder, measures, paths
from lib.finetune import evaluator, moods, pairs, training
from lib.tracks import listener_requests
from lib.tracks import synthetic as catalogue
from lib.workbook import parameters

CLIPS = 300  # of MusicCaps; CPCD is complete, since fewer tracks would change the task


@pytest.fixture(scope="module")
def scores(shared, tmp_path_factory) -> dict[str, float]:
    """The benchmark's four scores of an encoder with an eighth of the training pairs of `make run`."""
    spec = importlib.util.spec_from_file_location("yardstick", shared / "yardstick" / "real_retrieval.py")
    yardstick = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yardstick)
    clips = pd.read_csv(shared / "data" / "musiccaps-dev.csv").sample(CLIPS, random_state=0).reset_index(drop=True)

    model = tuned(tmp_path_factory.mktemp("checkpoints"))

    def encode(texts):
        return encoder.embed(model, texts)

    results = yardstick.evaluate(encode, clips)
    return {
        "caption to tags": results["caption_to_tags"]["mrr"],
        "tags to caption": results["tags_to_caption"]["mrr"],
        "mood": results["mood"]["map"],
        "requests": yardstick.requests_task(encode, shared / "data" / "cpcd-dev")["ndcg@10"],
    }


def tuned(folder):
    """Train the encoder of params/quick.yaml on an eighth of the pairs."""
    values = parameters.read(paths.ROOT / "params" / "quick.yaml", [])
    tracks = catalogue.generate(values["n_tracks"], values["seed"])
    requests = listener_requests.generate(tracks, values["n_requests"], values["seed"])
    settings = {name: values[name] for name in ("request_share", "mood_share", "artist_share", "batch_size", "seed")}
    table = pairs.make_pairs(tracks, requests, values["n_pairs"] // 8, **settings)
    recipe = training.Recipe(**{name: values[name] for name in training.Recipe._fields})
    model = encoder.load(base_models.find(values["base_model"]), values["max_length"])
    dev = evaluator.RequestEvaluator(*measures.held_out(tracks, requests, "dev"), most=200)
    training.train(model, table, dev, recipe, folder)
    moods.refine(model, tracks["description"].tolist(), values["mood_steps"] // 8, values["seed"])
    return model


# The base scores 0.737, 0.648, 0.171 and 0.073.
@pytest.mark.parametrize(
    ("task", "least"),
    [("caption to tags", 0.92), ("tags to caption", 0.70), ("mood", 0.175), ("requests", 0.09)],
)
def test_no_score_on_real_text_gets_worse(scores, task, least):
    assert scores[task] >= least
