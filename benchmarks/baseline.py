"""A plain server to compare with: FastAPI, PyTorch, and a sort over every track. Most first servers look like this.

RUN=outputs/quick uvicorn --app-dir benchmarks baseline:app
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

run = Path(os.environ["RUN"])
model = SentenceTransformer(str(run / "model"), device="cpu")
vectors = np.load(run / "index" / "vectors.npy")
tracks = pd.read_parquet(run / "tracks.parquet")[["id", "title", "artist", "mood"]].to_dict("records")
app = FastAPI()


class RecommendRequest(BaseModel):
    """A listener's request."""

    text: str
    top_k: int = 5


@app.post("/recommend")
def recommend(request: RecommendRequest) -> dict:
    """Return the nearest tracks."""
    scores = vectors @ model.encode(request.text, normalize_embeddings=True, show_progress_bar=False)
    best = np.argsort(-scores)[: request.top_k]
    return {"tracks": [tracks[i] | {"score": float(scores[i])} for i in best]}
