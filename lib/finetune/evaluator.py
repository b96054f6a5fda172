"""evaluator."""

from __future__ import annotations

import pandas as pd
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from lib.core.encoder import encode
from lib.core.measures import MAIN, rank_by_similarity, score_ranking


class RequestEvaluator(SentenceEvaluator):
    """sentence-transformers' evaluator for training: `MEASURES` on graded requests; `MAIN` is the primary metric."""

    def __init__(self, tracks: pd.DataFrame, requests: pd.DataFrame, most: int = 2000):
        """Requests of which none of the first `most` tracks is relevant are left out."""
        super().__init__()
        self.tracks = tracks.head(most)
        kept = set(self.tracks["id"])
        self.requests = requests[[bool(kept & set(ids)) for ids in requests["track_ids"]]].head(most)
        self.primary_metric = MAIN

    def __call__(self, model, output_path=None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        encoded = encode(model, self.tracks, self.requests)
        scores = score_ranking(rank_by_similarity(encoded, self.tracks, self.requests), self.requests)
        return {measure: float(scores[measure].mean()) for measure in scores}
