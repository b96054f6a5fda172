"""Benchmarks of text that people wrote: MusicCaps, and the user's own file."""

import ast
import re
from functools import cache

import numpy as np
import pandas as pd
from huggingface_hub import hf_hub_download
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import MultiLabelBinarizer

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.core.paths import resolve
from lib.search.tradeoff import Similarity
from lib.tracks.moods import MOODS

HUB = "google/MusicCaps"  # Agostinelli et al. 2023, CC BY-SA 4.0
ROWS = 1000  # clips sampled, always the same
MOOD_WORDS = {word for mood in MOODS.values() for words in mood.words.values() for word in words if word.isalpha()}
FEWEST = 15  # clips that a mood needs


def musiccaps(source: str) -> pd.DataFrame | None:
    """Read up to `ROWS` clips of MusicCaps: captions and aspects of real recordings. -> caption, aspects (lists).

    Args:
        source: a CSV file with the columns caption and aspect_list; "hub" for the Hugging Face hub or its cache; or "".
            The result is None for "", and for a hub that cannot be reached.
    """
    if not source:
        return None
    try:
        path = hf_hub_download(HUB, "musiccaps-public.csv", repo_type="dataset") if source == "hub" else source
    except OSError:
        return None
    table = _read("musiccaps", path, "caption", "aspect_list")
    table = table.sample(min(ROWS, len(table)), random_state=0).reset_index(drop=True)
    return pd.DataFrame({"caption": table["caption"], "aspects": table["aspect_list"].map(ast.literal_eval)})


def score_musiccaps(similarity: Similarity, clips: pd.DataFrame) -> dict[str, float]:
    """Score three tasks on MusicCaps.

    The same person wrote a clip's caption and aspects, so the first two tasks mostly test that training forgot nothing.

    Args:
        similarity: `baselines.word_scores`, or `cosine(model)`.

    Returns:
        caption → tags and tags → caption: MRR of a clip's aspects for its caption, and of its caption for its first
        three aspects. mood: mean average precision of "… music" for the clips whose aspects name the mood; the texts
        of the clips leave out all words for moods. No mood where fewer than `FEWEST` clips name each.
    """
    captions, tags = clips["caption"].tolist(), clips["aspects"].str.join(", ").tolist()
    three = clips["aspects"].str[:3].str.join(", ").tolist()
    results = {
        "caption → tags": _mrr(similarity(captions, tags)),
        "tags → caption": _mrr(similarity(three, captions)),
    }
    silent = clips["aspects"].map(lambda tags: ", ".join(t for t in tags if not _moods_in(t)) or "music")
    named = MultiLabelBinarizer()
    relevant = named.fit_transform(clips["aspects"].map(lambda tags: set().union(*map(_moods_in, tags))))
    enough = relevant.sum(axis=0) >= FEWEST
    if enough.any():
        scores = similarity([f"{mood} music" for mood in named.classes_[enough]], silent.tolist())
        results["mood"] = round(float(average_precision_score(relevant[:, enough], scores.T)), 4)
    return results


def cosine(model) -> Similarity:
    """Return an encoder's cosine similarity for `score_musiccaps`."""
    encode = cache(lambda texts: embed(model, texts))  # captions are queries once and documents once
    return lambda queries, documents: encode(tuple(queries)) @ encode(tuple(documents)).T


def own(path: str, tracks: pd.DataFrame) -> pd.DataFrame:
    """Read the user's benchmark as requests: a CSV with the columns query and track_ids (apart by spaces, "," or ";").

    Raises:
        WorkbookError: the file or a column is missing; a line has no query, no ids, or ids outside the catalogue.
    """
    table = _read("benchmark", path, "query", "track_ids", dtype=str, keep_default_na=False)
    ids = table["track_ids"].map(lambda text: [t for t in re.split(r"[\s,;]+", text) if t])
    known_ids = set(tracks["id"])
    for line, (query, targets) in enumerate(zip(table["query"], ids, strict=True), start=2):
        where = f"benchmark: {resolve(path).name}, line {line}"
        if not query.strip() or not targets:
            raise WorkbookError(f"{where}: an empty query or no track ids. Fill in both, or delete the line.")
        if unknown := [track for track in targets if track not in known_ids]:
            raise WorkbookError(f"{where}: the catalogue has no track {', '.join(unknown[:5])}. Use ids of tracks.csv.")
    requests = pd.DataFrame({"text": table["query"], "track_ids": ids, "grades": [[3] * len(i) for i in ids]})
    return requests.assign(request_id=[f"b{i:06d}" for i in range(len(requests))])


def _read(parameter: str, path: str, *columns: str, **options) -> pd.DataFrame:
    """Read a CSV file that the user named. WorkbookError: the file or one of the columns is missing."""
    file = resolve(path)
    if not file.is_file():
        raise WorkbookError(f"{parameter}: there is no file {file}. Name a CSV file.")
    table = pd.read_csv(file, **options)
    if missing := " or ".join(column for column in columns if column not in table):
        raise WorkbookError(f"{parameter}: {file.name} has no column {missing}; it has {', '.join(table)}.")
    return table


def _moods_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower())) & MOOD_WORDS


def _mrr(scores: np.ndarray) -> float:
    """Return the mean reciprocal rank of document i for query i; ties count against it. (queries, documents)."""
    rank = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    return round(float((1 / rank).mean()), 4)
