"""Measure the recommender's constants: the weights of likes and dislikes, diversity, and the cost of an explanation.

python benchmarks/search.py [run]        (default: outputs/quick; two minutes)

Constants are chosen on the split dev and reported on test, with paired 95 % bootstrap intervals over requests. The
catalogue is synthetic, and a track's grade follows from its mood and genre: the judgements know no other taste.
"""

import argparse
import json
import sys
import tempfile
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
from lib.performance import typed_requests
from lib.performance.evaluation import interval
from lib.search.fusion import Query, open_fusion
from lib.search.index import Index
from lib.search.names.mentions import write_names
from lib.search.recommender import DISLIKED, DIVERSITY, LIKED, Recommender, open_run
from lib.search.words import write_words
from lib.serve import contract

PAGE = 10  # tracks on one page
RELEVANT = 2  # lowest grade of a relevant track
ENOUGH = 2 * PAGE  # relevant tracks, enough to fill two pages
LIKES = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)
DISLIKES = (0, 0.15, 0.3, 0.5, 0.75)
TURNS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NEUTRAL = "music"  # a request without a wish
PLAIN, PRESENT = "the request alone", f"present: {LIKED}, {DISLIKED}"
DIVERSITIES = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
COST = 0.01  # of nDCG@10, the most that diversity may cost
SERVED = 400  # texts searched in the whole catalogue
COUNTS = (1, 5, 10)
ROUNDS = 4  # of all typed requests; the first is not counted
PAIRS = 30  # pairs of answers, with and without an explanation, for each count


class Split(NamedTuple):
    """A split's tracks and requests, and their vectors.

    Grades cover only the tracks of a request's own split, so a search covers these tracks only. A fitting track of
    another split would count as an error, and the encoder was trained on those of train.
    """

    tracks: pd.DataFrame
    requests: pd.DataFrame
    vectors: Encoded


class Feedback(NamedTuple):
    """Requests after one page, with liked and disliked tracks of that page.

    Attributes:
        split: the requests, judged on the other tracks (the residual collection, Salton and Buckley 1990).
        seen: the ids of each request's page.
        liked: the vector of each request's liked track, or the mean of several, (requests, d).
        disliked: the same for disliked tracks.
        good: True if more than half of the page is relevant, (requests,).
    """

    split: Split
    seen: dict[str, list[str]]
    liked: np.ndarray
    disliked: np.ndarray
    good: np.ndarray


Move = Callable[[Feedback], np.ndarray]  # returns the queries' vectors after the feedback, (requests, d)


def open_split(songs: Recommender, run: Path, name: str) -> Split:
    """Open the split dev or test of a run. Repeated texts are dropped: they add no evidence."""
    tables = (pd.read_parquet(run / file) for file in ("tracks.parquet", "requests.parquet"))
    tracks, requests = held_out(*tables, name)
    requests = requests.drop_duplicates("text", ignore_index=True)
    rows = songs.rows(tracks["id"])
    return Split(tracks, requests, Encoded(songs.vectors[rows], embed(songs.model, requests["text"])))


def listen(split: Split, every: bool = False) -> Feedback:
    """Simulate a listener who likes the best relevant track of the first page and dislikes its first irrelevant one.

    The best track is the first of the highest grade. Requests without `ENOUGH` relevant tracks are left out, and so
    are those without a relevant or without an irrelevant track on their page.

    Args:
        every: like every relevant track of the page, and dislike every other.
    """
    ranking = rank_by_similarity(split.vectors, split.tracks, split.requests)
    kept, seen, liked, disliked, good, rest = [], {}, [], [], [], []
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
            rest.append(~np.isin(request.track_ids, page))
    if not kept:
        sys.exit("error: no request has a first page to learn from: measure a run whose catalogue has moods")
    requests = split.requests.loc[kept].reset_index(drop=True)
    for column in ("track_ids", "grades"):
        requests[column] = [values[keep] for values, keep in zip(requests[column], rest, strict=True)]
    tracks, queries = split.vectors
    row = pd.Index(split.tracks["id"]).get_indexer
    means = (np.stack([tracks[row(ids)].mean(axis=0) for ids in judged]) for judged in (liked, disliked))
    residual = Split(split.tracks, requests, Encoded(tracks, queries[kept]))
    return Feedback(residual, seen, *means, np.array(good))


def next_page(feedback: Feedback, move: Move) -> np.ndarray:
    """Score each request's next page. -> nDCG@10, (requests,)."""
    tracks, requests, vectors = feedback.split
    ranking = rank_by_similarity(Encoded(vectors.tracks, move(feedback)), tracks, requests)
    for request, page in feedback.seen.items():
        for track in page:
            ranking[request].pop(track, None)
    return score_ranking(ranking, requests)[MAIN].to_numpy()


def rocchio(liked: float, disliked: float) -> Move:
    """Move a query as `Recommender.query` does. Its length stays: it does not change the order of the tracks."""
    return lambda judged: judged.split.vectors.requests + liked * judged.liked - disliked * judged.disliked


def turned(part: float) -> Move:
    """Turn the query by a part of its angle to the liked track (spherical interpolation)."""

    def move(feedback: Feedback) -> np.ndarray:
        queries = feedback.split.vectors.requests
        angle = np.arccos(np.clip((queries * feedback.liked).sum(axis=1, keepdims=True), -1, 1))
        return np.sin((1 - part) * angle) * queries + np.sin(part * angle) * feedback.liked

    return move


def without_text(neutral: np.ndarray, liked: float) -> Move:
    """Add the liked track to a neutral query, as the button "more like this" does."""
    return lambda feedback: neutral + liked * feedback.liked


def measure_likes(songs: Recommender, splits: dict[str, Split]) -> None:
    """Print the value of likes and dislikes: the grid on dev, then the best settings of it on both splits."""
    print("\n1. Likes and dislikes: nDCG@10 of the ten tracks after the first ten, by meaning alone, diversity 0\n")
    heard = {(name, every): listen(split, every) for name, split in splits.items() for every in (False, True)}
    good = {name: heard[name, False].good for name in splits}
    for name, split in splits.items():
        print(
            f"{name}: {len(split.requests)} texts; {len(good[name])} have {ENOUGH} relevant tracks and a first page "
            f"with a relevant and an irrelevant one; {good[name].sum()} of these pages are good (mostly relevant)."
        )
    pairs = [(liked, disliked) for liked in LIKES for disliked in DISLIKES]
    grid = {weights: next_page(heard["dev", False], rocchio(*weights)) for weights in tqdm(pairs, "grid", leave=False)}
    print("\nOn dev, by the weight of the like (down) and of the dislike (across):\n")
    means = pd.Series({weights: scores.mean() for weights, scores in grid.items()})
    print(means.unstack().to_string(float_format="{:.3f}".format))
    moves = candidates(songs, heard["dev", False], grid).items()
    scores = {
        name: {key: next_page(judged, move) for key, judged in heard.items()}
        for name, move in tqdm(moves, "moves", leave=False)
    }
    one, more = {}, {}
    for name, on in scores.items():
        change = {key: on[key] - scores[PRESENT][key] for key in heard}
        one[name] = {
            "dev": f"{on['dev', False].mean():.3f}",
            "test": f"{on['test', False].mean():.3f}",
            "test - request alone": difference(on["test", False] - scores[PLAIN]["test", False]),
            "test - present": difference(change["test", False]),
        }
        more[name] = {f"good, {split}": difference(change[split, False][good[split]]) for split in splits}
        more[name] |= {f"all judged, {split}": difference(change[split, True]) for split in splits}
    print("\nThe weights of the like and of the dislike, chosen on dev:\n")
    print(pd.DataFrame(one).T.to_string())
    print("\nThe same minus the present weights: after good pages, and with the whole page liked or disliked:\n")
    print(pd.DataFrame(more).T.to_string())


def candidates(songs: Recommender, dev: Feedback, grid: dict[tuple, np.ndarray]) -> dict[str, Move]:
    """Return the moves to report on test: the request alone, the present weights, and the best on dev of each kind."""
    means = {weights: scores.mean() for weights, scores in grid.items()}
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
        "the like's own vector": lambda feedback: feedback.liked,
    }


class Pages(NamedTuple):
    """For each request's first page: its ids, the most tracks of one artist, and the mean cosine of its pairs."""

    ids: list[list[str]]
    artist: np.ndarray
    similarity: np.ndarray


def restricted(songs: Recommender, split: Split, folder: Path) -> Recommender:
    """Return a recommender of a split's tracks alone. Its words and names are written to a new folder."""
    folder.mkdir()
    write_words(folder, split.tracks["text"])
    write_names(folder, split.tracks)
    tracks = songs.tracks.iloc[songs.rows(split.tracks["id"])].reset_index(drop=True)
    return Recommender(songs.model, open_fusion(folder, Index(split.vectors.tracks), tracks), tracks, {})


def read(songs: Recommender, texts) -> list[Query]:
    """Read and encode requests."""
    readings = [songs.read(text) for text in texts]
    wordings = list({text for reading in readings for text in reading.texts})
    vectors = dict(zip(wordings, embed(songs.model, wordings), strict=True))
    return [songs.query(reading, vectors=vectors) for reading in readings]


def pages(songs: Recommender, queries: list[Query], value: float) -> Pages:
    """Search with a diversity."""
    ids = [[track["id"] for track in songs.search(query, PAGE, diversity=value)] for query in queries]
    rows = [songs.rows(page) for page in ids]
    artists = [songs.artist[page] for page in rows]
    most = [np.bincount(artist[artist >= 0], minlength=1).max() for artist in artists]
    vectors = (songs.vectors[page] for page in rows)
    similarity = [(page @ page.T)[np.triu_indices(len(page), 1)].mean() for page in vectors]
    return Pages(ids, np.array(most), np.array(similarity))


def measure_diversity(songs: Recommender, splits: dict[str, Split]) -> None:
    """Print the cost and the gain of diversity; nDCG@10 on the split's tracks, artists on the whole catalogue too.

    Any diversity costs relevance, which does not model a listener's boredom. The choice is the largest diversity that
    costs at most `COST` on dev.
    """
    print("\n2. Diversity: ten tracks for each text\n")
    gain, rows = {name: {} for name in splits}, {}
    with tempfile.TemporaryDirectory() as scratch:
        held = {name: restricted(songs, split, Path(scratch) / name) for name, split in splits.items()}
        queries = {name: read(held[name], split.requests["text"]) for name, split in splits.items()}
        served = read(songs, splits["test"].requests["text"][:SERVED])
        for value in tqdm(DIVERSITIES, "diversity", leave=False):
            row = rows[value] = {}
            for name, split in splits.items():
                part = pages(held[name], queries[name], value)
                gain[name][value] = score(part, split)
                row[name] = f"{gain[name][value].mean():.3f}"
                row[f"{name} - 0"] = difference(gain[name][value] - gain[name][0])
            whole = pages(songs, served, value)
            row |= {"artist": mean_and_max(part.artist), "cosine": f"{part.similarity.mean():.3f}"}
            row |= {"artist (whole)": mean_and_max(whole.artist), "cosine (whole)": f"{whole.similarity.mean():.3f}"}
    cheap = [value for value, scores in gain["dev"].items() if (gain["dev"][0] - scores).mean() <= COST]
    print("artist: the most of ten by one artist, mean and max; cosine: the mean over pairs of ten; for test's texts")
    print(f"among test's tracks and, for {SERVED} of them, among the whole catalogue.\n")
    print(pd.DataFrame(rows).T.to_string())
    print(f"\nThe largest that costs at most {COST} on dev: {max(cheap)} (present: {DIVERSITY}).")


def score(answer: Pages, split: Split) -> np.ndarray:
    """Score each request's page in its order. -> nDCG@10, (requests,)."""
    ranking = {
        request: {track: float(-place) for place, track in enumerate(page)}
        for request, page in zip(split.requests["request_id"], answer.ids, strict=True)
    }
    return score_ranking(ranking, split.requests)[MAIN].to_numpy()


def measure_explain(run: Path) -> None:
    """Print the median milliseconds of an answer without and with its explanation, in turns, each for its own text.

    PyTorch and BLAS have one thread each, as in one of two kernels of the service.
    """
    print("\n3. Explain: milliseconds of an answer in process, medians\n")
    torch.set_num_threads(1)
    songs = open_run(run)  # again: ONNX Runtime takes its number of threads when it opens
    texts = iter(pd.read_parquet(run / "requests.parquet")["text"].drop_duplicates().sample(frac=1, random_state=0))
    times = []
    with threadpool_limits(1, "blas"):
        for warm in (False, True):
            answer(songs, next(texts), PAGE, warm)
        for turn in tqdm(range(PAIRS), "pairs", leave=False):
            for count in COUNTS:
                both = {}
                for why in (False, True) if turn % 2 else (True, False):
                    both[why] = milliseconds(answer, songs, next(texts), count, why)[0]
                times.append({"top_k": count, "plain": both[False], "explain": both[True]} | parts(songs, texts, count))
    table = pd.DataFrame(times).groupby("top_k").median()
    table.insert(2, "ratio", table["explain"] / table["plain"])
    print(table.to_string(float_format="{:.1f}".format))


def measure_request(run: Path) -> None:
    """Print the median milliseconds of an answer as JSON beside encoding and the nearest tracks alone, on one thread.

    The two take turns for each typed request. The time is the processor's, so that other programs count little.
    """
    print("\n4. One request: milliseconds of the processor, medians\n")
    songs, spent = open_run(run), {"answer": [], "encode and search by cosine": []}
    texts = typed_requests.load()["text"]
    ways = (
        lambda text: answer(songs, text, COUNTS[1], False).body,
        lambda text: songs.index.nearest(songs.encode([text])[0], COUNTS[1]),
    )
    for turn in range(ROUNDS):
        for text in tqdm(texts, f"round {turn}", leave=False):
            for name, way in zip(spent, ways, strict=True):
                started = time.thread_time()
                way(text)
                spent[name] += [1000 * (time.thread_time() - started)] if turn else []
    medians = {name: np.median(values) for name, values in spent.items()}
    print("; ".join(f"{name} {ms:.2f}" for name, ms in medians.items()), end="; ")
    print(f"ratio {np.divide(*medians.values()):.2f}")


def parts(songs: Recommender, texts, count: int) -> dict[str, float]:
    """Return the milliseconds of each step of an answer, for the next text."""
    reading_ms, reading = milliseconds(songs.read, next(texts))
    encoding, query = milliseconds(songs.query, reading)
    searching, tracks = milliseconds(songs.search, query, count)
    ids = [track["id"] for track in tracks]
    descriptions = songs.tracks["text"].iloc[songs.rows(ids)].tolist()
    explaining, _ = milliseconds(songs.explain, query, ids)
    words, _ = milliseconds(contributions, songs.model, descriptions, query.vector)
    first = {"of which: read": reading_ms, "query": encoding, "search": searching}
    return first | {"words": words, "moods": explaining - words}


def answer(songs: Recommender, text: str, count: int, why: bool) -> contract.Answer:
    """Answer a request as the service does."""
    return contract.recommend(songs, json.dumps({"body": {"text": text, "top_k": count, "explain": why}}))


def milliseconds(function: Callable, *args) -> tuple[float, object]:
    """Return the time that a call takes, and its result."""
    started = time.perf_counter()
    result = function(*args)
    return 1000 * (time.perf_counter() - started), result


def difference(values: np.ndarray) -> str:
    """Return a mean difference with its interval, as text."""
    bounds = interval(values)
    return f"{bounds['mean']:+.3f} [{bounds['low']:+.3f}, {bounds['high']:+.3f}]"


def mean_and_max(counts: np.ndarray) -> str:
    """Return the mean and the largest of counts, as text."""
    return f"{counts.mean():.2f}, {counts.max()}"


def main() -> None:
    """Print the three tables, and the time of one request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="the run to measure (default: %(default)s)")
    run = resolve(parser.parse_args().run)
    try:
        need(run, "tracks.parquet", "requests.parquet")
        songs = open_run(run)
    except WorkbookError as error:
        sys.exit(f"error: {error}")
    splits = {name: open_split(songs, run, name) for name in ("dev", "test")}
    measure_likes(songs, splits)
    measure_diversity(songs, splits)
    measure_explain(run)
    measure_request(run)  # on the one thread that measure_explain has set


if __name__ == "__main__":
    main()
