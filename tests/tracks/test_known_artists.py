"""artists.csv: its form and spread, and the genres that it gives to tracks without one."""

import pandas as pd
import pytest

from lib.core.errors import WorkbookError
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


def test_a_nickname_is_of_one_artist_and_no_other_name():
    nicknames = plain(known_artists.ARTISTS["nicknames"].str.split(";").explode())
    nicknames = nicknames[nicknames != ""]
    assert len(nicknames) > 200 and nicknames.is_unique
    assert not set(nicknames) & set(plain(known_artists.ARTISTS["name"]))


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


def test_a_track_without_a_language_gets_that_of_its_artist(tmp_path):
    names = ["Daft Punk", "Bad Bunny", "Bob Marley", "Nobody at All"]
    (tmp_path / "c.csv").write_text("title,artist\n" + "".join(f"Song {i},{name}\n" for i, name in enumerate(names)))
    table = importing.import_catalogue(str(tmp_path / "c.csv"), {}, {}, {}, {}, 0, 1).tracks
    tracks = completing.complete(table, ["genre"], [], ["words"], None, 1)
    assert tracks["language"].tolist()[1:] == ["es", "en", ""]
    assert completing.borrowed(table, tracks).startswith("Of 4 tracks, the genre of 3 and the language of ")
    own = completing.complete(table.assign(language="sw"), ["genre"], [], ["words"], None, 1)
    assert set(own["language"]) == {"sw"}


def test_artists_of_a_user_precede_ours(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffName,genres,near\ndaft punk, polka ; ska ,Nobody\nNobody,dub,\n", "utf-8")
    known = known_artists.load(str(tmp_path / "a.csv"))
    assert len(known) == len(ARTISTS) + 1 and list(known) == list(ARTISTS)
    duo = known.set_index("name").loc["daft punk"]
    assert duo["genres"] == "polka;ska" and duo["near"] == "Nobody" and duo["country"] == "FR"
    assert known_artists.facts(pd.Series(["Nobody"]), known)["genres"].tolist() == ["dub"]
    assert known_artists.load("") is ARTISTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name;genres\nx;y\n", "line 1 has no column `name`"),
        (b"name,genre\nx,y\n", "did you mean 'genres'"),
        (b"name,genres\nx,y\nx,y,z\n", "line 3 has more cells"),
        (b"name,genres\nx\n", "line 2 has fewer cells"),
        (b"name,decades\nx,1990s;80s\n", "line 2: decades is '80s'. Write it like 1990s"),
        (b"name,country\nx,br\n", "line 2: country is 'br'"),
        (b"name,language\nx,por\n", "line 2: language is 'por'"),
        (b"name,genres\n ,y\n", "line 2: the name is empty"),
        (b"name,genres\nNew,y\nNEW,z\n", "line 3: NEW is in an earlier line"),
        (b"name\nCaf\xe9\n", "is not UTF-8"),
        (b"name,genres\n", "has no artist"),
        (b'name,genres\n"x,y\n', "cannot be read as CSV"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_wrong_file_of_artists_is_refused_with_its_line(tmp_path, content, message):
    file = tmp_path / "a.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WorkbookError, match=r"a\.csv") as error:
        known_artists.load(str(file))
    assert message in str(error.value)
