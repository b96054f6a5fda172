"""What the recommender's constants rest on: the weights of likes and dislikes, diversity, and what explain costs.

python benchmarks/search.py [run]        (a run's folder, outputs/quick if none is given; two minutes)

Constants are chosen on the split dev and reported on test, with paired 95 % bootstrap intervals over requests. The
catalogue is made up and a track's grade follows from its mood and genre: the judgements know no taste beside these.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from lib.core.encoder import contributions, embed
from lib.core.errors import WorkbookError
from lib.core.measures import MAIN, Encoded, held_out, rank_by_similarity, score_ranking
from lib.core.paths import resolve
from lib.core.runs import need
from lib.performance.evaluation import interval
from lib.search.index import COLUMNS, Index
from lib.search.recommender import DISLIKED, DIVERSITY, LIKED, Recommender, open_run
from lib.serve import contract

PAGE = 10  # tracks that the listener sees at once
RELEVANT = 2  # grades from here on
ENOUGH = 2 * PAGE  # relevant tracks: a first page and a second one could be full of them
LIKES = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)
DISLIKES = (0, 0.15, 0.3, 0.5, 0.75)
TURNS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NEUTRAL = "music"  # a request that asks for nothing
PLAIN, PRESENT = "the request alone", f"present: {LIKED}, {DISLIKED}"
DIVERSITIES = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
COST = 0.01  # of nDCG@10, that diversity may take
SERVED = 400  # texts asked of the whole catalogue
COUNTS = (1, 5, 10)
PAIRS = 30  # answers without and with an explanation, for each count


class Split(NamedTuple):
    """A split's tracks and requests, and their vectors.

    A request is judged on the tracks of its own split alone, so these are the collection that is searched: any other
    track that fits would count as a wrong answer, and those of train the encoder has seen.
    """

    tracks: pd.DataFrame
    requests: pd.DataFrame
    vectors: Encoded


class Feedback(NamedTuple):
    """Requests of which a page was seen, and tracks of it liked and disliked.

    Attributes:
        split: the requests, judged on the tracks that were not seen (the residual collection, Salton and Buckley 1990).
        seen: the ids of each request's page.
        liked: the vector of each request's liked track, or the mean of several, (requests, d).
        disliked: the same of the disliked.
        good: whether more than half of the page was relevant, (requests,).
    """

    split: Split
    seen: dict[str, list[str]]
    liked: np.ndarray
    disliked: np.ndarray
    good: np.ndarray


Move = Callable[[Feedback], np.ndarray]  # the vectors to search with after the feedback, (requests, d)


def open_split(songs: Recommender, run: Path, name: str) -> Split:
    """The split dev or test of a run. A text is asked once: one that was drawn twice says nothing new of a setting."""
    tables = (pd.read_parquet(run / file) for file in ("tracks.parquet", "requests.parquet"))
    tracks, requests = held_out(*tables, name)
    requests = requests.drop_duplicates("text", ignore_index=True)
    rows = songs.rows(tracks["id"])
    return Split(tracks, requests, Encoded(songs.vectors[rows], embed(songs.model, requests["text"])))


def listen(split: Split, every: bool = False) -> Feedback:
    """A listener sees each request's first page, likes its best relevant track and dislikes its first irrelevant one.

    The best is the one of the highest grade, and of these the first. Requests without `ENOUGH` relevant tracks, and
    those whose page holds no relevant or no irrelevant track, are left out.

    Args:
        every: each relevant track of the page is liked, and each other one disliked.
    """
    ranking = rank_by_similarity(split.vectors, split.tracks, split.requests)
    kept, seen, liked, disliked, good, left = [], {}, [], [], [], []
    for request in split.requests.itertuples():
        page = list(ranking[request.request_id])[:PAGE]
        grade = dict.fromkeys(page, 0) | dict(zip(request.track_ids, request.grades, strict=True))
        right = sorted((track for track in page if grade[track] >= RELEVANT), key=lambda track: -grade[track])
        wrong = [track for track in page if grade[track] < RELEVANT]
        if right and wrong and (request.grades >= RELEVANT).sum() >= ENOUGH:
            kept.append(request.Index)
            seen[request.request_id] = page
            liked.append(right if every else right[:1])
            disliked.append(wrong if every else wrong[:1])
            good.append(len(right) > len(wrong))
            left.append(~np.isin(request.track_ids, page))
    if not kept:
        sys.exit("error: no request has a first page to learn from: measure a run whose catalogue has moods")
    requests = split.requests.loc[kept].reset_index(drop=True)
    for column in ("track_ids", "grades"):
        requests[column] = [values[keep] for values, keep in zip(requests[column], left, strict=True)]
    tracks, asked = split.vectors
    row = pd.Index(split.tracks["id"]).get_indexer
    means = (np.stack([tracks[row(ids)].mean(axis=0) for ids in judged]) for judged in (liked, disliked))
    residual = Split(split.tracks, requests, Encoded(tracks, asked[kept]))
    return Feedback(residual, seen, *means, np.array(good))


def next_page(told: Feedback, move: Move) -> np.ndarray:
    """nDCG@10 of each request's next page. -> (requests,)"""
    tracks, requests, vectors = told.split
    ranking = rank_by_similarity(Encoded(vectors.tracks, move(told)), tracks, requests)
    for request, page in told.seen.items():
        for track in page:
            ranking[request].pop(track, None)
    return score_ranking(ranking, requests)[MAIN].to_numpy()


def rocchio(liked: float, disliked: float) -> Move:
    """As `Recommender.query` moves a request. Its length is left as it is: the order of the tracks is the same."""
    return lambda told: told.split.vectors.requests + liked * told.liked - disliked * told.disliked


def turned(part: float) -> Move:
    """The request turned by a part of its angle to the liked track (spherical interpolation)."""

    def move(told: Feedback) -> np.ndarray:
        asked = told.split.vectors.requests
        angle = np.arccos(np.clip((asked * told.liked).sum(axis=1, keepdims=True), -1, 1))
        return np.sin((1 - part) * angle) * asked + np.sin(part * angle) * told.liked

    return move


def without_text(neutral: np.ndarray, liked: float) -> Move:
    """More like this: the liked track and a request that asks for nothing."""
    return lambda told: neutral + liked * told.liked


def feedback(songs: Recommender, splits: dict[str, Split]) -> None:
    """Print what likes and dislikes are worth: the grid on dev, then what was chosen from it, on both splits."""
    print("\n1. Likes and dislikes: nDCG@10 of the ten that follow the ten seen, diversity 0\n")
    told = {(name, every): listen(split, every) for name, split in splits.items() for every in (False, True)}
    good = {name: told[name, False].good for name in splits}
    for name, split in splits.items():
        print(
            f"{name}: {len(split.requests)} texts; {len(good[name])} have {ENOUGH} relevant tracks and a first page "
            f"with a relevant and an irrelevant one; {good[name].sum()} of these pages are good (mostly relevant)."
        )
    pairs = [(liked, disliked) for liked in LIKES for disliked in DISLIKES]
    grid = {weights: next_page(told["dev", False], rocchio(*weights)) for weights in tqdm(pairs, "grid", leave=False)}
    print("\nOn dev, by the weight of the like (down) and of the dislike (across):\n")
    means = pd.Series({weights: found.mean() for weights, found in grid.items()})
    print(means.unstack().to_string(float_format="{:.3f}".format))
    moves = candidates(songs, told["dev", False], grid).items()
    found = {
        name: {key: next_page(heard, move) for key, heard in told.items()}
        for name, move in tqdm(moves, "moves", leave=False)
    }
    one, more = {}, {}
    for name, on in found.items():
        change = {key: on[key] - found[PRESENT][key] for key in told}
        one[name] = {
            "dev": f"{on['dev', False].mean():.3f}",
            "test": f"{on['test', False].mean():.3f}",
            "test - request alone": said(on["test", False] - found[PLAIN]["test", False]),
            "test - present": said(change["test", False]),
        }
        more[name] = {f"good, {split}": said(change[split, False][good[split]]) for split in splits}
        more[name] |= {f"all judged, {split}": said(change[split, True]) for split in splits}
    print("\nThe weights of the like and of the dislike, chosen on dev:\n")
    print(pd.DataFrame(one).T.to_string())
    print("\nThe same minus the present after good pages, and where all of a page was liked or disliked:\n")
    print(pd.DataFrame(more).T.to_string())


def candidates(songs: Recommender, dev: Feedback, grid: dict[tuple, np.ndarray]) -> dict[str, Move]:
    """What to report on test: the request alone, the present weights, and what is best on dev of each kind."""
    means = {weights: found.mean() for weights, found in grid.items()}
    best = max(means, key=means.get)
    liked, _ = max((weights for weights in means if weights[1] == 0), key=means.get)
    _, disliked = max((weights for weights in means if weights[0] == 0 and weights[1] > 0), key=means.get)
    turns = {part: next_page(dev, turned(part)).mean() for part in tqdm(TURNS, "turns", leave=False)}
    turn = max(turns, key=turns.get)
    return {
        PLAIN: rocchio(0, 0),
        PRESENT: rocchio(LIKED, DISLIKED),
        f"best on dev: {best[0]}, {best[1]}": rocchio(*best),
        f"present like alone: {LIKED}, 0": rocchio(LIKED, 0),
        f"best like alone: {liked}, 0": rocchio(liked, 0),
        f"best dislike alone: 0, {disliked}": rocchio(0, disliked),
        f"turned to the like by {turn}": turned(turn),
        f"“{NEUTRAL}” and the like: {LIKED}, 0": without_text(embed(songs.model, [NEUTRAL])[0], LIKED),
        "the like's own vector": lambda told: told.liked,
    }


class Pages(NamedTuple):
    """Of each request's first page: its ids, the most tracks of one artist, and the mean cosine of its pairs."""

    ids: list[list[str]]
    artist: np.ndarray
    alike: np.ndarray


def pages(songs: Recommender, queries: np.ndarray, value: float) -> Pages:
    """What `Recommender.search` answers with a diversity."""
    ids = [[track["id"] for track in songs.search(query, PAGE, diversity=value)] for query in queries]
    rows = [songs.rows(page) for page in ids]
    artists = [songs.artist[page] for page in rows]
    most = [np.bincount(artist[artist >= 0], minlength=1).max() for artist in artists]
    vectors = (songs.vectors[page] for page in rows)
    alike = [(page @ page.T)[np.triu_indices(len(page), 1)].mean() for page in vectors]
    return Pages(ids, np.array(most), np.array(alike))


def diversity(songs: Recommender, splits: dict[str, Split]) -> None:
    """Print what diversity costs and what it gives; nDCG@10 on the split's tracks, artists on the whole catalogue too.

    Any diversity costs relevance, which knows no listener's boredom. So what is chosen is the largest that costs at
    most `COST` on dev.
    """
    print("\n2. Diversity: ten answers to each text\n")
    part = {
        name: Recommender(songs.model, Index(s.vectors.tracks), s.tracks[COLUMNS], {}) for name, s in splits.items()
    }
    gained, rows = {name: {} for name in splits}, {}
    for value in tqdm(DIVERSITIES, "diversity", leave=False):
        row = rows[value] = {}
        for name, split in splits.items():
            held = pages(part[name], split.vectors.requests, value)
            gained[name][value] = gains(held, split)
            row[name] = f"{gained[name][value].mean():.3f}"
            row[f"{name} - 0"] = said(gained[name][value] - gained[name][0])
        whole = pages(songs, splits["test"].vectors.requests[:SERVED], value)
        row |= {"artist": most(held.artist), "cosine": f"{held.alike.mean():.3f}"}
        row |= {"artist (whole)": most(whole.artist), "cosine (whole)": f"{whole.alike.mean():.3f}"}
    cheap = [value for value, found in gained["dev"].items() if (gained["dev"][0] - found).mean() <= COST]
    print("artist: the most of ten by one artist, mean and max; cosine: the mean over pairs of ten; for test's texts")
    print(f"among test's tracks and, for {SERVED} of them, among the whole catalogue.\n")
    print(pd.DataFrame(rows).T.to_string())
    print(f"\nThe largest that costs at most {COST} on dev: {max(cheap)} (present: {DIVERSITY}).")


def gains(answer: Pages, split: Split) -> np.ndarray:
    """nDCG@10 of each request's page, in the order shown. -> (requests,)"""
    ranking = {
        request: {track: float(-place) for place, track in enumerate(page)}
        for request, page in zip(split.requests["request_id"], answer.ids, strict=True)
    }
    return score_ranking(ranking, split.requests)[MAIN].to_numpy()


def explain(run: Path) -> None:
    """Print the median milliseconds of an answer, without and with its explanation, in turns, each of its own text.

    One thread each for PyTorch and for BLAS, as a kernel that serves beside another has.
    """
    print("\n3. Explain: milliseconds of an answer in process, medians\n")
    torch.set_num_threads(1)
    songs = open_run(run)  # again: ONNX Runtime has the threads that were set when it was opened
    texts = iter(pd.read_parquet(run / "requests.parquet")["text"].drop_duplicates().sample(frac=1, random_state=0))
    spent = []
    with threadpool_limits(1, "blas"):
        for warm in (False, True):
            answer(songs, next(texts), PAGE, warm)
        for turn in tqdm(range(PAIRS), "pairs", leave=False):
            for count in COUNTS:
                both = {}
                for why in (False, True) if turn % 2 else (True, False):
                    both[why] = milliseconds(answer, songs, next(texts), count, why)[0]
                spent.append({"top_k": count, "plain": both[False], "explain": both[True]} | parts(songs, texts, count))
    table = pd.DataFrame(spent).groupby("top_k").median()
    table.insert(2, "ratio", table["explain"] / table["plain"])
    print(table.to_string(float_format="{:.1f}".format))


def parts(songs: Recommender, texts, count: int) -> dict[str, float]:
    """The milliseconds of an answer's steps, for one more text."""
    asked, query = milliseconds(songs.query, next(texts))
    searched, found = milliseconds(songs.search, query, count)
    ids = [track["id"] for track in found]
    told = songs.tracks["text"].iloc[songs.rows(ids)].tolist()
    whole, _ = milliseconds(songs.explain, query, ids)
    words, _ = milliseconds(contributions, songs.model, told, query)
    return {
        "of which: query": asked,
        "search": searched,
        "words": words,
        "moods": whole - words,
    }


def answer(songs: Recommender, text: str, count: int, why: bool) -> contract.Answer:
    """Answer a request as the service does."""
    return contract.recommend(songs, json.dumps({"body": {"text": text, "top_k": count, "explain": why}}))


def milliseconds(function: Callable, *args) -> tuple[float, object]:
    """How long a call takes, and what it gives."""
    started = time.perf_counter()
    result = function(*args)
    return 1000 * (time.perf_counter() - started), result


def said(difference: np.ndarray) -> str:
    """A mean difference with its interval."""
    found = interval(difference)
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def most(counts: np.ndarray) -> str:
    """The mean and the largest of counts."""
    return f"{counts.mean():.2f}, {counts.max()}"


def main() -> None:
    """All three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="the run to measure (default: %(default)s)")
    run = resolve(parser.parse_args().run)
    try:
        need(run, "tracks.parquet", "requests.parquet")
        songs = open_run(run)
    except WorkbookError as error:
        sys.exit(f"error: {error}")
    splits = {name: open_split(songs, run, name) for name in ("dev", "test")}
    feedback(songs, splits)
    diversity(songs, splits)
    explain(run)


if __name__ == "__main__":
    main()
