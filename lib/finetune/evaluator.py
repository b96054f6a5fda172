"""The dev metric of a training: an evaluator for the trainer of sentence-transformers."""

import pandas as pd
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from lib.core.encoder import encode
from lib.core.measures import MAIN, rank_by_similarity, score_ranking


class RequestEvaluator(SentenceEvaluator):
    """The means of `measures.MEASURES` over graded requests; `MAIN` is the primary metric."""

    def __init__(self, tracks: pd.DataFrame, requests: pd.DataFrame, most: int = 2000):
        """Keep the first `most` tracks, and the first `most` requests that have a relevant track among them."""
        super().__init__()
        self.tracks = tracks.head(most)
        ids = set(self.tracks["id"])
        self.requests = requests[[bool(ids & set(relevant)) for relevant in requests["track_ids"]]].head(most)
        self.primary_metric = MAIN

    def __call__(self, model, output_path=None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        encoded = encode(model, self.tracks, self.requests)
        scores = score_ranking(rank_by_similarity(encoded, self.tracks, self.requests), self.requests)
        return {measure: float(scores[measure].mean()) for measure in scores}
