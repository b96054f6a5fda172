"""Which of a file's columns is which of ours: known exports, names in the world, units by values, lists, messages."""

from pathlib import Path

import pandas as pd
import pytest

from lib.core.errors import WorkbookError
from lib.tracks import columns as tracks_columns
from lib.tracks import mapping, shapes

FILE = Path("my.csv")


def table(**columns) -> pd.DataFrame:
    """Return a table of texts whose index holds the numbers of the rows, as the readers give it."""
    frame = pd.DataFrame(columns).astype("str")
    return frame.set_axis(range(1, len(frame) + 1))


def match(frame: pd.DataFrame, columns=None, units=None) -> mapping.Mapping:
    return mapping.match(list(frame.columns), frame, columns or {}, units or {}, FILE)


def names(frame: pd.DataFrame, **how) -> dict[str, str]:
    """Return our columns with the file's names."""
    return {ours: column.name for ours, column in match(frame, **how).columns.items()}


def header(text: str, separator: str = ",") -> dict[str, str]:
    """Return the mapping of a file that has only a header and one empty row."""
    found = text.split(separator)
    return names(pd.DataFrame([[""] * len(found)], columns=found).astype("str"))


def message(frame: pd.DataFrame, **how) -> str:
    with pytest.raises(WorkbookError) as error:
        match(frame, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_our_columns_are_those_of_the_tracks():
    assert set(mapping.OURS) - set(tracks_columns.COLUMNS) <= {"plays"}
    assert set(mapping.OURS) >= {*tracks_columns.NUMBERS, "id", "title", "mood2", "explicit", "release_date"}


EXPORTS = {
    "Exportify": "Track URI,Track Name,Album Name,Artist Name(s),Release Date,Duration (ms),Popularity,Explicit,"
    "Added By,Added At,Genres,Record Label,Danceability,Energy,Key,Loudness,Mode,Speechiness,Acousticness,"
    "Instrumentalness,Liveness,Valence,Tempo,Time Signature",
    "Exportify (older)": "Spotify URI,Track Name,Artist Name,Album Name,Disc Number,Track Number,Track Duration (ms),"
    "Added By,Added At",
    "Spotify Web API": "id,name,artists.id,artists.name,album.name,album.release_date,duration_ms,popularity,explicit",
    "Spotify Web API (items)": "added_at,track.id,track.name,track.artists.name,track.album.name,track.duration_ms",
    "Spotify account data": "endTime,artistName,trackName,msPlayed",
    "Spotify extended streaming history": "ts,ms_played,master_metadata_track_name,master_metadata_album_artist_name,"
    "master_metadata_album_album_name,spotify_track_uri",
    "Kaggle, Spotify 1921 to 2020": "valence,year,acousticness,artists,danceability,duration_ms,energy,explicit,id,"
    "instrumentalness,key,liveness,loudness,mode,name,popularity,release_date,speechiness,tempo",
    "Kaggle, Spotify 114,000": "Unnamed: 0,track_id,artists,album_name,track_name,popularity,duration_ms,explicit,"
    "danceability,energy,key,loudness,mode,speechiness,tempo,time_signature,track_genre",
    "Kaggle, 30,000 Spotify songs": "track_id,track_name,track_artist,track_popularity,track_album_id,"
    "track_album_name,track_album_release_date,playlist_name,playlist_genre,playlist_subgenre,danceability,energy,duration_ms",
    "Kaggle, Spotify 1.2 million": "id,name,album,album_id,artists,artist_ids,track_number,energy,year",
    "Kaggle, top hits of the 2000s": "artist,song,duration_ms,explicit,year,popularity,danceability,energy,genre",
    "Last.fm scrobbles": "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid",
    "FMA": "track_id,album.title,artist.name,track.duration,track.genre_top,track.listens,track.title",
    "FMA (raw)": "track_id,album_title,artist_name,tags,track_duration,track_genres,track_listens,track_title",
    "MTG-Jamendo": "TRACK_ID,ARTIST_ID,ALBUM_ID,PATH,DURATION,TAGS",
    "MTG-Jamendo (names)": "TRACK_ID,ARTIST_ID,ALBUM_ID,TRACK_NAME,ARTIST_NAME,ALBUM_NAME,RELEASEDATE,URL",
    "Discogs collection": "Catalog#,Artist,Title,Label,Format,Rating,Released,release_id,CollectionFolder,Date Added",
    "iTunes library": "Track ID,Name,Artist,Album,Genre,Total Time,Year,BPM,Play Count,Rating",
    "YouTube Music library": "Video ID,Song Title,Album Title,Artist Name 1",
    "Rekordbox": "TrackID,Name,Artist,Album,Genre,TotalTime,Year,AverageBpm,Tonality,PlayCount,Rating,Comments",
    "Rekordbox playlist": "#,Artwork,Track Title,Artist,Album,Genre,BPM,Rating,Time,Key,Date Added",
    "beets": "id,title,artist,album,genre,year,bpm,length,initial_key,comments,mb_trackid",
    "NetEase": "id,name,ar.id,ar.name,al.name,dt",
    "Karaoke list": "Id;Title;Artist;Year;Duo;Explicit;Date Added;Styles;Languages",
    "YouTube playlist": "kind,id,snippet.title,snippet.resourceId.videoId,snippet.videoOwnerChannelTitle",
    "iTunes Search API": "wrapperType,trackId,artistName,collectionName,trackName,trackTimeMillis,releaseDate",
    "Melon": "song_gn_dtl_gnr_basket,issue_date,album_name,song_name,artist_name_basket,id",
    "Spotify playlists": "track.trackName,track.artistName,track.albumName,track.trackUri,episode,localTrack,addedDate",
    "Kaggle, Spotify and YouTube": "Artist,Track,Album,Album_type,Uri,Url_youtube,Title,Views,Description,Stream",
    "Deezer listening history": "Song Title,Artist,ISRC,Album Title,IP Address,Listening Time,Platform Name,Date",
    "Jamendo API": "id,name,duration,artist_id,artist_name,album_name,releasedate,musicinfo.tags.genres",
    "AcousticBrainz": "metadata.tags.title,metadata.tags.artist,rhythm.bpm,tonal.key_key",
    "MusicCaps": "ytid,start_s,end_s,aspect_list,caption",
}


@pytest.mark.parametrize("name", EXPORTS)
def test_known_exports_are_recognised_by_their_header(name):
    found = EXPORTS[name].split(";" if ";" in EXPORTS[name] else ",")
    result = match(pd.DataFrame([["A"] * len(found)], columns=found).astype("str"))
    assert result.shape == name
    assert {"title", "artist"} <= set(result.columns) or {"description", "tags"} & set(result.columns)


def test_plays_are_known_and_their_times_are_no_releases():
    scrobbles = "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid"
    frame = table(**{name: ["A"] for name in scrobbles.split(",")})
    assert match(frame).plays and names(frame) == {"title": "track", "artist": "artist", "album": "album"}
    account = match(table(endTime=["2023-01-01 10:00"], artistName=["A"], trackName=["B"], msPlayed=["1234"]))
    assert account.plays and set(account.columns) == {"title", "artist"}
    date = match(table(title=["A", "B"], artist=["C", "D"], date=["31 Dec 2020 22:10", "2020-12-31T10:15:00"]))
    assert "release_date" not in date.columns and "times of a day" in date.warnings[0]
    radio = match(table(title=["A", "B", "C"], time=["09:15", "22:10", "13:05"]))
    assert "duration_ms" not in radio.columns and "times of a day" in radio.warnings[0]
    assert "duration_ms" in match(table(title=["A", "B", "C"], time=["3:15", "4:10", "6:05"])).columns
    midnight = match(table(title=["A"], date=["2020-12-31 00:00:00"]))
    assert midnight.columns["release_date"].name == "date"


def test_files_without_a_header_are_recognised_by_their_values():
    lastfm = match(
        table(a=["Low"] * 2, b=["Hey What"] * 2, c=["Days"] * 2, d=["03 Jan 2022 10:11", "04 Jan 2022 10:11"])
    )
    assert lastfm.plays and {o: c.name for o, c in lastfm.columns.items()} == {
        "title": "c",
        "artist": "a",
        "album": "b",
    }
    row = ["1", "b9ad642e-b012-41c7-b72a-42cf4911f9ff", "Hurt", "5", "218000", "", "0", "2020-01-01 10:00:00+00", "f"]
    recordings = pd.DataFrame([row], columns=[f"c{i}" for i in range(9)]).astype("str")
    assert names(recordings) == {"id": "c1", "title": "c2", "duration_ms": "c4"}


def test_a_header_of_usual_names_needs_its_values():
    own = match(table(artist=["A"], album=["B"], name=["C"], date=["1999-02-03"]))
    assert not own.shape and not own.plays and own.columns["release_date"].name == "date"
    scrobbles = match(table(artist=["A"], album=["B"], name=["C"], date=["01 Jan 2021 10:11"]))
    assert scrobbles.plays and "release_date" not in scrobbles.columns
    numbers = match(table(artist=["A"], album=["B"], track=["1"], title=["C"], uri=["u"]))
    assert numbers.columns["title"].name == "title" and not numbers.warnings


def test_names_of_the_world():
    german = "Titel;Künstler;Album;Jahr;Genre;Energie;Dauer"
    assert header(german, ";") == {
        **{"title": "Titel", "artist": "Künstler", "album": "Album", "genre": "Genre"},
        **{"energy": "Energie", "duration_ms": "Dauer", "release_date": "Jahr"},
    }
    assert header("Titre,Artiste,Durée,Année") == {
        **{"title": "Titre", "artist": "Artiste", "duration_ms": "Durée", "release_date": "Année"}
    }
    for text in (
        "Название,Исполнитель,Жанр",
        "曲名,アーティスト,ジャンル",
        "歌名,歌手,流派",
        "Título,Intérprete,Género",
    ):
        assert header(text) == dict(zip(("title", "artist", "genre"), text.split(","), strict=True))
    assert header("Song Name,Artist Names,Length (s),Energy %,item.album.name") == {
        **{"title": "Song Name", "artist": "Artist Names", "album": "item.album.name"},
        **{"energy": "Energy %", "duration_ms": "Length (s)"},
    }


def test_features_within_an_object():
    found = header("name,audio_features.energy,features.valence,album.year")
    assert set(found) == {"title", "energy", "valence", "release_date"}


def test_comments_are_a_description_only_if_they_are_prose():
    beets = {"title": ["A", "B"], "artist": ["C", "D"], "album": ["E", "F"], "length": ["200", "210"]}
    comments = ["a slow song for rain", "loud and fast, of course"]
    prose = match(table(**beets, mb_trackid=["x", "y"], comments=comments))
    assert prose.shape == "beets" and prose.columns["description"].name == "comments"
    for comment in ("8A - Energy 7", "Visit http://band.example.com for more", "0000A1B2 0000C3D4 00001234", "good"):
        codes = {"TrackID": ["1"], "Name": ["A"], "Artist": ["B"], "TotalTime": ["200"], "AverageBpm": ["120"]}
        result = match(table(**codes, Comments=[comment]))
        assert "description" not in result.columns and "describes no music" in result.warnings[0]


def test_a_column_without_values_needs_no_warning():
    assert not match(table(title=["A"], artist=["B"], comments=[""], mood=[""])).warnings


def test_web_addresses_are_no_description():
    result = match(table(title=["A"], artist=["B"], description=["Subscribe: https://example.com"]))
    assert "description" not in result.columns and "describes no music" in result.warnings[0]


def test_ids_that_several_songs_share_are_no_ids():
    for ids in (["0", "0", "0"], ["3.1E+15", "3.1E+15", "3.2E+15"], ["1", "2", "1"]):
        frame = table(id=ids, title=["A", "B", "C"])
        result = match(frame)
        assert "id" not in result.columns and "several songs" in result.warnings[0]
        assert names(frame, columns={"id": "id"})["id"] == "id"
    assert names(table(id=["1", "1"], title=["A", "A"]))["id"] == "id"  # a play each


def test_albums_are_tracks_where_a_file_has_no_songs():
    result = match(table(release_name=["A", "B"], artist_name=["C", "D"]))
    assert result.columns["title"].name == "release_name" and "album" not in result.columns
    assert "names no songs" in result.warnings[0]


def test_keys_from_1_to_12_do_not_fit():
    assert "key" not in names(table(title=["A"] * 12, key=[str(n) for n in range(1, 13)]))


def test_a_number_is_no_artist_credit():
    result = match(table(gid=["a", "b"], name=["A", "B"], artist_credit=["7", "9"], length=["200000", "210000"]))
    assert result.shape == "MusicBrainz" and "artist" not in result.columns


def test_the_best_name_is_taken_and_the_other_is_unused():
    result = match(table(name=["A"], title=["B"], song_title=["C"], artist=["D"], performer=["E"]))
    assert result.columns["title"].name == "title" and result.columns["artist"].name == "artist"
    assert result.unused == ["name", "song_title", "performer"]
    assert result.columns["title"].why == "the same name"
    numbers = match(table(track=["1", "2"], name=["A", "B"], release=["1999", "2001"]))
    assert {o: c.name for o, c in numbers.columns.items()} == {"title": "name", "release_date": "release"}


def test_lyrics_are_no_description():
    assert "description" not in header("artist,song,link,text")


def units(frame: pd.DataFrame, **how) -> dict[str, str]:
    return {ours: column.unit for ours, column in match(frame, **how).columns.items() if column.unit}


def test_units_by_name_and_by_values():
    assert units(table(title=["A", "B"], energy=["0.5", "1"], valence=["80", "3"], liveness=["0", "0"])) == {
        **{"energy": "0-1", "valence": "0-100", "liveness": "0-100"}  # one of them is in percent: so are the unclear
    }
    assert units(table(title=["A"], energy_percent=["1"])) == {"energy": "0-100"}
    assert names(table(title=["A"], **{"Loudness..dB..": ["-5"]}))["loudness"] == "Loudness..dB.."  # as R writes it
    assert units(table(title=["A", "B"], energy=["31%", "1%"])) == {"energy": "0-100"}
    for values, unit in (
        (["215000", "180000"], "ms"),
        (["215", "180"], "s"),
        (["3.5", "4"], "min"),
        (["3:45", "4:00"], "m:ss"),
    ):
        assert units(table(title=["A", "B"], length=values)) == {"duration_ms": unit}
    assert units(table(title=["A"], length_s=["15000"])) == {"duration_ms": "s"}
    assert units(table(title=["A", "B"], popularity=["0.5", "1"])) == {"popularity": "0-1"}
    assert units(table(title=["A", "B"], popularity=["0", "1"])) == {"popularity": "0-100"}
    assert units(table(title=["A"], energy=["7"]), columns={"energy": "energy"}, units={"energy": "0-10"}) == {
        "energy": "0-10"
    }


def test_a_clock_among_milliseconds_does_not_change_the_unit():
    assert units(table(title=["A"] * 3, length=["215000", "3:45", "180000"])) == {"duration_ms": "ms"}


def test_one_outlier_does_not_change_the_unit():
    values = [f"0.{i:03}" for i in range(1, 100)] + ["7.3"]
    assert units(table(title=["A"] * 100, energy=values)) == {"energy": "0-1"}


def test_decimal_commas_are_found_in_each_column():
    result = match(
        table(title=["A", "B"], energy=["0,31", "0,310"], tempo=["120,031", "99,5"], plays=["1,234,567", "12"])
    )
    assert [result.columns[ours].decimal for ours in ("energy", "tempo", "plays")] == [",", ",", "."]


def test_a_column_that_does_not_fit_is_left_with_a_warning():
    result = match(table(title=["A"] * 3, valence=["-2.1", "1.9", "0.3"]))
    assert "valence" not in result.columns and "valence" in result.unused
    assert "valence: the values of 'valence' (-2.1 to 1.9) do not fit 0 to 1" in result.warnings[0]
    assert "columns: {valence: valence}" in result.warnings[0]
    years = match(table(title=["A"] * 3, year=["2020-05-01", "199", "1999"]))
    assert "the values of 'year' ('199') do not fit dates" in years.warnings[0]
    scale = match(table(title=["A"] * 3, valence=["1", "5.5", "9"]))  # 1 to 9 is no percentage
    assert "valence" not in scale.columns and "0-10" in scale.warnings[0]
    loud = match(table(title=["A"] * 3, loudness=["0.3", "0.7", "0.9"]))
    assert "loudness" not in loud.columns and "decibels" in loud.warnings[0]
    labels = match(table(title=["A"] * 3, mood=["0", "1", "3"], genre=["rock", "7", "pop"]))
    assert "mood" not in labels.columns and "genre" in labels.columns and "holds numbers" in labels.warnings[0]
    mixed = match(table(title=["A"] * 20, energy=["0.5"] * 19 + ["abc"]))
    assert "energy" in mixed.columns and not mixed.warnings


def test_a_named_column_that_does_not_fit_is_an_error():
    text = message(table(title=["A"] * 3, x=["0.2", "loud", "soft"]), columns={"energy": "x"})
    assert "'loud' in row 2" in text and "0-100" in text and 'columns: {energy: ""}' in text
    half = match(table(title=["A"] * 3, x=["0.2", "0.3", "soft"]), columns={"energy": "x"})
    assert half.columns["energy"].why == "named in `columns`"
    assert "'soon' in row 1" in message(table(title=["A"], x=["soon"]), columns={"release_date": "x"})


def test_users_mistakes():
    frame = table(track_name=["A"], artist=["B"])
    assert "did you mean 'title'" in message(frame, columns={"titel": "track_name"})
    text = message(frame, columns={"title": "track_nam"})
    assert "my.csv" in text and "did you mean 'track_name'" in text and "Its columns: track_name, artist" in text
    assert "units: energy: '0-5' is unknown" in message(frame, units={"energy": "0-5"})
    assert "Its columns: fo o, bar." in message(table(**{"fo\no": ["A"], "bar": ["B"]}))
    text = message(table(foo=["A"], bar=["B"]))
    assert "foo, bar" in text and "columns: {title: foo}" in text
    many = table(**{f"c{i}": ["1"] for i in range(30)})
    assert "c19 and 10 more" in message(many)


def test_the_user_has_the_last_word():
    frame = table(title=["A"], name=["B"], mood=["sad"])
    result = match(frame, columns={"title": "name", "mood": ""})
    assert {o: c.name for o, c in result.columns.items()} == {"title": "name"} and result.unused == ["title", "mood"]


def test_a_parent_means_its_names():
    frame = table(**{"name": ["A"], "artists.id": ["1"], "artists.name": ['["B"]'], "album.label": ["L"]})
    assert names(frame, columns={"artist": "artists"})["artist"] == "artists.name"
    assert names(frame, columns={"album": "album"})["album"] == "album.label"


def test_doubled_columns_are_refused_if_they_are_read():
    frame = pd.DataFrame([["A", "B", "C", "1", "2"]], columns=["title", "artist", "title", "x", "x"]).astype("str")
    assert "the column 'title' 2 times (columns 1 and 3)" in message(frame)
    other = pd.DataFrame([["A", "1", "2"]], columns=["title", "x", "x"]).astype("str")
    assert names(other) == {"title": "title"}


def separator(ours: str, *cells: str) -> str:
    return match(table(title=["A"] * len(cells), **{ours: cells})).columns[ours].separator


def test_separators_are_those_that_the_column_shows():
    assert separator("genre", "rock, pop", "pop", "jazz") == ","
    assert separator("genre", "R&B/Soul", "Hip-Hop / Rap", "Rock", "Rap") == ""
    assert separator("genre", "Folk, World, & Country", "Rock", "Folk") == ""
    assert separator("genre", "rock;pop") == ";"
    assert separator("genre", '["rock"]', '["pop", "folk"]') == "list"
    assert separator("mood", "happy/energetic", "happy, energetic", "happy; energetic", "['happy']") == ";,/"
    assert separator("mood", "froh/munter", "froh", "munter") == "/"
    assert separator("mood", "happy & calm", "sad") == "&" and separator("genre", "rock & pop", "pop", "rock") == ""
    assert separator("mood", "froh/munter", "ernst") == ""
    assert separator("artist", "AC/DC", "Earth, Wind & Fire") == ""
    assert separator("artist", "Uli; Ana", "AC/DC") == ";"
    assert separator("tags", "soft, slow", "piano") == ","


def test_the_names_of_keys_tell_the_mode():
    result = match(table(title=["A", "B"], key=["Am", "C#"]))
    assert result.columns["mode"].name == "key" and result.columns["mode"].why == "the names of the keys"
    assert "mode" not in match(table(title=["A", "B"], key=["A", "C#"])).columns


def test_odd_durations_are_told():
    result = match(table(title=["A", "B"], duration_ms=["215", "180"]))
    assert result.columns["duration_ms"].unit == "ms" and "units: {duration_ms: s}" in result.warnings[0]


def test_every_shape_names_only_our_columns_and_units():
    for shape in shapes.SHAPES:
        assert set(shape.columns) <= set(mapping.OURS), shape.name
        assert all(unit in mapping.UNITS[ours] for ours, unit in shape.units.items()), shape.name
        assert bool(shape.header) != bool(shape.count), shape.name
    assert set(shapes.NAMES) == set(mapping.OURS)
