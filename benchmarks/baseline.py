"""The server to beat, in the shape most first ones have: FastAPI, PyTorch, every track scored and sorted.

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


class Asked(BaseModel):
    """The seed's request."""

    text: str
    top_k: int = 5


@app.post("/recommend")
def recommend(asked: Asked) -> dict:
    """The seed's answer."""
    scores = vectors @ model.encode(asked.text, normalize_embeddings=True, show_progress_bar=False)
    best = np.argsort(-scores)[: asked.top_k]
    return {"tracks": [tracks[i] | {"score": float(scores[i])} for i in best]}
