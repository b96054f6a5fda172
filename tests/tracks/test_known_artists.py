"""artists.csv: its form and spread, and the genres that it gives to tracks without one."""

import pandas as pd

from lib.tracks import completing, importing, known_artists
from lib.tracks.moods import GENRES, MOODS
from lib.tracks.songs import plain

ARTISTS = known_artists.ARTISTS


def test_each_line_is_complete():
    assert ARTISTS["decades"].str.fullmatch(r"\d{3}0s(;\d{3}0s)*").all()
    assert ARTISTS["country"].str.fullmatch("[A-Z]{2}").all()
    assert ARTISTS["language"].str.fullmatch("([a-z]{2}(;[a-z]{2})*)?").all()
    assert set(ARTISTS["moods"].str.split(";").explode()) <= set(MOODS)
    assert ARTISTS["moods"].str.count(";").between(0, 2).all() and ARTISTS["genres"].str.count(";").max() <= 2


def test_names_stand_once_and_neighbours_are_there():
    assert not plain(ARTISTS["name"]).where(lambda p: p != "", ARTISTS["name"]).duplicated().any()
    near = ARTISTS["near"].str.split(";").explode()
    assert set(near) - {""} <= set(ARTISTS["name"]) and (near != ARTISTS["name"].loc[near.index]).all()


def test_the_artists_are_of_all_kinds():
    assert len(ARTISTS) >= 2500 and ARTISTS["country"].nunique() >= 60
    genres = ARTISTS["genres"].str.split(";").explode()
    assert set(GENRES) - {"gamelan", "chiptune"} <= set(genres[genres.duplicated(keep=False)])
    decades = ARTISTS["decades"].str.split(";").explode().value_counts()
    assert (decades[[f"{year}s" for year in range(1930, 2030, 10)]] >= 60).all()


def test_a_track_without_a_genre_gets_that_of_its_artist(tmp_path):
    names = ["Daft Punk", "johann sebastian bach", "Nobody at All", "Miles Davis, John Coltrane"]
    rows = "".join(f'Song {i},"{name}"\n' for i, name in enumerate(names))
    (tmp_path / "c.csv").write_text("title,artist\n" + rows)
    table = importing.import_catalogue(str(tmp_path / "c.csv"), {}, {}, {}, {}, 0, 1).tracks
    tracks = completing.complete(table, ["genre"], [], ["words"], None, 1)
    assert tracks["genre"].tolist()[:3] == ["house", "baroque", ""] and "jazz" in tracks["genre"][3]
    assert tracks["text"][0].startswith("Song 0 — Daft Punk. house, ")
    own = completing.complete(table.assign(genre="polka"), ["genre"], [], ["words"], None, 1)
    assert set(own["genre"]) == {"polka"} and isinstance(own, pd.DataFrame)
