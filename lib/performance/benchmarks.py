"""Benchmarks that no generator of ours wrote: MusicCaps, and a file of the user's own."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from sklearn.metrics import average_precision_score

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.core.paths import resolve
from lib.tracks.moods import MOODS

HUB = "google/MusicCaps"  # Agostinelli et al. 2023, CC BY-SA 4.0
ROWS = 1000  # clips sampled, the same ones each time
# The moods asked for: our words for them, those of one word, as far as enough clips name them.
MOOD_WORDS = frozenset(
    word for mood in MOODS.values() for words in mood.words.values() for word in words if word.isalpha()
)
FEWEST = 15  # clips that a mood needs


def musiccaps(source: str) -> pd.DataFrame | None:
    """MusicCaps: captions and aspect lists that people wrote of real clips. -> columns caption, aspects (lists).

    Args:
        source: a CSV file with the columns caption and aspect_list, or "hub" for the Hugging Face hub and its cache.

    Returns:
        At most `ROWS` clips; None where the hub does not have it at hand, or source is "".
    """
    if not source:
        return None
    if source != "hub" and not resolve(source).is_file():
        raise WorkbookError(f"musiccaps: there is no file {resolve(source)}.")
    try:
        path = hf_hub_download(HUB, "musiccaps-public.csv", repo_type="dataset") if source == "hub" else resolve(source)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    table = pd.read_csv(path)
    if missing := {"caption", "aspect_list"} - set(table):
        raise WorkbookError(f"musiccaps: {source} has no column {' or '.join(sorted(missing))}.")
    table = table.sample(min(ROWS, len(table)), random_state=0).reset_index(drop=True)
    return pd.DataFrame({"caption": table["caption"], "aspects": table["aspect_list"].map(ast.literal_eval)})


def score_musiccaps(similarity: Callable[[list[str], list[str]], np.ndarray], clips: pd.DataFrame) -> dict[str, float]:
    """Three tasks on MusicCaps; one person wrote both sides, so the first two mostly ask that nothing was forgotten.

    Args:
        similarity: of queries and documents, (queries, documents): `evaluation.word_scores`, or `cosine(model)`.

    Returns:
        caption → tags and tags → caption: MRR of a clip's aspects among all clips' by its caption, and of its caption
        by its first three aspects; mood: mean average precision of "… music" against the clips whose aspects name the
        mood, each clip shown without any word for a mood.
    """
    captions, tags = clips["caption"].tolist(), clips["aspects"].str.join(", ").tolist()
    three = clips["aspects"].str[:3].str.join(", ").tolist()
    silent = clips["aspects"].map(lambda tags: ", ".join(t for t in tags if not _moods_in(t)) or "music")
    named = clips["aspects"].map(lambda tags: set().union(*map(_moods_in, tags)))
    relevant = {mood: named.map(lambda moods, mood=mood: mood in moods).to_numpy() for mood in sorted(MOOD_WORDS)}
    relevant = {mood: clip for mood, clip in relevant.items() if clip.sum() >= FEWEST}
    scores = similarity([f"{mood} music" for mood in relevant], silent.tolist()) if relevant else []
    found = [average_precision_score(clip, row) for clip, row in zip(relevant.values(), scores, strict=True)]
    return {
        "caption → tags": _mrr(similarity(captions, tags)),
        "tags → caption": _mrr(similarity(three, captions)),
        **({"mood": round(float(np.mean(found)), 4)} if found else {}),
    }


def cosine(model) -> Callable[[list[str], list[str]], np.ndarray]:
    """An encoder's cosine similarity, as `score_musiccaps` takes it."""
    encoded = cache(lambda texts: embed(model, texts))  # captions are asked once and answer once
    return lambda queries, documents: encoded(tuple(queries)) @ encoded(tuple(documents)).T


def own(path: str, tracks: pd.DataFrame) -> pd.DataFrame:
    """The user's benchmark as requests: a CSV with the columns query and track_ids, ids apart by spaces, "," or ";".

    Raises:
        WorkbookError: no such file; a column is missing; ids that the catalogue does not have, with their line.
    """
    file = Path(resolve(path))
    if not file.is_file():
        raise WorkbookError(f"benchmark: there is no file {file}.")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if missing := {"query", "track_ids"} - set(table):
        raise WorkbookError(
            f"benchmark: {file.name} has no column {' or '.join(sorted(missing))}; it has {', '.join(table)}."
        )
    ids = table["track_ids"].map(lambda text: [t for t in re.split(r"[\s,;]+", text) if t])
    known = set(tracks["id"])
    for line, (query, wanted) in enumerate(zip(table["query"], ids, strict=True), start=2):
        if not query.strip() or not wanted:
            raise WorkbookError(f"benchmark: {file.name}, line {line}: an empty query or no track ids.")
        if unknown := [t for t in wanted if t not in known]:
            raise WorkbookError(
                f"benchmark: {file.name}, line {line}: the catalogue has no track {', '.join(unknown[:5])}."
            )
    return pd.DataFrame(
        {
            "request_id": [f"b{i:06d}" for i in range(len(table))],
            "text": table["query"],
            "track_ids": ids,
            "grades": ids.map(lambda wanted: [3] * len(wanted)),
        }
    )


def _moods_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower())) & MOOD_WORDS


def _mrr(scores: np.ndarray) -> float:
    """Mean reciprocal rank where document i answers query i; ties count against it. scores: (queries, documents)."""
    rank = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    return round(float((1 / rank).mean()), 4)
