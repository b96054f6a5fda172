"""Made-up spaces and tracks for the tests of the debugger."""

import numpy as np
import pandas as pd

from lib.debug import scorecard

N, D = 600, 32


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def healthy_space(rng: np.random.Generator) -> np.ndarray:
    """Make six moods that are far apart and use all dimensions."""
    return unit(rng.normal(size=(N, D)) + 5 * np.eye(6, D)[np.arange(N) % 6])


def tracks_of_six_moods() -> pd.DataFrame:
    """Make tracks for `healthy_space`, each with a description of its own."""
    words = ["slow piano", "fast drums", "warm strings", "loud guitars", "quiet choir", "bright synths"]
    table = pd.DataFrame({"id": [f"t{i}" for i in range(N)], "artist": "A", "genre": "pop", "energy": 0.5})
    table["title"] = [f"Song {i}" for i in range(N)]
    table["mood"] = [f"mood{i % 6}" for i in range(N)]
    table["description"] = [f"{words[i % 6]} number {i} in key {i * 7} with voice {i * 13}" for i in range(N)]
    return table.assign(text=table["title"] + ". " + table["description"])


def verdicts(results: dict) -> dict[str, str]:
    """Judge results. -> name of each check -> its verdict."""
    card = scorecard.judge(results)
    return dict(zip(card["check"], card["verdict"], strict=True))
