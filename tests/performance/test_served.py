"""The served search beside its parts, on a small run."""

import pandas as pd
import pytest

from lib.core import encoder
from lib.performance import pictures, served, typed_requests
from lib.search import recommender


@pytest.mark.slow
def test_the_served_search_is_measured_beside_its_parts(small_run, monkeypatch):
    typed = typed_requests.load()[::3]
    monkeypatch.setattr(typed_requests, "load", lambda: typed)
    monkeypatch.setattr(served, "NAMES", 30)
    songs, tracks = recommender.open_run(small_run), pd.read_parquet(small_run / "tracks.parquet")
    asks = served.systems(songs, encoder.load(small_run / "model"), tracks)
    table = served.compare(asks, tracks)
    assert list(table.columns) == ["requests", "chance", "served", "tuned", "base", "bm25", "low", "high"]
    assert table.loc["artist", "served"] >= 0.9 and table.loc["all", "served"] > table.loc["all", "tuned"] + 0.1
    assert table.notna().all(axis=None) and pictures.served(table).axes
    bands = served.by_band(songs, tracks)
    assert bands["tracks"].sum() > 100 and bands["fit"].between(0, 1).all()


def test_a_catalogue_of_names_is_measured_by_names_alone(small_run, monkeypatch):
    monkeypatch.setattr(served, "NAMES", 30)
    songs, tracks = recommender.open_run(small_run), pd.read_parquet(small_run / "tracks.parquet")
    bare = tracks.assign(genre="", mood="", mood2="", language="", release_date="", tempo=None, instrumentalness=None)
    bare = bare.assign(explicit=None, description="", tags="")
    table = served.compare({"served": lambda text, k, history=(): songs.recommend(text, k)["id"]}, bare)
    assert list(table.index) == ["artist", "artist misspelt", "title", "title misspelt"]
    assert served.by_band(songs, bare).empty and pictures.served(table).axes
