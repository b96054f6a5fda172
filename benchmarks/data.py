"""Benchmarks of the data: generate, import and check a catalogue, word its requests, compare and map its vectors."""

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from faker import Faker
from measure import Growth, Row, apart, figure, in_turn, multiply_adds, peak, seconds, times
from pyarrow import csv
from tqdm import tqdm
from umap import UMAP

from lib.core import base_models, encoder
from lib.debug import maps, similarity
from lib.quality import rules
from lib.tracks import columns, importing, listener_requests, synthetic
from lib.tracks.moods import GENRES, MOODS

SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000), (500, 1_000)
LOOPED = 5_000  # rows that the loop generates; its time a row is constant
MAPPED, COMPARED = (100_000, 200), (20_000, 200)  # vectors: in the full and in the quick form
ROUNDS = 3


def loop(n: int) -> pd.DataFrame:
    """Generate tracks as most scripts do: a Python loop over rows, with Faker and random; the columns are ours."""
    fake, chance = Faker(), random.Random(7)
    moods, genres = list(MOODS.values()), list(GENRES.values())
    rows = []
    for i in range(n):
        mood, genre = fake.random_element(moods), fake.random_element(genres)
        word, instrument = fake.random_element(mood.words["train"]), fake.random_element(genre.instruments)
        sound, vocals = fake.random_element(mood.sound), fake.random_element(mood.vocals)
        title, artist, album = fake.catch_phrase(), fake.name(), f"Live in {fake.city()}"
        description = f"A {word} {genre.name} song with {instrument}, {sound} and {vocals}. {fake.sentence()}"
        near = {"energy": 0.5 + 0.4 * mood.arousal, "valence": 0.5 + 0.4 * mood.valence, "acousticness": genre.acoustic}
        rows.append(
            {
                **{"id": f"t{i:07d}", "title": title, "artist": artist, "album": album, "genre": genre.name},
                **{"language": "en", "mood": mood.name, "mood2": "", "mood_weight": 1.0, "mood_source": "made"},
                **{"mood_confidence": 1.0, "description": description, "tags": f"{word}, {genre.name}, {instrument}"},
                **{k: round(min(1, max(0, chance.gauss(near.get(k, 0.4), 0.1))), 3) for k in columns.FEATURES},
                **{"tempo": round(chance.uniform(*genre.tempo), 1), "loudness": round(chance.uniform(-30, 0), 2)},
                **{"key": fake.random_int(0, 11), "mode": fake.random_int(0, 1), "explicit": chance.random() < 0.1},
                **{"duration_ms": int(60_000 * genre.minutes * chance.lognormvariate(0, 0.3))},
                **{"popularity": fake.random_int(0, 100), "release_date": str(fake.date_between("-40y"))},
                **{"text": f"{title} — {artist} ({album}). {description}"},
                **{"plays": None, "song": f"t{i:07d}"},
                "split": fake.random_element(("train",) * 7 + ("dev",) + ("test",) * 2),
            }
        )
    return pd.DataFrame(rows)[list(columns.COLUMNS)]


def generate(n: int, _) -> dict:
    """Compare the generator with the loop's rate."""
    some = min(n, LOOPED)
    return beside(partial(synthetic.generate, n, 7), partial(loop, some), scale=n / some)


def word_requests(n: int, _) -> dict:
    """Time 4,000 requests over a catalogue, judged against all its held-out tracks."""
    table = synthetic.generate(n, 7)
    return beside(lambda: listener_requests.generate(table, 4_000, 7))


def check(n: int, _) -> dict:
    """Compare all quality rules with the four checks of most pipelines."""
    table = synthetic.generate(n, 7)
    requests = listener_requests.generate(table, 4_000, 7)
    return beside(lambda: rules.check(table, requests, ["calm"], rules.Limits()), lambda: plain_checks(table))


def plain_checks(table: pd.DataFrame) -> list:
    """Find missing values, values out of range, unknown moods and repeated ids, in pandas."""
    shares = table[list(columns.FEATURES)]
    return [
        table.isna().sum(),
        ((shares < 0) | (shares > 1)).sum(),
        table["mood"].isin(MOODS),
        table["id"].duplicated(),
    ]


def import_csv(n: int, folder: str) -> dict:
    """Compare the import of a CSV with pandas.read_csv; pyarrow's reader is the fastest we know."""
    file = f"{folder}/{n}.csv"
    apart(write_csv, n, file)  # apart: this process's memory is measured
    ours = partial(importing.import_catalogue, file, {}, {}, {}, {}, 0, 7)
    return beside(ours, partial(pd.read_csv, file)) | {"pyarrow": seconds(csv.read_csv, file)}


def import_sample(n: int, folder: str) -> dict:
    """Time an import that keeps a tenth: it holds only the kept rows in memory."""
    file = f"{folder}/{n}.csv"
    apart(write_csv, n, file)
    return beside(partial(importing.import_catalogue, file, {}, {}, {}, {}, n // 10, 7))


def write_csv(n: int, file: str) -> None:
    """Write a catalogue as a file from elsewhere."""
    synthetic.generate(n, 7).drop(columns=["text", "split"]).to_csv(file, index=False)


def embeddings(n: int) -> np.ndarray:
    """Return unit vectors with neighbours, (n, 384): those of at most 1,000 tracks, jittered."""
    tracks = synthetic.generate(min(n, 1_000), 7)
    vectors = encoder.embed(encoder.load(base_models.find("all-MiniLM-L6-v2")), tracks["text"])
    chance = np.random.default_rng(7)
    near = vectors[chance.integers(0, len(vectors), n)] + chance.normal(0, 0.03, (n, 384)).astype(np.float32)
    return near / np.linalg.norm(near, axis=1, keepdims=True)


def map_space(n: int) -> dict:
    """Compare the map of many vectors with UMAP fitted on all of them, once: that takes minutes."""
    vectors = embeddings(n)
    maps.project(vectors[: similarity.EXACT + 100], 7)  # compiles most of UMAP before it is timed
    whole = UMAP(n_neighbors=15, metric="cosine", random_state=7, n_jobs=1)
    return beside(partial(maps.project, vectors, 7), partial(whole.fit_transform, vectors), rounds=0)


def all_pairs(n: int) -> dict:
    """Compare the histograms of all pairs with one matrix product and np.histogram."""
    vectors, moods = embeddings(n), pd.Series(list(MOODS) * (n // len(MOODS) + 1)).head(n)
    whole = lambda: np.histogram(vectors @ vectors.T, similarity.BINS, (-1, 1))  # noqa: E731
    result = beside(partial(similarity.all_pairs, vectors, moods), whole)
    return result | {"limit": vectors.size * n / 2 / multiply_adds() / result["seconds"]}


def beside(ours: Callable, baseline: Callable | None = None, scale: float = 1, rounds: int = ROUNDS) -> dict:
    """Return our seconds, the peak of memory in GiB with the data, the baseline's seconds and the ratio to ours.

    Args:
        scale: our work divided by the baseline's.
        rounds: pairs in turn, after ours has run alone; 0 compares that run with one of the baseline.
    """
    first = seconds(ours)
    result = {"peak": peak()}
    ways = {"ours": ours} | ({"baseline": baseline} if baseline else {})
    spent = in_turn(ways, rounds) if rounds else {"ours": [first], "baseline": [seconds(baseline)]}
    result["seconds"] = statistics.median(spent["ours"])
    if baseline:
        result["baseline"] = scale * statistics.median(spent["baseline"])
        result["ratio"] = scale * times(spent["ours"], spent["baseline"])
    return result


# function, name, baseline, the bar at a million tracks
GROWING = (
    (generate, "generate tracks", f"a row loop with Faker, {LOOPED:,} rows scaled up", "60 s, 3 GiB; 20 ×"),
    (word_requests, "word 4,000 requests over", "", ""),
    (check, "check by 38 rules", "four checks in pandas", "15 s"),
    (import_csv, "import CSV", "pandas.read_csv alone", "20 s, 1.5 GiB"),
    (import_sample, "import CSV, keep a tenth", "", "memory of what is kept"),
)


def measure(_run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Run each benchmark and size in a process of its own, which has its own peak of memory."""
    sizes = QUICK if quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        for function, name, baseline, bar in tqdm(GROWING, "data", leave=False):
            results = {n: apart(function, n, folder) for n in sizes}
            yield Growth(f"{name}: seconds", "tracks", {n: result["seconds"] for n, result in results.items()})
            yield row(f"{name} ({max(sizes):,} tracks)", results[max(sizes)], baseline, bar)
    for function, n, name, baseline in (
        (all_pairs, COMPARED[quick], "compare all against all", "one product, np.histogram"),
        (map_space, MAPPED[quick], "map (UMAP)", "UMAP fitted on all, once"),
    ):
        yield row(f"{name} ({n:,} × 384)", apart(function, n), baseline)


def row(name: str, result: dict, baseline: str, bar: str = "") -> Row:
    """Return a row of the table: seconds and memory."""
    limit = f"{result['limit']:.0%} of multiply–adds" if "limit" in result else ""
    if "pyarrow" in result:
        limit = f"pyarrow, once: {figure(result['pyarrow'])} s"
    other = f"{figure(result['baseline'])} s: {baseline}" if baseline else ""
    return Row(name, f"{figure(result['seconds'])} s, {result['peak']:.2f} GiB", other, result.get("ratio"), limit, bar)
